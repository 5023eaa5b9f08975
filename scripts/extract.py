"""Write questions whose answers stand in the lines of a corpus, as patterns find them.

    python scripts/extract.py --corpus_file wiki.txt --held_out_file birth_dev.tsv --output_dir runs/facts

Settings come from the file, then from the command line, which wins; --help lists all of them.
"""

from birthgpt.commands.extract import COMMAND

if __name__ == "__main__":
    COMMAND()
