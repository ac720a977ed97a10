"""The methods that a phase can train with."""
