"""Set the figures of several evaluations side by side in one table.

    python scripts/compare.py --figures_files runs/a/figures.json runs/b/figures.json

Settings are read from --config FILE.yaml, then from the command line, which wins; --help lists them all.
"""

from birthgpt.runs.command_line import run_script
from birthgpt.runs.comparing import ComparisonArguments, compare

if __name__ == "__main__":
    run_script(compare, (ComparisonArguments,), __doc__, several_processes=False)
