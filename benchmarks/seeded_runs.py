"""Seeded runs of a few seconds: a refactoring must not change a bit of their losses, weights and answers.

    git stash                                                # or check out the commit before the change
    python benchmarks/seeded_runs.py --output_file before.json
    git stash pop
    python benchmarks/seeded_runs.py --compare_with before.json

Both must run on the same machine, with the same versions and the same number of cores.
"""

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import datasets
from safetensors import safe_open

from birthgpt.commands.evaluate import EvaluateSettings, evaluate
from birthgpt.commands.finetune import FinetuneSettings, finetune
from birthgpt.commands.pretrain import PretrainSettings, pretrain
from birthgpt.data.synthetic import write_synthetic_corpus
from birthgpt.settings import make_settings, parse_settings
from birthgpt.utils.files import save_json

TINY = """--hidden_size 32 --num_hidden_layers 3 --num_attention_heads 2 --tokens_per_batch 1000 --max_train_steps 30
    --block_size 256 --tokenizer_type bpe --vocab_size 600 --learning_rate 4e-3 --logging_steps 1 --save_steps 0
    --warmup_steps 3 --objective name_first --optimizer muon"""
MODERN = """--position_embedding_type rotary --norm_type rmsnorm --hidden_act relu2 --qk_norm true
    --zero_init_residual true --tie_word_embeddings true"""
UNROLLED = "--objective_layout unrolled"
RUNS = {
    "softmax": "",
    "softmax_modern_salient": f"""{MODERN} --objective salient_spans --cue_probability 0.8 --cue_after_probability 0.25
        --ngram_orders 2 3 --ngram_vocab_size 500 --ema_decay 0.9""",
    "span_corruption": """--objective span_corruption --optimizer adamw --weight_decay 0.1
        --lr_scheduler_type assignment_cosine --lr_cycle_steps 12""",
    "language_modeling_streamed": "--objective language_modeling --streaming true --lr_scheduler_type cosine",
    "performer": "--attention_type performer --performer_features 16 --performer_redraw_steps 4",
    "performer_trig": f"{UNROLLED} --attention_type performer --performer_kind trigonometric --performer_features 16",
    "linformer": f"{UNROLLED} --attention_type linformer",
    "linformer_abc": f"{UNROLLED} {MODERN} --attention_type abc",
    "linformer_abc_position": f"{UNROLLED} --attention_type abc --abc_weights position --abc_num_slots 8",
    "hybrid": f"""{UNROLLED} {MODERN} --attention_type gated_deltanet softmax sliding_softmax --sliding_window 8
        --canon_width 4""",
    "perceiver": f"{UNROLLED} --attention_type perceiver",
    "perceiver_assignment": f"{UNROLLED} {MODERN} --attention_type perceiver --perceiver_kind cs224n --canon_width 3",
    "bigbird": f"{UNROLLED} --attention_type bigbird",
    "synthesizer": "--attention_type synthesizer",
    "synthesizer_alpha": f"""{MODERN} --attention_type synthesizer --synthesizer_mixture alpha
        --synthesizer_kind factorized_random""",
    "accumulated": "--gradient_accumulation_steps 2",
    "mixed_questions": """--question_file {people}/birth_places_train.tsv --question_ratio 0.3 --validation_size 10
        --eval_steps 10 --max_train_steps 20""",
}
FINETUNING = """--tokens_per_batch 1000 --max_train_steps 30 --logging_steps 1 --save_steps 0 --optimizer muon
    --learning_rate 3e-3 --validation_size 10 --eval_steps 5"""
RESUMED = "--save_steps 10 --save_total_limit 5 --ema_decay 0.9"
ANSWERING = (
    "finetuned",
    "linformer_abc",
    "perceiver",
    "hybrid",
    "performer",
    "linformer",
    "bigbird",
    "synthesizer_alpha",
)


class Recorder:
    """Runs trainings and evaluations in a folder, and keeps the results that must not change."""

    def __init__(self, folder: Path):
        self.folder, self.people, self.found = folder, folder / "people", {}
        write_synthetic_corpus(self.people, people=120, held_out=20, biographies_per_person=1, seed=0)

    def pretrain(self, name: str, arguments: str) -> Path:
        """Run a pretraining and return its folder."""
        output = self.folder / name
        given = f"{TINY} --train_file {self.people}/wiki.txt --output_dir {output} {arguments}"
        pretrain(parse_settings(PretrainSettings, given.format(people=self.people).split()))
        return output

    def keep(self, name: str, folder: Path) -> None:
        """Keep the metrics and the weights of a run."""
        self.found[name] = {"history": history(folder), "weights": digests(folder / "model.safetensors")}

    def keep_answers(self, name: str, checkpoint: Path) -> None:
        """Keep the answers of a checkpoint."""
        people, output = self.people, self.folder / "answers" / name
        metrics = evaluate(
            make_settings(
                EvaluateSettings,
                question_file=str(people / "birth_dev.tsv"),
                train_file=str(people / "birth_places_train.tsv"),
                corpus_file=str(people / "wiki.txt"),
                model_name_or_path=str(checkpoint),
                output_dir=str(output),
                max_new_tokens=12,
            )
        )
        self.found[f"answers/{name}"] = {
            "answers": (output / "predictions.txt").read_text().splitlines(),
            "mean_log_probability": metrics["mean_log_probability"],
            "slices": metrics["slices"],
        }


def history(folder: Path) -> list[list[float]]:
    """The losses and accuracies of a run, in order."""
    entries = json.loads((folder / "run.json").read_text())["history"]
    kept = ("loss", "held_out_accuracy", "train_accuracy")
    return [[v for k, v in sorted(entry.items()) if k in kept or k.startswith("name_")] for entry in entries]


def digests(file: Path) -> list[str]:
    """A digest of each weight, without its name."""
    with safe_open(file, "pt") as content:
        tensors = [content.get_tensor(name).contiguous() for name in content.keys()]  # noqa: SIM118
    return sorted(hashlib.sha256(tensor.numpy().tobytes()).hexdigest()[:16] for tensor in tensors)


def record(folder: Path) -> dict[str, Any]:
    """Do all runs, and return the results that must not change."""
    recorder = Recorder(folder)
    for name, arguments in RUNS.items():
        recorder.keep(name, recorder.pretrain(name, arguments))
    seeds = recorder.pretrain("seeds", "--seeds 0 1 2")
    for seed in (0, 1, 2):
        recorder.keep(f"seeds/{seed}", seeds / f"seed-{seed}")
    performer = "--attention_type performer --performer_redraw_steps 5"
    rates = recorder.pretrain("rates", f"--learning_rates 1e-3 4e-3 {performer}")
    for rate in ("0.001", "0.004"):
        recorder.keep(f"rates/{rate}", rates / f"learning_rate-{rate}")
    resumed = recorder.pretrain("resumed", RESUMED)
    for late in ("checkpoint-30", "checkpoint-20"):
        shutil.rmtree(resumed / late)
    (resumed / "config.json").unlink()
    recorder.keep("resumed", recorder.pretrain("resumed", f"{RESUMED} --resume_from_checkpoint latest"))
    start = (
        f"--train_file {recorder.people}/birth_places_train.tsv --model_name_or_path {folder}/softmax_modern_salient"
    )
    given = f"{start} --output_dir {folder}/finetuned {FINETUNING}".split()
    finetune(parse_settings(FinetuneSettings, given))
    recorder.keep("finetuned", folder / "finetuned")
    for name in ANSWERING:
        recorder.keep_answers(name, folder / name)
    return recorder.found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_file", type=Path, help="write the results of the runs")
    parser.add_argument("--compare_with", type=Path, help="compare with such a file; exit code 1 where they differ")
    arguments = parser.parse_args()
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        found = record(Path(folder))
    if arguments.output_file is not None:
        save_json(arguments.output_file, found)
    if arguments.compare_with is not None:
        before = json.loads(arguments.compare_with.read_text())
        different = [name for name in before if json.loads(json.dumps(found.get(name))) != before[name]]
        print(f"{len(before) - len(different)} of {len(before)} are equal", *different, sep="\n")
        sys.exit(bool(different))


if __name__ == "__main__":
    main()
