"""Set the metrics of several evaluations side by side in one table.

    python scripts/compare.py --metrics_files runs/a/metrics.json runs/b/metrics.json

Settings are read from --config FILE.yaml, then from the command line, which wins; --help lists them all.
"""

from birthgpt.commands.command_line import run_script
from birthgpt.commands.compare import ComparisonArguments, compare

if __name__ == "__main__":
    run_script(compare, (ComparisonArguments,), __doc__, several_processes=False)
