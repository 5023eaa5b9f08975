"""What is compared: the recipe of configs/relations on other text, other wordings, other models."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.lab import OF_TYPE, QUESTIONS_DEV, QUESTIONS_TRAIN, Lab, percent_of, read_questions
from birthgpt.data.names import name_key
from birthgpt.data.splits import divide_people
from birthgpt.data.synthetic import relation_corpus
from birthgpt.model.attention_types import ATTENTION_TYPES
from birthgpt.utils.files import read_json

RECIPE = "relations/pretrain"
"""The configuration of pretraining, if a case names no other."""

EIGHT = (
    "birthplace", "birth_date", "occupation", "employer", "workplace", "field", "study_place", "residence",
)  # fmt: skip
NEW_WORDINGS = f"{relation_corpus.NEW_WORDINGS}.jsonl"

PARTS = ("accuracy", "new_wordings")
"""What is measured of a case: the accuracy in wordings that were trained on, and in new ones."""

CONFIDENCE_MEASURES = {
    "auroc_right_wrong": "AUROC right / wrong",
    "auroc_known_invented": "AUROC known / invented",
    "calibration_error": "ECE",
    "coverage_at_risk": "coverage at 5% risk",
    "accuracy_at_coverage_80": "accuracy at 80% coverage",
    "recalled": "recalled, at most 5% risk promised",
    "risk": "risk there",
    "invented_recalled": "invented names recalled",
}
"""The measures of confidence by their key in `metrics.json`."""

MOST_JUDGED = 400
"""Questions that a model is calibrated on, and as many that the calibration is measured on."""

FEWEST_WRONG = 10
"""So many wrong answers are needed to calibrate a model, and again to measure its calibration."""

Accuracies = dict[str, float]
"""Exact match in percent: that of all questions, and that of each relation."""


@dataclass(frozen=True)
class Scale:
    """How large a comparison is.

    Args:
        people, held_out: synthetic people, and those of them whose questions are not trained on.
        max_train_flops: the budget of a pretraining.
        tokens_per_batch: tokens of an update in pretraining; that of the recipe if not given.
        finetuning_steps: updates of finetuning; those of the recipe if not given.
        validation_size: questions held out of pretraining and finetuning.
        invented_names: names that no line has, in the calibration and again in its measurement.
        model: settings of the model that are not those of the recipe.
    """

    people: int
    held_out: int
    max_train_flops: float
    tokens_per_batch: int | None = None
    finetuning_steps: int | None = None
    validation_size: int = 100
    invented_names: int = 200
    model: Mapping[str, object] = field(default_factory=dict)


SCALES = {
    # seconds: whether everything runs
    "tiny": Scale(
        people=100,
        held_out=50,
        max_train_flops=2e9,
        tokens_per_batch=2048,
        finetuning_steps=2,
        validation_size=0,
        invented_names=40,
        model={
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "vocab_size": 400,
            "ngram_vocab_size": 4096,
        },
    ),  # fmt: skip
    # minutes on two cores
    "small": Scale(300, 100, 6e12),
    # a quarter of an hour on two cores
    "full": Scale(1000, 200, 4e13, validation_size=200),
}


@dataclass(frozen=True)
class Case:
    """One row.

    Args:
        title: the case in words.
        people: settings of `birthgpt people`.
        pretraining: settings of `birthgpt pretrain`.
        budget: the budget of a pretraining, as a multiple of that of the scale.
        config: the configuration of pretraining.
    """

    title: str
    people: Mapping[str, object] = field(default_factory=dict)
    pretraining: Mapping[str, object] = field(default_factory=dict)
    budget: float = 1.0
    config: str = RECIPE


Measured = dict[str, Accuracies | dict[str, float | None]]
"""What a run of a case measured, by part."""


def attention_case(name: str, supports_branches: bool) -> Case:
    """The recipe with another attention type."""
    layout = {} if supports_branches else {"objective_layout": "unrolled"}
    return Case(f"{name} attention", pretraining={"attention_type": name, **OF_TYPE.get(name, {}), **layout})


CASES = {
    "softmax": Case("the recipe"),
    "unrolled": Case("the recipe, unrolled", pretraining={"objective_layout": "unrolled"}),
    "one_wording": Case("one wording in the lines", people={"wordings": 1}),
    "leave_out_known": Case("known targets left out of the loss", pretraining={"leave_out_known": 0.9}),
    # a token of BPE has some four characters: n-grams of two or three of them would tell no names apart
    "characters": Case(
        "characters instead of BPE, n-grams of 4, 6 and 8",
        pretraining={"tokenizer_type": "character", "block_size": 1024, "ngram_orders": [4, 6, 8]},
    ),
    **{
        name: attention_case(name, kind.supports_branches)
        for name, kind in ATTENTION_TYPES.items()
        if name != "softmax"
    },
}
"""The cases on synthetic people by name."""

WIKI_CASES = {
    "wiki": Case("wiki.txt: birthplaces, and seven relations that patterns find"),
    "wiki_one_layer": Case(
        "wiki.txt, one layer and twice the budget", pretraining={"num_hidden_layers": 1}, budget=2.0
    ),
    "wiki_gaps": Case(
        "wiki.txt, marks as cues, tokens between name and cue, four times the budget",
        pretraining={"cue_marks": True, "max_gap_tokens": 2},
        budget=4.0,
    ),
    "wiki_on_a_gpu": Case(
        "wiki.txt, two layers of width 256, tokens between name and cue, 25 times the budget",
        budget=24.55,
        config="relations/pretrain_gpu",
    ),
    # many lines tell of a politician or a writer: words of many lines are answers here
    "wiki_frequent_words": Case("wiki.txt, frequent words asked for as often", pretraining={"lower_case_frequency": 1}),
}
"""The cases on wiki.txt."""


def measure_people(lab: Lab, scale: Scale, name: str) -> Measured:
    """The accuracies of a case on synthetic people: in trained wordings, and in new ones."""
    case = CASES[name]
    wordings = {"wordings": 5, "biographies_per_person": 5} | case.people
    folder = lab.run(
        "people", "people" + "".join(f"_{key}_{value}" for key, value in case.people.items()),
        people=scale.people, held_out=scale.held_out, relations=EIGHT, **wordings,
    )  # fmt: skip
    lines, questions = folder / relation_corpus.BIOGRAPHIES, folder / QUESTIONS_TRAIN
    model = train(lab, scale, name, lines, questions, case)
    return {
        "accuracy": accuracies(lab, model, folder / QUESTIONS_DEV),
        "new_wordings": accuracies(lab, model, folder / NEW_WORDINGS),
        "confidence": confidence(lab, scale, model, lines, folder / QUESTIONS_DEV),
    }


def measure_wiki(lab: Lab, scale: Scale, name: str, folder: Path) -> Measured:
    """The accuracies on the questions that patterns find in wiki.txt, and on the birthplaces of birth_dev.tsv.

    Nobody who is asked about, and nobody of birth_test_inputs.tsv, is trained on.
    """
    lines, dev = folder / "wiki.txt", folder / "birth_dev.tsv"
    held_out = (dev, folder / "birth_test_inputs.tsv")
    extracted = lab.run("extract", "extracted", corpus_file=lines, held_out_file=held_out)
    asked_elsewhere = {line.split("\t")[0].strip() for file in held_out for line in read_lines(file)}
    # the extraction holds out more people than these files
    people = {name_key(row["name"]) for row in read_questions(extracted / QUESTIONS_DEV)}
    birthplaces = [
        row
        for row in read_birthplaces(folder / "birth_places_train.tsv")
        if row["question"] not in asked_elsewhere and name_key(row["name"]) not in people
    ]
    questions = lab.write_questions("wiki_train", read_questions(extracted / QUESTIONS_TRAIN) + birthplaces)
    asked = read_questions(extracted / QUESTIONS_DEV) + read_birthplaces(dev)
    dev_questions = lab.write_questions("wiki_dev", asked)
    model = train(lab, scale, name, lines, questions, WIKI_CASES[name])
    return {
        "accuracy": accuracies(lab, model, dev_questions),
        "new_wordings": accuracies(lab, model, extracted / NEW_WORDINGS),
    }


def read_lines(path: Path) -> list[str]:
    """The lines of a file that are not empty."""
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def read_birthplaces(path: Path) -> list[dict[str, str]]:
    """The questions of a TSV about birthplaces, with their names."""
    return [birthplace_row(*line.split("\t")) for line in read_lines(path)]


def birthplace_row(question: str, answer: str) -> dict[str, str]:
    """`Where was X born?` as a row like those of the extracted questions."""
    name = question.strip().removeprefix("Where was ").removesuffix(" born?")
    return {"question": question.strip(), "answer": answer.strip(), "relation": "birthplace", "name": name}


def train(lab: Lab, scale: Scale, name: str, lines: Path, questions: Path, case: Case) -> Path:
    """The recipe of configs/relations: pretraining on the lines and some questions, finetuning on the questions."""
    batch = {"tokens_per_batch": scale.tokens_per_batch} if scale.tokens_per_batch else {}
    shared = {"validation_size": scale.validation_size, "save_steps": 0}
    pretrained = lab.run(
        "pretrain", f"pretrained_{name}", config=case.config, train_file=lines, question_file=questions,
        max_train_flops=scale.max_train_flops * case.budget, **shared, **{**batch, **scale.model, **case.pretraining},
    )  # fmt: skip
    steps = {"max_train_steps": scale.finetuning_steps} if scale.finetuning_steps else {}
    return lab.run(
        "finetune", f"finetuned_{name}", config="relations/finetune", model_name_or_path=pretrained,
        train_file=questions, **shared, **steps,
    )  # fmt: skip


def accuracies(lab: Lab, model: Path, questions: Path) -> Accuracies:
    """The exact match of all questions of a file, and of each relation."""
    answers, rows = lab.answers(model, questions), read_questions(questions)
    right: dict[str, list[bool]] = {}
    for answer, row in zip(answers, rows, strict=True):
        for key in ("all", row["relation"]):
            right.setdefault(key, []).append(answer == row["answer"])
    return {key: percent_of(found) for key, found in right.items()}


def confidence(lab: Lab, scale: Scale, model: Path, lines: Path, questions: Path) -> dict[str, float | None]:
    """How well a model knows what it knows: calibrated on half of the held-out people, measured on the others.

    Nothing is measured where fewer than `FEWEST_WRONG` answers of a half are wrong.
    """
    rows = read_questions(questions)
    wrong = [answer != row["answer"] for answer, row in zip(lab.answers(model, questions), rows, strict=True)]
    judged = [sorted(part[:MOST_JUDGED]) for part in divide_people(rows, 2, lab.seed)]
    if any(not FEWEST_WRONG <= sum(wrong[index] for index in part) < len(part) for part in judged):
        return {}
    halves = [
        lab.write_questions(f"{name}_{model.name}", [rows[index] for index in part])
        for name, part in zip(("calibration", "measurement"), judged, strict=True)
    ]
    common = {"corpus_file": lines, "invented_names": scale.invented_names}
    lab.run(
        "calibrate", f"calibration_{model.name}", writes_folder=False,
        model_name_or_path=model, question_file=halves[0], **common,
    )  # fmt: skip
    folder = lab.run(
        "evaluate", f"confidence_{model.name}", seeded=False, model_name_or_path=model, question_file=halves[1],
        max_risk=0.05, **common,
    )  # fmt: skip
    found = read_json(folder / "metrics.json")["confidence"]
    return {name: value_of(found[name]) for name in CONFIDENCE_MEASURES if name in found}


def value_of(entry: object) -> float | None:
    """A measure without its interval."""
    return entry["value"] if isinstance(entry, dict) else entry


Measure = Callable[[Lab, Scale], Measured]


def find_measure(name: str, wiki_folder: Path | None) -> Measure:
    """How a case is measured.

    Raises:
        ValueError: the case on wiki.txt has no folder.
    """
    if name not in WIKI_CASES:
        return lambda lab, scale: measure_people(lab, scale, name)
    if wiki_folder is None:
        raise ValueError(f"{name} needs --wiki_folder, with wiki.txt, birth_places_train.tsv and birth_dev.tsv")
    return lambda lab, scale: measure_wiki(lab, scale, name, wiki_folder)
