"""Examples and a model in, a checkpoint out."""
