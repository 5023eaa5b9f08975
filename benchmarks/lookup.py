"""Whether the loop closes: people whom a model does not know are looked up, finetuned on, and then recalled.

    python benchmarks/lookup.py --output_file benchmarks/lookup.json

Synthetic people; some are left out of the biographies. A model is pretrained, finetuned, and calibrated on half of the
held-out people. It is asked about the people left out. What it does not call recalled is looked up in a table, and
appended to `unanswered.tsv`. Then it is finetuned on this file alone; beside the train questions; and beside its own
answers about everybody in the biographies, which are no labels of anybody. The models are asked again: about the people
left out, in the wording of the file and in another one; about the other half of the held-out people, and about the
people of the train questions, to see what was forgotten. The last model is calibrated again.
"""

import argparse
import json
import shutil
import time
from pathlib import Path

from birthgpt.commands.calibrate import CalibrateSettings, calibrate
from birthgpt.commands.finetune import FinetuneSettings, finetune
from birthgpt.commands.loading import load_model_and_tokenizer
from birthgpt.commands.people import PeopleSettings, make_people
from birthgpt.commands.pretrain import PretrainSettings, pretrain
from birthgpt.data.corpus import load_corpus
from birthgpt.data.questions import load_questions
from birthgpt.data.splits import divide_people
from birthgpt.data.tokenizers import RESERVED_TOKENS
from birthgpt.data.unanswered import append_questions
from birthgpt.evaluation.answering import answer_questions
from birthgpt.evaluation.calibration import CALIBRATION, load_calibration
from birthgpt.evaluation.confidence import answer_with_confidence
from birthgpt.evaluation.lookup import LookupIndex, look_up
from birthgpt.settings import make_settings, parse_settings
from birthgpt.utils.environment import environment_info
from birthgpt.utils.files import save_json

PEOPLE = {
    "held_out": 240,
    "left_out": 60,
    "relations": ["birthplace"],
    "biographies_per_person": 3,
    "wordings": 4,
    "question_wordings": 2,
}
SHAPE = """--hidden_size 96 --num_attention_heads 4 --num_hidden_layers 2 --ngram_vocab_size 8192 --vocab_size 768
    --block_size 256"""
WORDINGS = ("Where was {name} born?", "What is the birthplace of {name}?")
"""The two wordings that the train questions have."""


class Loop:
    """The files and the models of the experiment."""

    def __init__(self, arguments: argparse.Namespace):
        self.arguments, self.work = arguments, arguments.work_dir
        if self.work.exists():
            raise SystemExit(f"{self.work} exists: choose another --work_dir")
        self.people = self.work / "people"
        make_people(
            make_settings(
                PeopleSettings, output_dir=str(self.people), people=arguments.people, seed=arguments.seed, **PEOPLE
            )
        )
        self.train, self.left_out = self.people / "questions_train.jsonl", self.people / "questions_left_out.jsonl"
        self.calibration, self.others = self.divide_dev()
        self.unanswered = self.work / "unanswered.tsv"

    def divide_dev(self) -> tuple[Path, Path]:
        """The questions about the held-out people in two files: for the calibration, and for the measurement."""
        lines = (self.people / "questions_dev.jsonl").read_text(encoding="utf-8").splitlines()
        parts = divide_people(load_questions(str(self.people / "questions_dev.jsonl")), 2, self.arguments.seed)
        files = self.work / "calibration.jsonl", self.work / "others.jsonl"
        for file, rows in zip(files, parts, strict=True):
            file.write_text("".join(f"{lines[row]}\n" for row in sorted(rows)), encoding="utf-8")
        return files

    def train_first(self) -> Path:
        """Pretraining, finetuning and calibration."""
        pretrained, finetuned = self.work / "pretrained", self.work / "finetuned"
        given = ["--config", "relations/pretrain", *SHAPE.split(), *self.common(pretrained)]
        given += ["--train_file", self.people / "biographies.txt", "--question_file", self.train]
        given += ["--max_train_flops", self.arguments.flops]
        pretrain(parse_settings(PretrainSettings, list(map(str, given))))
        self.finetune(pretrained, finetuned, self.train)
        self.calibrate(finetuned, self.people / "biographies.txt")
        return finetuned

    def finetune(self, checkpoint: Path, output: Path, train_file: Path | str) -> Path:
        """A finetuned checkpoint."""
        given = ["--config", "relations/finetune", *self.common(output), "--model_name_or_path", checkpoint]
        given += ["--train_file", train_file, "--max_train_steps", self.arguments.steps, "--eval_steps", 0]
        finetune(parse_settings(FinetuneSettings, list(map(str, given))))
        return output

    def calibrate(self, checkpoint: Path, corpus: Path | str) -> None:
        """Calibrate a checkpoint on half of the held-out people; the corpus has all names that it read."""
        files = {"question_file": self.calibration, "train_file": self.train, "corpus_file": corpus}
        given = {name: str(file) for name, file in files.items()} | {"invented_names": 100}
        calibrate(make_settings(CalibrateSettings, model_name_or_path=str(checkpoint), **given))

    def common(self, output: Path) -> list:
        """Settings of every training."""
        return ["--seed", self.arguments.seed, "--save_steps", 0, "--validation_size", 0, "--output_dir", output]

    def collect(self, checkpoint: Path) -> dict[str, int]:
        """Ask about the people left out, look up what is not recalled, and append it to the file."""
        model, tokenizer = load_model_and_tokenizer(str(checkpoint))
        calibration = load_calibration(str(checkpoint), model)
        questions = [row["question"] for row in load_questions(str(self.left_out))]
        answers = answer_with_confidence(model, tokenizer, questions, calibration, max_risk=self.arguments.max_risk)
        index = LookupIndex.load(str(self.left_out))
        found = [lookup for lookup in look_up(index, questions, answers, calibration.known_wordings) if lookup]
        pairs = [(lookup.question, lookup.answer) for lookup in found if lookup.answer is not None]
        return {
            "asked": len(questions),
            "called_recalled": len(questions) - len(found),
            "found": len(pairs),
            "appended": append_questions(self.unanswered, pairs),
        }

    def train_again(self, checkpoint: Path) -> dict[str, Path]:
        """The models after finetuning on what was looked up, by what is beside it."""
        own = self.work / "own_answers.tsv"
        append_questions(own, self.own_answers(checkpoint))
        beside = {"alone": [], "train questions": [self.people / "questions_train.tsv"], "own answers": [own]}
        found = {}
        for name, files in beside.items():
            folder = self.work / f"questions_{name.replace(' ', '_')}"
            folder.mkdir()
            for file in (self.unanswered, *files):
                shutil.copy(file, folder)
            found[name] = self.finetune(checkpoint, self.work / f"after_{name.replace(' ', '_')}", f"{folder}/*.tsv")
        # the names of the finetuning were read too
        lines = [f"{row['name']}. {row['name']}: {row['answer']} .\n" for row in load_questions(str(self.unanswered))]
        (self.people / "biographies_looked_up.txt").write_text("".join(lines), encoding="utf-8")
        self.calibrate(found["own answers"], f"{self.people}/biographies*.txt")
        return found

    def own_answers(self, checkpoint: Path) -> list[tuple[str, str]]:
        """What the model answers about everybody in the biographies, right or wrong."""
        model, tokenizer = load_model_and_tokenizer(str(checkpoint))
        names = sorted(set(load_corpus(str(self.people / "biographies.txt"))["name"]))
        questions = [WORDINGS[index % 2].format(name=name) for index, name in enumerate(names)]
        answers = answer_questions(model, tokenizer, questions)
        pairs = [(question, answer.text) for question, answer in zip(questions, answers, strict=True)]
        return [pair for pair in pairs if pair[1] and not any(token in pair[1] for token in RESERVED_TOKENS)]

    def measure(self, checkpoint: Path) -> dict:
        """Accuracy by population, and the verdicts about the people who were left out."""
        model, tokenizer = load_model_and_tokenizer(str(checkpoint))
        left_out = list(load_questions(str(self.left_out)))
        asked = {
            "left out": [(row["question"], row["answer"]) for row in left_out],
            "left out, in the other wording": [(in_other_wording(row), row["answer"]) for row in left_out],
        }
        for name, file in (("held out", self.others), ("train", self.train)):
            asked[name] = [(row["question"], row["answer"]) for row in load_questions(str(file))]
        accuracy = {}
        for name, pairs in asked.items():
            answers = answer_questions(model, tokenizer, [question for question, _ in pairs])
            right = sum(answer.text == expected for answer, (_, expected) in zip(answers, pairs, strict=True))
            accuracy[name] = {"right": right, "asked": len(pairs), "accuracy": right / len(pairs)}
        if not (checkpoint / CALIBRATION).is_file():
            return {"accuracy": accuracy}
        calibration = load_calibration(str(checkpoint), model)
        verdicts = {}
        for name in ("left out", "held out"):
            questions = [question for question, _ in asked[name]]
            answers = answer_with_confidence(model, tokenizer, questions, calibration, max_risk=self.arguments.max_risk)
            given = [answer.verdict for answer in answers]
            verdicts[name] = {verdict: given.count(verdict) for verdict in ("recalled", "unsure", "unknown")}
        return {"accuracy": accuracy, "verdicts": verdicts}


def in_other_wording(row: dict) -> str:
    """The same question in the wording that its file does not have for this person."""
    texts = [wording.format(name=row["name"]) for wording in WORDINGS]
    assert row["question"] in texts
    return texts[1 - texts.index(row["question"])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work_dir", type=Path, default=Path("runs/lookup"), help="new folder for the trainings")
    parser.add_argument("--people", type=int, default=600)
    parser.add_argument("--flops", type=float, default=1e12, help="budget of the pretraining")
    parser.add_argument("--steps", type=int, default=40, help="updates of each finetuning")
    parser.add_argument("--max_risk", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output_file", type=Path, help="also write the metrics here")
    arguments = parser.parse_args()
    started = time.perf_counter()
    loop = Loop(arguments)
    first = loop.train_first()
    metrics = {"before": loop.measure(first), "looked_up": loop.collect(first)}
    metrics["after"] = {name: loop.measure(checkpoint) for name, checkpoint in loop.train_again(first).items()}
    given = {name: getattr(arguments, name) for name in ("people", "flops", "steps", "max_risk", "seed")}
    metrics |= {"settings": given | PEOPLE | {"shape": " ".join(SHAPE.split())}}
    metrics |= {"seconds": time.perf_counter() - started, **environment_info()}
    print(json.dumps(metrics, indent=2))
    if arguments.output_file:
        save_json(arguments.output_file, metrics)


if __name__ == "__main__":
    main()
