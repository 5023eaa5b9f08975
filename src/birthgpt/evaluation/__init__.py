"""Checkpoint and questions → answers, figures, tables: answering, accuracy, baselines, report."""
