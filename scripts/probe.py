"""Which answers a checkpoint brings up after a name, after some words of the line, after the question.

    python scripts/probe.py --config configs/wiki/probe.yaml

Settings are read from the file, then from the command line, which wins; --help lists them all.
"""

from birthgpt.commands.command_line import run_script
from birthgpt.commands.probe import probe
from birthgpt.training.arguments import ProbeArguments
from birthgpt.utils.tables import text_table

if __name__ == "__main__":
    rows = run_script(probe, (ProbeArguments,), __doc__)
    if rows is not None:
        print(text_table(rows, list(rows[0])))
