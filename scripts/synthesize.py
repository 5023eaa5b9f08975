"""Write lines and questions from a table, in the wordings of templates.

    python scripts/synthesize.py --table players.csv --templates players.yaml --output_dir runs/players

Settings come from the file, then from the command line, which wins; --help lists all of them.
"""

from birthgpt.commands.synthesize import COMMAND

if __name__ == "__main__":
    COMMAND()
