"""Tasks for lm-evaluation-harness; `--include_path` takes this folder (docs/sharing.md)."""

from pathlib import Path

TASKS = str(Path(__file__).parent)
"""The folder of the tasks."""
