"""Finetuning on one relation, edited facts and forgotten facts: what else changes.

Hypothesis: a finetuning that asks for one relation, or changes a few answers, changes other answers too.

Set-up: pretraining on forty lines a person in different wordings and orders, by salient spans with cues, then
finetuning on all relations of half of the people. From there: finetuning on birthplaces alone; on other birthplaces for
a fifth of this half (edited), alone or with the right answers of everybody else; or on `unknown` for them (forgotten).
One row asks only for birthplaces from the start.

Measured: birthplaces and other relations of the half that no finetuning asks about; of the chosen fifth, the new
birthplace in the trained wording and in three others, the old birthplace, and the other relations; and the birthplaces
of everybody else in the half of the finetuning.

Published: no figure for this experiment in the three papers.
"""

import random
from pathlib import Path

from benchmarks.lab import QUESTIONS_DEV, QUESTIONS_TRAIN, Question, read_questions
from benchmarks.laws.lab import LawLab
from benchmarks.laws.law import Law, Measures
from benchmarks.laws.wording import DIVERSE, RECALLED, pretrained
from birthgpt.data.synthetic.templates import NAME, builtin_templates

BEFORE, ONE_AFTER, ONE_ONLY = "before", "one_after", "one_only"
EDITED, REHEARSED, FORGOTTEN = "edited", "edited_rehearsed", "forgotten"
PLACE = "birthplace"
UNKNOWN = "unknown"


class Cast:
    """The people of the finetuning: those whose birthplace is changed, and everybody else.

    Args:
        train: the questions about them.
        seed: the seed of who is chosen, and of the new places.
    """

    def __init__(self, train: list[Question], seed: int):
        rng = random.Random(f"{seed}-edits")
        self.train = train
        self.places = [row for row in train if row["relation"] == PLACE]
        self.chosen = rng.sample(self.places, max(1, len(self.places) // 5))
        names = {row["name"] for row in self.chosen}
        self.others = [row for row in self.places if row["name"] not in names]
        self.other_relations = [row for row in train if row["name"] in names and row["relation"] != PLACE]
        places = sorted({row["answer"] for row in self.places})
        self.edits = [
            {**row, "answer": rng.choice([place for place in places if place != row["answer"]])} for row in self.chosen
        ]

    def reworded(self) -> list[Question]:
        """The edits in the wordings of their question that were not trained."""
        (relation,) = builtin_templates().select([PLACE])
        questions = ((row, wording.fill({NAME: row["name"]})) for row in self.edits for wording in relation.questions)
        return [{**row, "question": question} for row, question in questions if question != row["question"]]

    def forgotten(self) -> list[Question]:
        """The chosen questions with the answer that nobody knows."""
        return [{**row, "answer": UNKNOWN} for row in self.chosen]


def answering(lab: LawLab, row: str, people: Path, model: Path, cast: Cast) -> Path:
    """The model of a row."""
    # all rows hold out the same people, so that the last finetuning is what differs
    if row == ONE_ONLY:
        places = lab.write_questions("places", cast.places)
        held_out = lab.sizes.validation_size // len(lab.sizes.relations)
        return lab.finetune(f"{RECALLED}_{DIVERSE}_places_only", model, places, validation_size=held_out)
    before = lab.finetune(f"{RECALLED}_{DIVERSE}_finetuned", model, people / QUESTIONS_TRAIN)
    if row == BEFORE:
        return before
    changed = {
        ONE_AFTER: cast.places,
        EDITED: cast.edits,
        REHEARSED: [*cast.edits, *cast.edits, *cast.others, *cast.other_relations],
        FORGOTTEN: cast.forgotten(),
    }[row]
    questions = lab.write_questions(f"editing_{row}", changed)
    steps = max(1, lab.sizes.finetuning_steps // 4)
    return lab.finetune(f"{RECALLED}_{DIVERSE}_{row}", before, questions, max_train_steps=steps, validation_size=0)


def measure(lab: LawLab, row: str) -> Measures:
    """The accuracies after one kind of change."""
    people, model = pretrained(lab, RECALLED, DIVERSE)
    cast = Cast(read_questions(people / QUESTIONS_TRAIN), lab.seed)
    model = answering(lab, row, people, model, cast)
    held_out = people / QUESTIONS_DEV
    others = [relation for relation in lab.sizes.relations if relation != PLACE]
    asked = {
        "new": cast.edits,
        "new_reworded": cast.reworded(),
        "old": cast.chosen,
        "chosen_relations": cast.other_relations,
        "others": cast.others,
    }
    files = {name: lab.write_questions(f"asked_{name}", rows) for name, rows in asked.items()}
    return {
        "held_out_places": lab.accuracy(model, held_out, [PLACE]),
        "held_out_relations": lab.accuracy(model, held_out, others),
        **{name: lab.accuracy(model, file) for name, file in files.items()},
    }


LAW = Law(
    text=__doc__,
    measures={
        "held_out_places": "birthplaces, other half (%)",
        "held_out_relations": "other relations, other half (%)",
        "new": "new place (%)",
        "new_reworded": "new place, other wordings (%)",
        "old": "old place (%)",
        "chosen_relations": "other relations of the fifth (%)",
        "others": "places of everybody else (%)",
    },
    rows={
        BEFORE: "all relations, nothing changed",
        ONE_AFTER: "then birthplaces alone",
        ONE_ONLY: "birthplaces alone from the start",
        EDITED: "a fifth edited",
        REHEARSED: "a fifth edited, with the answers of everybody else",
        FORGOTTEN: "a fifth forgotten",
    },
    published={},
    measure=measure,
)
