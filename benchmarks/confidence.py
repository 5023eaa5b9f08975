"""How well a checkpoint knows what it knows, and whether the promised risk is met.

    python benchmarks/confidence.py --name "cs224n dev" --model_name_or_path runs/wiki/finetuned \\
        --calibration_file held_out.tsv --question_file birth_dev.tsv --corpus_file wiki.txt \\
        --wordings '{name} born in' --output_file benchmarks/confidence.json

A copy of the checkpoint is calibrated on the people of `calibration_file`, whom finetuning held out, and measured on
those of `question_file`. Then the people of `calibration_file` are taken for a population: 200 times, as many people
are drawn from it with replacement, a calibration is made of them, and its verdicts are compared with the population,
whose risk is known. A redraw is met if the risk of the answers called recalled is at most the promised one.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np

from birthgpt.commands.calibrate import CalibrateSettings, calibrate
from birthgpt.commands.evaluate import EvaluateSettings, evaluate
from birthgpt.commands.invented_questions import invented_questions
from birthgpt.commands.loading import load_model_and_tokenizer
from birthgpt.data.corpus import lines_by_name, load_corpus
from birthgpt.data.names import NameFinder
from birthgpt.data.questions import answers_of, load_questions
from birthgpt.data.splits import person_of
from birthgpt.evaluation.calibration import load_calibration
from birthgpt.evaluation.calibration_fit import FitSettings, fit_calibration
from birthgpt.evaluation.confidence import judge, signal_source
from birthgpt.evaluation.signals import collect_signals
from birthgpt.settings import make_settings
from birthgpt.utils.environment import environment_info
from birthgpt.utils.files import save_json

RISKS = (0.05, 0.1, 0.2)


def measure(arguments: argparse.Namespace) -> dict:
    """The metrics of a checkpoint, also in other wordings, and the redraws."""
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = Path(shutil.copytree(arguments.model_name_or_path, Path(scratch, "checkpoint")))
        others = {"agreement_models": arguments.agreement_models}
        calibrate(
            make_settings(
                CalibrateSettings,
                model_name_or_path=str(checkpoint),
                question_file=arguments.calibration_file,
                train_file=arguments.train_file,
                corpus_file=arguments.corpus_file,
                wordings=arguments.wordings,
                num_beams=arguments.num_beams,
                fit_ratio=arguments.fit_ratio,
                invented_names=arguments.invented_names,
                **others,
            )
        )
        found = {"name": arguments.name}
        questions = {"confidence": arguments.question_file, "other_wordings": arguments.other_wordings}
        for part, file in questions.items():
            if file is None:
                continue
            output = Path(arguments.output_dir or scratch, part)
            metrics = evaluate(
                make_settings(
                    EvaluateSettings,
                    model_name_or_path=str(checkpoint),
                    question_file=file,
                    corpus_file=arguments.corpus_file,
                    output_dir=str(output),
                    max_risk=0.05,
                    invented_names=arguments.invented_names,
                    **others,
                )
            )
            found[part] = {key: metrics[key] for key in ("accuracy", "total")} | metrics["confidence"]
        found |= redraw(checkpoint, arguments)
        found["calibration"] = json.loads((checkpoint / "calibration.json").read_text())["about"]
    return found


def redraw(checkpoint: Path, arguments: argparse.Namespace) -> dict:
    """How often the promised risk is met when the people of the calibration are drawn again."""
    model, tokenizer = load_model_and_tokenizer(str(checkpoint))
    others = [load_model_and_tokenizer(path) for path in arguments.agreement_models or ()]
    calibration = load_calibration(str(checkpoint), model, [other for other, _ in others])
    source = signal_source(model, tokenizer, calibration, others)
    lines = lines_by_name(load_corpus(arguments.corpus_file))
    rows = list(load_questions(arguments.calibration_file, names=NameFinder(lines)))
    signals = collect_signals(source, [row["question"] for row in rows])
    right = [found.answer.text in answers_of(row) for found, row in zip(signals, rows, strict=True)]
    texts = invented_questions(filter(None, lines), rows, arguments.invented_names, "calibration")
    invented = collect_signals(source, texts)
    of_person: dict = {}
    for index, row in enumerate(rows):
        of_person.setdefault(person_of(row), []).append(index)
    people = list(of_person.values())
    met, given, generator = {risk: 0 for risk in RISKS}, {risk: [] for risk in RISKS}, np.random.default_rng(0)
    for seed in range(arguments.redraws):
        drawn = [people[index] for index in generator.integers(len(people), size=len(people))]
        # a person that is drawn twice counts as two people
        chosen = [(index, number) for number, indices in enumerate(drawn) for index in indices]
        calibration = fit_calibration(
            source,
            [signals[index] for index, _ in chosen],
            [right[index] for index, _ in chosen],
            [number for _, number in chosen],
            invented,
            FitSettings(seed=seed, fit_ratio=arguments.fit_ratio),
        )
        for risk in RISKS:
            answers = judge(calibration, signals, risk)
            recalled = [
                is_right for answer, is_right in zip(answers, right, strict=True) if answer.verdict == "recalled"
            ]
            given[risk].append(len(recalled) / len(rows))
            met[risk] += not recalled or 1 - np.mean(recalled) <= risk
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
    parser.add_argument("--output_dir", help="also keep answers and figures here")
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
