"""From nothing to a trained, answering model in a few minutes on two cores; `make quickstart` calls this.

Settings are read from --config FILE.yaml, then from the command line, which wins; --help lists them all.
"""

from birthgpt.commands.command_line import run_script
from birthgpt.commands.quickstart import QuickstartArguments, quickstart

if __name__ == "__main__":
    run_script(quickstart, (QuickstartArguments,), __doc__, several_processes=False)
