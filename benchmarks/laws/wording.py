"""Wording: a fact that is always told in the same words can be stored, and cannot be asked for.

Hypothesis: a model answers questions about people whose questions it has never seen only if their biographies were
worded in several ways. Otherwise a value is stored behind the words before it, and not behind the name.

Set-up: pretraining on the lines of all people by language modelling, with the same cost for every wording; then
finetuning on questions about half of the people. The same with salient spans with cues, where every value is recalled
from the name alone. There is one line a person, or five in different wordings, in different orders of the sentences,
or both, or forty; sentences after the first call their subject by a pronoun or by the full name.

Measured: right answers about the other half; right answers about the half of the finetuning, with the questions that
are held out to choose the weights; and values that the pretrained model continues a line of its own corpus with, token
by token.

Published: 2309.14316, with 100,000 people and six relations.
"""

from pathlib import Path
from statistics import fmean

from benchmarks.lab import QUESTIONS_DEV, QUESTIONS_TRAIN, Facts, read_facts
from benchmarks.laws.bits import fact_losses
from benchmarks.laws.lab import LawLab
from benchmarks.laws.law import Law, Measures
from birthgpt.commands.loading import load_model_and_tokenizer
from birthgpt.data.corpus import load_corpus
from birthgpt.data.synthetic.relation_corpus import BIOGRAPHIES

SINGLE = {"biographies_per_person": 1, "sentence_order": "fixed"}
FULL_NAME = {"subject": "full_name"}

WORDINGS = {
    "single": ("one line", SINGLE),
    "single_name": ("one line, full name", {**SINGLE, **FULL_NAME}),
    "orders": ("five orders", {"biographies_per_person": 5, "wordings": 1}),
    "wordings": ("five wordings", {"biographies_per_person": 5, "sentence_order": "fixed"}),
    "both": ("five wordings and orders", {"biographies_per_person": 5}),
    "many": ("forty wordings and orders", {"biographies_per_person": 40}),
    "both_name": ("five wordings and orders, full name", {"biographies_per_person": 5, **FULL_NAME}),
}
"""Key → what the lines about a person are, and the settings of `birthgpt people`."""

DIVERSE = "many"
"""The wording from which the other laws start."""

RECALLED = "spans"
"""The objective from which laws start that need facts which can be asked for: in small, language modelling has few."""

OBJECTIVES: dict[str, tuple[str, dict[str, object]]] = {
    "lm": ("language modelling", {}),
    "spans": (
        "salient spans with cues",
        # the recipe for several relations, at the size and the cost of the language model
        {"config": "relations/pretrain", "objective": "salient_spans", "ngram_orders": ()},
    ),
}
"""Key → the objective, and what it changes in a pretraining."""

SAMPLE = 400
"""Lines that are read for what is stored."""


def pretrained(lab: LawLab, objective: str, wording: str) -> tuple[Path, Path]:
    """The folder of the people, and the model that is pretrained on their lines."""
    people = lab.people(f"people_{wording}", **WORDINGS[wording][1])
    return people, lab.pretrain(f"{objective}_{wording}", people / BIOGRAPHIES, **OBJECTIVES[objective][1])


def all_facts(people: Path) -> Facts:
    """The facts of all people with a line."""
    return read_facts(people / QUESTIONS_TRAIN) | read_facts(people / QUESTIONS_DEV)


def stored(model_folder: Path, people: Path) -> float:
    """How many values a model continues the lines of its corpus with, in percent."""
    model, tokenizer = load_model_and_tokenizer(str(model_folder))
    facts = all_facts(people)
    rows = list(load_corpus(str(people / BIOGRAPHIES)))[:SAMPLE]
    bounds = []
    for row in rows:
        places = [(row["text"].index(answer, len(row["name"])), answer) for answer in facts[row["name"]].values()]
        bounds.append([(start, start + len(answer)) for start, answer in places])
    losses = fact_losses(model, tokenizer, [row["text"] for row in rows], bounds)
    return 100 * fmean(loss.is_greedy for line in losses for loss in line)


def measure(lab: LawLab, row: str) -> Measures:
    """The accuracies for one objective and one wording."""
    objective, wording = row.split("/")
    people, model = pretrained(lab, objective, wording)
    answering = lab.finetune(f"{objective}_{wording}_finetuned", model, people / QUESTIONS_TRAIN)
    return {
        "held_out": lab.accuracy(answering, people / QUESTIONS_DEV),
        "trained": lab.accuracy(answering, people / QUESTIONS_TRAIN),
        # salient spans never read a whole line
        "stored": stored(model, people) if objective == "lm" else None,
    }


LAW = Law(
    text=__doc__,
    measures={
        "held_out": "other half (%)",
        "trained": "half of the finetuning (%)",
        "stored": "continued lines (%)",
    },
    rows={
        f"{objective}/{wording}": f"{name}, {lines}"
        for objective, (name, _) in OBJECTIVES.items()
        for wording, (lines, _) in WORDINGS.items()
    },
    published={"lm/single": "9.7", "lm/orders": "70", "lm/both": "96.6"},
    measure=measure,
)
