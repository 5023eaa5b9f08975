"""Invent people, and write biographies and questions about them.

    python scripts/people.py --output_dir runs/people --people 1000 --held_out 200

Settings come from the file, then from the command line, which wins; --help lists all of them.
"""

from birthgpt.commands.people import COMMAND

if __name__ == "__main__":
    COMMAND()
