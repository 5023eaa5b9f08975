"""Questions from the start: mixed into pretraining, they teach how to store facts; afterwards it may be too late.

Hypothesis: if questions about half of the people are mixed into the pretraining, the facts of the other half can be
asked for even if each is told in one wording.

Set-up: language modelling on one line a person, or on forty in different wordings and orders. The questions about half
of the people are asked from the start, in a share of the batches, or afterwards in a finetuning. The lines are read as
often in both cases, so mixing costs more.

Measured: right answers about the other half, and about the half with questions.

Published: 2309.14316, section 3, where four fifths of what is read are questions.
"""

from benchmarks.lab import QUESTIONS_DEV, QUESTIONS_TRAIN
from benchmarks.laws.lab import LawLab
from benchmarks.laws.law import Law, Measures
from benchmarks.laws.wording import DIVERSE, WORDINGS, pretrained
from birthgpt.data.synthetic.relation_corpus import BIOGRAPHIES

LINES = ("single", DIVERSE)
AFTERWARDS, FROM_START = "afterwards", "from_start"


def measure(lab: LawLab, row: str) -> Measures:
    """The accuracies for one wording, with questions from the start or afterwards."""
    wording, when = row.split("/")
    if when == AFTERWARDS:
        people, model = pretrained(lab, "lm", wording)
        answering = lab.finetune(f"lm_{wording}_finetuned", model, people / QUESTIONS_TRAIN)
    else:
        people = lab.people(f"people_{wording}", **WORDINGS[wording][1])
        ratio = lab.sizes.question_ratio
        answering = lab.pretrain(
            f"lm_{wording}_mixed",
            people / BIOGRAPHIES,
            question_file=people / QUESTIONS_TRAIN,
            question_ratio=ratio,
            max_train_flops=lab.sizes.max_train_flops / (1 - ratio),
        )
    files = {"held_out": QUESTIONS_DEV, "trained": QUESTIONS_TRAIN}
    return {name: lab.accuracy(answering, people / file) for name, file in files.items()}


LAW = Law(
    text=__doc__,
    measures={"held_out": "other half (%)", "trained": "half with questions (%)"},
    rows={
        f"{wording}/{when}": f"{WORDINGS[wording][0]}, questions {when.replace('_', ' the ')}"
        for wording in LINES
        for when in (AFTERWARDS, FROM_START)
    },
    published={"single/afterwards": "9.7", "single/from_start": "86.6"},
    measure=measure,
)
