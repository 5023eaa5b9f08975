"""Export a checkpoint with its code, and push it to the Hub where --hub_model_id is given.

    python scripts/push_to_hub.py --model_name_or_path runs/wiki/finetuned --output_dir runs/wiki/export

Settings are read from --config FILE.yaml, then from the command line, which wins; --help lists them all.
"""

from birthgpt.commands.command_line import run_script
from birthgpt.commands.push import ExportArguments, export

if __name__ == "__main__":
    folder = run_script(export, (ExportArguments,), __doc__, several_processes=False)
    if folder is not None:
        print(f"exported to {folder}")
