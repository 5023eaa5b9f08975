"""Are memory and speed constant while a corpus larger than memory is streamed? The corpus has two gigabytes.

python benchmarks/streaming.py --output_file benchmarks/streaming.json
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from birthgpt.data.synthetic import WIKI, write_synthetic_corpus
from birthgpt.utils.environment import environment_info
from birthgpt.utils.files import save_json

ROOT = Path(__file__).parents[1]
LINES_A_PERSON = 17
BYTES_A_PERSON = 2190


def anonymous_memory(process: subprocess.Popen) -> int:
    """Bytes of a process that are not mapped files; 0 if it has just ended."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return 0
    found = [line.split()[1] for line in status.splitlines() if line.startswith("RssAnon")]
    return int(found[0]) * 1024 if found else 0


def train_and_watch(corpus: Path, folder: Path, flops: float) -> tuple[list[int], list[dict]]:
    """The memory of a streamed pretraining at every second, and its reports."""
    command = [sys.executable, ROOT / "scripts/pretrain.py", "--config", ROOT / "configs/quickstart/pretrain.yaml"]
    command += ["--train_file", corpus, "--output_dir", folder, "--streaming", True, "--logging_steps", 50]
    command += ["--max_train_flops", flops, "--validation_size", 0]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.DEVNULL)
    memory = []
    while process.poll() is None:
        memory.append(anonymous_memory(process))
        time.sleep(1)
    if process.returncode:
        raise SystemExit("the pretraining failed: " + " ".join(map(str, command)))
    return memory, json.loads((folder / "run.json").read_text())["history"]


def speeds_between(history: list[dict]) -> list[float]:
    """Tokens per second between consecutive reports, computed from the mean since the start in each report.

    Batches have nearly the same size, so tokens are proportional to steps, and time is proportional to steps / speed.
    """
    clock = [entry["step"] / entry["tokens_per_second"] for entry in history]
    return [(history[i]["step"] - history[i - 1]["step"]) / (clock[i] - clock[i - 1]) for i in range(1, len(history))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2.0, help="size of the corpus")
    parser.add_argument("--flops", type=float, default=4e12, help="budget of the pretraining")
    parser.add_argument("--output_file", type=Path, help="also write the metrics here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        started = time.perf_counter()
        people = int(arguments.gigabytes * 1e9 / BYTES_A_PERSON)
        write_synthetic_corpus(
            Path(scratch, "people"), people=people, held_out=100, biographies_per_person=LINES_A_PERSON
        )
        corpus = Path(scratch, "people", WIKI)
        size = corpus.stat().st_size
        print(f"{size / 1e9:.2f} GB written in {time.perf_counter() - started:.0f} s", flush=True)
        memory, history = train_and_watch(corpus, Path(scratch, "run"), arguments.flops)
    speeds = speeds_between(history)
    if len(speeds) < 4:
        parser.error(f"flops={arguments.flops:g}: {len(history)} reports are too few to compare: give more")
    quarter = len(speeds) // 4
    metrics = {
        "corpus_bytes": size,
        "peak_anonymous_bytes": max(memory),
        "anonymous_bytes_at_the_middle": memory[len(memory) // 2],
        "anonymous_bytes_at_the_end": max(memory[-5:]),
        "tokens_per_second_in_the_second_quarter": median(speeds[quarter : 2 * quarter]),
        "tokens_per_second_in_the_last_quarter": median(speeds[-quarter:]),
    }
    for name, value in metrics.items():
        print(f"{name.replace('_', ' ')}: {value / 1e6:,.0f} M" if "bytes" in name else f"{name}: {value:,.0f}")
    if arguments.output_file:
        save_json(arguments.output_file, {**metrics, **environment_info()})


if __name__ == "__main__":
    main()
