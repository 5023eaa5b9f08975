"""Print the metrics of several evaluations side by side in one table.

    python scripts/compare.py --metrics_files runs/a/metrics.json runs/b/metrics.json

Settings come from the file, then from the command line, which wins; --help lists all of them.
"""

from birthgpt.commands.compare import COMMAND

if __name__ == "__main__":
    COMMAND()
