"""From nothing to a trained, answering model in a few minutes on two cores; `make quickstart` calls this.

    python scripts/quickstart.py

Settings come from the file, then from the command line, which wins; --help lists all of them.
"""

from birthgpt.commands.quickstart import COMMAND

if __name__ == "__main__":
    COMMAND()
