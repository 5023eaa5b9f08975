"""Divide questions into folds: each in turn is held out, and the others are trained on.

    python scripts/split_questions.py --question_file birth_places_train.tsv --output_dir runs/folds

Settings come from the file, then from the command line, which wins; --help lists all of them.
"""

from birthgpt.commands.split import COMMAND

if __name__ == "__main__":
    COMMAND()
