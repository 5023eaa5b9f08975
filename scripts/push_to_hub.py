"""Export a checkpoint with its code, and push it to the Hub where --hub_model_id is given.

    python scripts/push_to_hub.py --model_name_or_path runs/wiki/finetuned --output_dir runs/wiki/export

Settings come from the file, then from the command line, which wins; --help lists all of them.
"""

from birthgpt.commands.push import COMMAND

if __name__ == "__main__":
    COMMAND()
