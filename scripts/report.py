"""Write a page about runs and their evaluations: one HTML file that needs no network.

    python scripts/report.py runs/a runs/b --output report.html

Settings come from the file, then from the command line, which wins; --help lists all of them.
"""

from birthgpt.commands.report import COMMAND

if __name__ == "__main__":
    COMMAND()
