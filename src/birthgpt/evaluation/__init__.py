"""Evaluation of checkpoints on questions: answers, accuracy, recall@k, baselines and ensembles."""
