"""F1 of words as a module of the `evaluate` library, in its own folder, so that it can be loaded by path."""
