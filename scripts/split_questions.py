"""Deal questions into folds: each in turn is held out, and the others are trained on.

python scripts/split_questions.py --question_file ../shared/data/cs224n/birth_places_train.tsv --output_dir runs/folds
"""

from birthgpt.commands.command_line import run_script
from birthgpt.commands.split import SplitArguments, split_questions

if __name__ == "__main__":
    for folder in run_script(split_questions, (SplitArguments,), __doc__, several_processes=False):
        print(folder)
