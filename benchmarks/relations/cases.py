"""What is compared: the recipe of configs/relations on other text, other wordings, other models."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.lab import QUESTIONS_DEV, QUESTIONS_TRAIN, Lab, read_questions
from birthgpt.data.synthetic import relation_corpus
from birthgpt.model.attention_types import ATTENTION_TYPES

EIGHT = (
    "birthplace", "birth_date", "occupation", "employer", "workplace", "field", "study_place", "residence",
)  # fmt: skip
NEW_WORDINGS = f"{relation_corpus.NEW_WORDINGS}.jsonl"

PARTS = ("accuracy", "new_wordings")
"""What is measured of a case: the accuracy in wordings that were trained on, and in new ones."""

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
        model: settings of the model that are not those of the recipe.
    """

    people: int
    held_out: int
    max_train_flops: float
    tokens_per_batch: int | None = None
    finetuning_steps: int | None = None
    validation_size: int = 100
    model: Mapping[str, object] = field(default_factory=dict)


SCALES = {
    # seconds: whether everything runs
    "tiny": Scale(
        100,
        50,
        2e9,
        2048,
        2,
        0,
        {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 400},
    ),  # fmt: skip
    # minutes on two cores
    "small": Scale(300, 100, 1.2e13),
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
    """

    title: str
    people: Mapping[str, object] = field(default_factory=dict)
    pretraining: Mapping[str, object] = field(default_factory=dict)


def attention_case(name: str, supports_branches: bool) -> Case:
    """The recipe with another attention type."""
    layout = {} if supports_branches else {"objective_layout": "unrolled"}
    return Case(f"{name} attention", pretraining={"attention_type": name, **layout})


CASES = {
    "softmax": Case("the recipe"),
    "unrolled": Case("the recipe, unrolled", pretraining={"objective_layout": "unrolled"}),
    "one_wording": Case("one wording in the lines", people={"wordings": 1}),
    "characters": Case("characters instead of BPE", pretraining={"tokenizer_type": "character", "block_size": 1024}),
    **{
        name: attention_case(name, kind.supports_branches)
        for name, kind in ATTENTION_TYPES.items()
        if name != "softmax"
    },
}
"""The cases on synthetic people by name."""

WIKI = "wiki"
"""The case on wiki.txt, whose questions are found by patterns."""


def measure_people(lab: Lab, scale: Scale, name: str) -> dict[str, Accuracies]:
    """The accuracies of a case on synthetic people: in trained wordings, and in new ones."""
    case = CASES[name]
    wordings = {"wordings": 5, "biographies_per_person": 5} | case.people
    folder = lab.run(
        "people", "people" + "".join(f"_{key}_{value}" for key, value in case.people.items()),
        people=scale.people, held_out=scale.held_out, relations=EIGHT, **wordings,
    )  # fmt: skip
    lines, questions = folder / relation_corpus.BIOGRAPHIES, folder / QUESTIONS_TRAIN
    model = train(lab, scale, name, lines, questions, **case.pretraining)
    return {
        "accuracy": accuracies(lab, model, folder / QUESTIONS_DEV),
        "new_wordings": accuracies(lab, model, folder / NEW_WORDINGS),
    }


def measure_wiki(lab: Lab, scale: Scale, folder: Path) -> dict[str, Accuracies]:
    """The accuracies on the questions that patterns find in wiki.txt, and on the birthplaces of birth_dev.tsv.

    Nobody of birth_dev.tsv and birth_test_inputs.tsv is trained on.
    """
    lines, dev = folder / "wiki.txt", folder / "birth_dev.tsv"
    held_out = (dev, folder / "birth_test_inputs.tsv")
    extracted = lab.run("extract", "extracted", corpus_file=lines, held_out_file=held_out)
    asked_elsewhere = {line.split("\t")[0].strip() for file in held_out for line in read_lines(file)}
    pairs = [line.split("\t") for line in read_lines(folder / "birth_places_train.tsv")]
    birthplaces = [birthplace_row(*pair) for pair in pairs if pair[0] not in asked_elsewhere]
    questions = lab.write_questions("wiki_train", read_questions(extracted / QUESTIONS_TRAIN) + birthplaces)
    dev_rows = [birthplace_row(*line.split("\t")) for line in read_lines(dev)]
    dev_questions = lab.write_questions("wiki_dev", read_questions(extracted / QUESTIONS_DEV) + dev_rows)
    model = train(lab, scale, WIKI, lines, questions)
    return {
        "accuracy": accuracies(lab, model, dev_questions),
        "new_wordings": accuracies(lab, model, extracted / NEW_WORDINGS),
    }


def read_lines(path: Path) -> list[str]:
    """The lines of a file that are not empty."""
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def birthplace_row(question: str, answer: str) -> dict[str, str]:
    """`Where was X born?` as a row like those of the extracted questions."""
    name = question.strip().removeprefix("Where was ").removesuffix(" born?")
    return {"question": question.strip(), "answer": answer.strip(), "relation": "birthplace", "name": name}


def train(lab: Lab, scale: Scale, name: str, lines: Path, questions: Path, **pretraining: object) -> Path:
    """The recipe of configs/relations: pretraining on the lines and some questions, finetuning on the questions."""
    batch = {"tokens_per_batch": scale.tokens_per_batch} if scale.tokens_per_batch else {}
    shared = {"validation_size": scale.validation_size, "save_steps": 0}
    pretrained = lab.run(
        "pretrain", f"pretrained_{name}", config="relations/pretrain", train_file=lines, question_file=questions,
        max_train_flops=scale.max_train_flops, **shared, **batch, **scale.model, **pretraining,
    )  # fmt: skip
    steps = {"max_train_steps": scale.finetuning_steps} if scale.finetuning_steps else {}
    return lab.run(
        "finetune", f"finetuned_{name}", config="relations/finetune", model_name_or_path=pretrained,
        train_file=questions, eval_steps=0, **shared, **steps,
    )  # fmt: skip


def accuracies(lab: Lab, model: Path, questions: Path) -> Accuracies:
    """The exact match of all questions of a file, and of each relation."""
    answers, rows = lab.answers(model, questions), read_questions(questions)
    right: dict[str, list[bool]] = {}
    for answer, row in zip(answers, rows, strict=True):
        for key in ("all", row["relation"]):
            right.setdefault(key, []).append(answer == row["answer"])
    return {key: 100 * sum(found) / len(found) for key, found in right.items()}


Measure = Callable[[Lab, Scale], dict[str, Accuracies]]


def find_measure(name: str, wiki_folder: Path | None) -> Measure:
    """How a case is measured.

    Raises:
        ValueError: the case on wiki.txt has no folder.
    """
    if name != WIKI:
        return lambda lab, scale: measure_people(lab, scale, name)
    if wiki_folder is None:
        raise ValueError("wiki needs --wiki_folder, with wiki.txt, birth_places_train.tsv and birth_dev.tsv")
    return lambda lab, scale: measure_wiki(lab, scale, wiki_folder)
