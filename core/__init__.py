"""Records, errors, configuration, hashing, files, workspace paths, progress. Imports nothing else of tilth."""
