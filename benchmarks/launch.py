"""Does `accelerate launch` train as fast as plain `python`? The same short pretraining runs with both, in turns.

python benchmarks/launch.py --output_file benchmarks/launch.json
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from birthgpt.data.synthetic import WIKI, write_synthetic_corpus
from birthgpt.utils.environment import environment_info
from birthgpt.utils.files import save_json
from birthgpt.utils.tables import text_table

ROOT = Path(__file__).parents[1]
LAUNCHERS = {
    "python": [sys.executable],
    "accelerate launch": [sys.executable, "-m", "accelerate.commands.launch"],
}


def tokens_per_second(launcher: list[str], people: Path, folder: Path, flops: float) -> float:
    """The speed in `run.json` of a pretraining with this budget; it does not include the start."""
    command = [*launcher, ROOT / "scripts/pretrain.py", "--config", ROOT / "configs/quickstart/pretrain.yaml"]
    command += [
        "--train_file",
        people / WIKI,
        "--output_dir",
        folder,
        "--max_train_flops",
        flops,
        "--validation_size",
        0,
    ]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    return json.loads((folder / "run.json").read_text())["tokens_per_second"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flops", type=float, default=1.5e12, help="budget of a run")
    parser.add_argument("--repetitions", type=int, default=3, help="runs by each launcher")
    parser.add_argument("--output_file", type=Path, help="also write the metrics here")
    arguments = parser.parse_args()
    speeds = {name: [] for name in LAUNCHERS}
    with tempfile.TemporaryDirectory() as scratch:
        people = Path(scratch, "people")
        write_synthetic_corpus(people, people=1000, held_out=200, biographies_per_person=5)
        for repetition in range(arguments.repetitions):
            for name, launcher in LAUNCHERS.items():
                folder = Path(scratch, f"{name}-{repetition}")
                speeds[name].append(tokens_per_second(launcher, people, folder, arguments.flops))
    rows = [{"name": name, "tokens_per_second": median(runs), "runs": len(runs)} for name, runs in speeds.items()]
    print(text_table(rows, ["name", "tokens_per_second", "runs"]))
    ratio = median(speeds["accelerate launch"]) / median(speeds["python"])
    print(f"accelerate launch / python: {ratio:.3f}")
    if arguments.output_file:
        save_json(arguments.output_file, {"tokens_per_second": speeds, "ratio": ratio, **environment_info()})


if __name__ == "__main__":
    main()
