"""How well models of several seeds know what they know: CS224N questions, folds of them, and synthetic people.

    python -m benchmarks.confidence_seeds --data_dir ../shared/data/cs224n --output_file confidence.json

For each seed, a model is pretrained on `wiki.txt` by `wiki/pretrain_small`. The train questions are divided by people
into five folds.

- *dev*: finetuned on four folds, calibrated on the other, measured on the development questions.
- *fold 1* to *fold 5*: measured on this fold, calibrated on the next one, finetuned on the other three.
- *names left out*: the lines of half of the development people are not in the corpus. Their names are real and unknown.
- *synthetic people*: 500 people with eight relations, each told once, in one wording. 100 of them have no line. The
  recipe is `relations/pretrain`. Questions about 200 others are held out: half of these people are for the calibration,
  half are measured.

The signals include the agreement with the checkpoints of the other seeds. *Recalled* are the answers for which a risk
of at most 5% is promised; *coverage at 5% risk* chooses its threshold by the same answers, and promises nothing. ECE is
the calibration error in 15 bins of equal size. [docs/confidence.md](../docs/confidence.md) explains the measures.
Trainings in `--runs_dir` are used again.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev

from sklearn.metrics import roc_auc_score

from benchmarks.lab import QUESTIONS_DEV, QUESTIONS_TRAIN, Lab, Question, read_questions
from benchmarks.relations.cases import CONFIDENCE_MEASURES, EIGHT, read_birthplaces, read_lines, value_of
from birthgpt.commands.confidence_report import CONFIDENCE
from birthgpt.data.names import name_key, read_name
from birthgpt.data.splits import divide_people
from birthgpt.data.synthetic import DEV, TRAIN, WIKI
from birthgpt.data.synthetic.relation_corpus import BIOGRAPHIES, LEFT_OUT
from birthgpt.settings import read_config
from birthgpt.utils.environment import environment_info
from birthgpt.utils.files import read_json, save_json, write_text
from birthgpt.utils.tables import markdown_table, text_table

RECIPE = "wiki/pretrain_small"
FOLDS = 5
VALIDATION_SIZE = 100
"""Questions held out of a training, which choose its weights."""

MAX_RISK = 0.05
WORDINGS = ("{name} born in", "What is the birthplace of {name}?")
"""Other wordings of the CS224N question, whose answers are signals."""

PEOPLE = {
    "people": 500,
    "held_out": 200,
    "left_out": 100,
    "relations": EIGHT,
    "biographies_per_person": 1,
    "wordings": 1,
}
"""The synthetic people."""

MEASURES = {"accuracy": "accuracy", "auroc_known_left_out": "AUROC known / left out", **CONFIDENCE_MEASURES}
"""The measures by their key."""

Measured = dict[str, float | None]
"""The measures of a model."""


@dataclass(frozen=True)
class Part:
    """What a model is finetuned on, calibrated on and measured on: questions about different people.

    `left_out` are questions about people without a line in the corpus.
    """

    name: str
    train: Sequence[Question]
    calibration: Sequence[Question]
    measurement: Sequence[Question]
    corpus: Path
    left_out: Sequence[Question] = ()
    wordings: Sequence[str] = WORDINGS
    pretraining: Mapping[str, object] = field(default_factory=lambda: {"config": RECIPE})
    finetuning: Mapping[str, object] = field(default_factory=lambda: {"config": "wiki/finetune"})

    @property
    def stem(self) -> str:
        """The name in names of files."""
        return self.name.replace(" ", "_")


def without_people(path: Path, rows: Sequence[Question]) -> list[str]:
    """The lines of a corpus that are not about the people of these questions."""
    absent = {name_key(row["name"]) for row in rows}
    return [line for line in read_lines(path) if name_key(read_name(line) or "") not in absent]


def parts_of(data: Path, folder: Path) -> list[Part]:
    """The parts; the lines of the last two leave people out."""
    dev, wiki = read_birthplaces(data / DEV), data / WIKI
    asked = {row["name"] for row in dev}
    rows = [row for row in read_birthplaces(data / TRAIN) if row["name"] not in asked]
    folds = [[rows[index] for index in sorted(fold)] for fold in divide_people(rows, FOLDS, seed=0)]
    parts = [Part("dev", sum(folds[1:], []), folds[0], dev, wiki)]
    for number, fold in enumerate(folds):
        others = [folds[(number + step) % FOLDS] for step in range(1, FOLDS)]
        parts.append(Part(f"fold {number + 1}", sum(others[1:], []), others[0], fold, wiki))
    known, left_out = (dev[start::2] for start in range(2))
    smaller = folder / "left_out.txt"
    folder.mkdir(parents=True, exist_ok=True)
    smaller.write_text("\n".join(without_people(wiki, left_out)) + "\n", encoding="utf-8")
    parts.append(Part("names left out", sum(folds[1:], []), folds[0], known, smaller, left_out))
    return [*parts, synthetic_part(folder)]


def synthetic_part(folder: Path) -> Part:
    """Synthetic people, of whom a fifth has no line."""
    made = Lab(folder, seed=0).run("people", "people", **PEOPLE)
    held_out = read_questions(made / QUESTIONS_DEV)
    calibration, measurement = ([held_out[index] for index in half] for half in divide_people(held_out, 2, seed=0))
    return Part(
        "synthetic people",
        read_questions(made / QUESTIONS_TRAIN),
        calibration,
        measurement,
        made / BIOGRAPHIES,
        read_questions(made / f"{LEFT_OUT}.jsonl"),
        wordings=(),
        pretraining={
            "config": "relations/pretrain",
            "question_file": made / QUESTIONS_TRAIN,
            "validation_size": VALIDATION_SIZE,
            "max_train_flops": 6e12,
        },
        finetuning={"config": "relations/finetune"},
    )


def train(lab: Lab, part: Part) -> Path:
    """The finetuned model of a part; parts with one corpus begin from one pretrained model."""
    pretrained = lab.run(
        "pretrain", f"pretrained_{part.corpus.stem}", **part.pretraining, train_file=part.corpus, save_steps=0
    )
    return lab.run(
        "finetune", f"finetuned_{part.stem}", **part.finetuning, model_name_or_path=pretrained,
        train_file=lab.write_questions(f"{part.stem}_train", part.train), validation_size=VALIDATION_SIZE,
    )  # fmt: skip


def measure(lab: Lab, part: Part, model: Path, others: Sequence[Path]) -> Measured:
    """The measures of a model, calibrated with the agreement of other models."""
    name = part.stem
    agreement = {"agreement_models": others} if others else {}
    wordings = {"wordings": part.wordings} if part.wordings else {}
    lab.run(
        "calibrate", f"calibration_{name}", writes_folder=False, model_name_or_path=model, corpus_file=part.corpus,
        question_file=lab.write_questions(f"{name}_calibration", part.calibration), **wordings, **agreement,
    )  # fmt: skip
    given = {"model_name_or_path": model, "corpus_file": part.corpus, "max_risk": MAX_RISK, **agreement}
    questions = lab.write_questions(f"{name}_measurement", part.measurement)
    folder = lab.run("evaluate", f"evaluation_{name}", seeded=False, question_file=questions, **given)
    metrics = read_json(folder / "metrics.json")
    found: Measured = {"accuracy": metrics["accuracy"]}
    for key in MEASURES:
        if key in metrics["confidence"]:
            found[key] = value_of(metrics["confidence"][key])
    if part.left_out:
        about = lab.write_questions(f"{name}_unread", part.left_out)
        unread = lab.run("evaluate", f"unread_{name}", seeded=False, question_file=about, **given)
        found["auroc_known_left_out"] = auroc_of_unknown(folder, unread)
    return found


def auroc_of_unknown(known: Path, unknown: Path) -> float:
    """How well p(unknown) tells the questions of two evaluations apart."""
    scores = [
        [json.loads(line)["unknown"] for line in (folder / CONFIDENCE).read_text(encoding="utf-8").splitlines()]
        for folder in (known, unknown)
    ]
    labels = [0] * len(scores[0]) + [1] * len(scores[1])
    return float(roc_auc_score(labels, scores[0] + scores[1]))


def rows_of(measured: dict[str, list[Measured]]) -> list[dict[str, str]]:
    """A row for each measure, with the mean and the standard deviation over the seeds, and over all folds."""
    folds = [one for name, found in measured.items() if name.startswith("fold") for one in found]
    columns = {name: found for name, found in measured.items() if not name.startswith("fold")} | {"folds": folds}
    return [
        {"in percent": title} | {name: shown([one.get(key) for one in found]) for name, found in columns.items()}
        for key, title in MEASURES.items()
    ]


def page(results: dict) -> str:
    """The page of the results: the set-up, and means with standard deviations over the seeds, and over all folds."""
    rows = rows_of(results["measured"])
    facts = f"Seeds {', '.join(map(str, results['seeds']))}; {results['hardware']}; {results['date']}; "
    parts = ["# Confidence over seeds and folds", "`python -m benchmarks.confidence_seeds` writes this page."]
    parts += [__doc__.strip(), markdown_table(rows, list(rows[0])), facts + f"`{results['command']}`."]
    return "\n\n".join(parts) + "\n"


def shown(values: Sequence[float | None]) -> str:
    """Fractions in percent; those that were not measured are left out."""
    found = [100 * value for value in values if value is not None]
    if not found:
        return "–"
    return f"{fmean(found):.1f}" + (f" ± {stdev(found):.1f}" if len(found) > 1 else "")


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.confidence_seeds", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--data_dir", type=Path, required=True, help="folder of the CS224N files")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--runs_dir", type=Path, default=Path("runs/confidence_seeds"), help="folder of the trainings")
    parser.add_argument("--output_file", type=Path, help="JSON; a page of the same name, .md, is written beside it")
    options = parser.parse_args(arguments)
    parts = parts_of(options.data_dir, options.runs_dir)
    labs = {seed: Lab(options.runs_dir / f"seed_{seed}", seed) for seed in options.seeds}
    measured: dict[str, list[Measured]] = {}
    for part in parts:
        models = {seed: train(lab, part) for seed, lab in labs.items()}
        for seed, lab in labs.items():
            others = [model for other, model in models.items() if other != seed]
            measured.setdefault(part.name, []).append(measure(lab, part, models[seed], others))
            print(part.name, seed, json.dumps(measured[part.name][-1]), flush=True)
        if options.output_file:
            command = shlex.join(["python", "-m", "benchmarks.confidence_seeds", *arguments])
            shared = {"seeds": options.seeds, "recipe": read_config(RECIPE), "measured": measured}
            results = environment_info() | shared | {"command": command}
            save_json(options.output_file, results)
            write_text(options.output_file.with_suffix(".md"), page(results))
    rows = rows_of(measured)
    print(text_table(rows, list(rows[0])))


if __name__ == "__main__":
    main()
