"""How well a checkpoint knows what it knows, and whether the promised risk is met.

    python benchmarks/confidence.py --name "cs224n dev" --model_name_or_path runs/wiki/finetuned \\
        --calibration_file held_out.tsv --question_file birth_dev.tsv --corpus_file wiki.txt \\
        --wordings '{name} born in' --output_file benchmarks/confidence.json

The checkpoint is calibrated on the people of `calibration_file`, whom finetuning held out, and measured on those of
`question_file`. Then the people of `calibration_file` are taken for a population: 200 times, as many people are drawn
from it with replacement, a calibration is made of them, and its verdicts are compared with the population, whose risk
is known. A redraw is met if the risk of the answers called recalled is at most the promised one.

The signals are computed once, and kept in `signals_file`; calibrations without some of them tell what each is worth.
No file of the checkpoint is changed.
"""

import argparse
import json
import math
import pickle
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from birthgpt.commands.confidence_report import Judge, confidence_metrics
from birthgpt.commands.invented_questions import invented_questions
from birthgpt.commands.loading import load_model_and_tokenizer
from birthgpt.commands.trained_people import check_held_out, trained_people
from birthgpt.data.corpus import lines_by_name, load_corpus
from birthgpt.data.names import NameFinder
from birthgpt.data.questions import answers_of, load_questions
from birthgpt.data.splits import person_of
from birthgpt.evaluation.calibration import Calibration
from birthgpt.evaluation.calibration_fit import FitSettings, fit_calibration
from birthgpt.evaluation.confidence import judge
from birthgpt.evaluation.confidence_figures import draw_figures
from birthgpt.evaluation.name_likelihood import NameLikelihood
from birthgpt.evaluation.signals import SIGNALS, AnswerSignals, SignalSource, collect_signals
from birthgpt.evaluation.wordings import Wordings
from birthgpt.utils.environment import environment_info
from birthgpt.utils.files import save_json

RISKS = (0.05, 0.1, 0.2)

WITHOUT = {
    "all signals": (),
    "without other checkpoints": ("checkpoint_agreement",),
    "without other wordings and checkpoints": ("checkpoint_agreement", "wording_agreement"),
    "without the names of the corpus": ("name_likelihood",),
    "the answer alone": tuple(name for name in SIGNALS if name not in ("log_probability", "weakest_token")),
}
"""Calibrations by the signals that they do without."""


@dataclass
class Answers:
    """The signals of answers; for invented names, none is right and people are their numbers."""

    signals: list[AnswerSignals]
    right: list[bool]
    people: list

    def without(self, names: tuple[str, ...]) -> "Answers":
        """The same, where some signals cannot be computed."""
        missing = dict.fromkeys(names, math.nan)
        return Answers([replace(one, values=one.values | missing) for one in self.signals], self.right, self.people)


def collect(arguments: argparse.Namespace, source: SignalSource, lines: dict) -> dict[str, Answers]:
    """The signals of all parts; those of `signals_file` if it exists."""
    if arguments.signals_file and arguments.signals_file.exists():
        return pickle.loads(arguments.signals_file.read_bytes())
    names = NameFinder(lines)
    files = {"calibration": arguments.calibration_file, "measurement": arguments.question_file}
    files |= {"other wordings": arguments.other_wordings} if arguments.other_wordings else {}
    found = {}
    for part, file in files.items():
        rows = list(load_questions(file, names=names))
        if part == "calibration":
            check_held_out(rows, file, trained_people(arguments.model_name_or_path, arguments.train_file, names))
        signals = collect_signals(source, [row["question"] for row in rows], names=[row["name"] for row in rows])
        right = [one.answer.text in answers_of(row) for one, row in zip(signals, rows, strict=True)]
        found[part] = Answers(signals, right, list(map(person_of, rows)))
        print(part, len(rows), flush=True)
        if part != "other wordings":
            texts = invented_questions(filter(None, lines), rows, arguments.invented_names, part)
            found[f"invented for {part}"] = Answers(
                collect_signals(source, texts), [False] * len(texts), list(range(len(texts)))
            )
    if arguments.signals_file:
        arguments.signals_file.write_bytes(pickle.dumps(found))
    return found


def build_source(arguments: argparse.Namespace, lines: dict) -> SignalSource:
    """What the signals are computed from."""
    member, *others = map(load_model_and_tokenizer, [arguments.model_name_or_path, *(arguments.agreement_models or ())])
    rows = load_questions(arguments.calibration_file, names=NameFinder(lines))
    return SignalSource(
        *member,
        wordings=Wordings.of_questions(rows, arguments.wordings or ()),
        others=others,
        name_likelihood=NameLikelihood.of_names(filter(None, lines)),
        num_beams=arguments.num_beams,
    )


def fit(source: SignalSource, answers: Answers, invented: Answers, fit_ratio: float, seed: int = 0) -> Calibration:
    """A calibration of these answers."""
    settings = FitSettings(seed=seed, fit_ratio=fit_ratio)
    return fit_calibration(source, answers.signals, answers.right, answers.people, invented.signals, settings)


def measure(arguments: argparse.Namespace) -> dict:
    """The metrics of a checkpoint by the signals of its calibration, in other wordings, and on redrawn people."""
    lines = lines_by_name(load_corpus(arguments.corpus_file))
    source = build_source(arguments, lines)
    parts = collect(arguments, source, lines)
    found: dict = {"name": arguments.name, "accuracy": float(np.mean(parts["measurement"].right)), "by_signals": {}}
    for kind, missing in WITHOUT.items():
        of = {part: answers.without(missing) for part, answers in parts.items()}
        calibration = fit(source, of["calibration"], of["invented for calibration"], arguments.fit_ratio)
        entry = {"about": calibration.about, "signals": calibration.signals}
        for part in ("measurement", "other wordings"):
            if part in of:
                entry[part] = of_part(calibration, source, of[part], of["invented for measurement"])
        found["by_signals"][kind] = entry
        if kind == "all signals" and arguments.figures_dir:
            arguments.figures_dir.mkdir(parents=True, exist_ok=True)
            asked = of["measurement"]
            scores = [
                calibration.probabilities(answers.signals)[:, 0].tolist()
                for answers in (asked, of["invented for measurement"])
            ]
            draw_figures(arguments.figures_dir, scores[0], asked.right, scores[1], 0.05)
    return found | redraw(arguments, source, parts["calibration"], parts["invented for calibration"])


def of_part(calibration: Calibration, source: SignalSource, answers: Answers, invented: Answers) -> dict:
    """The metrics of `evaluate`, and coverage and risk of other promised risks."""
    judged = judge(calibration, answers.signals, 0.05)
    about_invented = judge(calibration, invented.signals, 0.05)
    found = confidence_metrics(Judge(calibration, source, 0.05), judged, answers.right, answers.people, about_invented)
    for risk in RISKS:
        verdicts = [answer.verdict == "recalled" for answer in judge(calibration, answers.signals, risk)]
        wrong = [not right for right, given in zip(answers.right, verdicts, strict=True) if given]
        asked = [answer.verdict == "recalled" for answer in judge(calibration, invented.signals, risk)]
        found[f"promised_{risk}"] = {
            "recalled": float(np.mean(verdicts)),
            "risk": float(np.mean(wrong)) if wrong else None,
            "invented_recalled": float(np.mean(asked)),
        }
    return found


def redraw(arguments: argparse.Namespace, source: SignalSource, answers: Answers, invented: Answers) -> dict:
    """How often the promised risk is met when the people of the calibration are drawn again."""
    of_person: dict = {}
    for index, person in enumerate(answers.people):
        of_person.setdefault(person, []).append(index)
    people = list(of_person.values())
    met, given, generator = {risk: 0 for risk in RISKS}, {risk: [] for risk in RISKS}, np.random.default_rng(0)
    for seed in range(arguments.redraws):
        drawn = [people[index] for index in generator.integers(len(people), size=len(people))]
        # a person that is drawn twice counts as two people
        chosen = [(index, number) for number, indices in enumerate(drawn) for index in indices]
        sample = Answers(
            [answers.signals[index] for index, _ in chosen],
            [answers.right[index] for index, _ in chosen],
            [number for _, number in chosen],
        )
        calibration = fit(source, sample, invented, arguments.fit_ratio, seed)
        for risk in RISKS:
            verdicts = [answer.verdict == "recalled" for answer in judge(calibration, answers.signals, risk)]
            wrong = [not right for right, is_given in zip(answers.right, verdicts, strict=True) if is_given]
            given[risk].append(float(np.mean(verdicts)))
            met[risk] += not wrong or np.mean(wrong) <= risk
    return {
        "redraws": arguments.redraws,
        "met": {str(risk): met[risk] / arguments.redraws for risk in RISKS},
        "recalled_in_redraws": {str(risk): float(np.mean(given[risk])) for risk in RISKS},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", required=True, help="name of the row; a row of this name is replaced")
    parser.add_argument("--model_name_or_path", required=True, help="finetuned checkpoint; it is not changed")
    parser.add_argument("--calibration_file", required=True, help="questions about people that finetuning held out")
    parser.add_argument("--question_file", required=True, help="questions about other people, for the measurement")
    parser.add_argument("--other_wordings", help="questions about the same people in other wordings")
    parser.add_argument("--corpus_file", required=True, help="biographies")
    parser.add_argument("--train_file", help="train questions; those of run.json if not given")
    parser.add_argument("--wordings", nargs="+", help="further wordings of the question")
    parser.add_argument("--agreement_models", nargs="+", help="other checkpoints")
    parser.add_argument("--num_beams", type=int, default=4)
    parser.add_argument("--fit_ratio", type=float, default=0.5)
    parser.add_argument("--invented_names", type=int, default=500)
    parser.add_argument("--redraws", type=int, default=200)
    parser.add_argument("--signals_file", type=Path, help="keep the signals here, and read them if they are here")
    parser.add_argument("--figures_dir", type=Path, help="also draw figures into this folder")
    parser.add_argument("--output_file", type=Path, help="JSON file of all rows")
    arguments = parser.parse_args()
    row = measure(arguments) | environment_info()
    print(json.dumps(row, indent=2))
    if arguments.output_file:
        before = json.loads(arguments.output_file.read_text())["rows"] if arguments.output_file.exists() else []
        rows = [other for other in before if other["name"] != row["name"]] + [row]
        save_json(arguments.output_file, {"rows": rows})


if __name__ == "__main__":
    main()
