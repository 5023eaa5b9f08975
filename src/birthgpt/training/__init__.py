"""Training: from examples and a model to a checkpoint."""
