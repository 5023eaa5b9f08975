"""Check that the files of a checkpoint, an export or a run are as they were saved, and that its models can be loaded.

    python scripts/verify.py --folder runs/wiki/finetuned

Settings come from the file, then from the command line, which wins; --help lists all of them.
"""

from birthgpt.commands.verify import COMMAND

if __name__ == "__main__":
    COMMAND()
