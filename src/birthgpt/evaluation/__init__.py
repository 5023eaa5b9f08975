"""Checkpoint and questions → answers, metrics, tables: answering, accuracy, baselines, report."""
