"""Let several checkpoints answer as one; with --label_names, also write questions for a single model.

    python scripts/ensemble.py --config configs/wiki/ensemble.yaml

Settings come from the file, then from the command line, which wins; --help lists all of them.
"""

from birthgpt.commands.ensemble import COMMAND

if __name__ == "__main__":
    COMMAND()
