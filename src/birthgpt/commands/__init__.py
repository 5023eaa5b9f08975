"""The commands, one per file: each has settings and a function that takes them and returns a result."""
