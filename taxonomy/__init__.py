"""The taxonomy in git: reading leaves and their documents, what changed, what is wrong, and adding to it."""
