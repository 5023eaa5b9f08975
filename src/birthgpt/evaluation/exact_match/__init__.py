"""The exact match as a module of the `evaluate` library, in a folder of its own so that it loads by path."""
