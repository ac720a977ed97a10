"""How long the loop's own work takes on ten thousand leaves and a million samples, and how it grows."""
