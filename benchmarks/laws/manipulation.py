"""Classification and comparison: a stored fact must be written out before something can be said about it.

Hypothesis: a model that answers when people were born cannot say whether the month is even, or who was born first,
about people whose questions it has never seen, unless it writes the dates first.

Set-up: pretraining on forty lines a person in different wordings and orders, by salient spans with cues. Then
finetuning on half of the people: when they were born, whether in an even month, and for pairs of them who was born
before whom. The answer is `yes` or `no`, alone or behind the dates, as in `May 4, 1950: no`. All pairs are within one
half of the people.

Measured: right verdicts about the other half, and right dates. A guess is right for half of the verdicts.

Published: 2309.14402 reports verdicts near those of a guess without the dates, and good ones with them; it has no one
figure for these two questions.
"""

import random
from datetime import datetime
from pathlib import Path

from benchmarks.lab import QUESTIONS_DEV, QUESTIONS_TRAIN, Question, percent_of, read_facts, read_questions
from benchmarks.laws.lab import LawLab
from benchmarks.laws.law import Law, Measures
from benchmarks.laws.wording import DIVERSE, RECALLED, pretrained

DIRECT, WRITTEN = "direct", "written"
DATE, EVEN, BEFORE = "birth_date", "even_month", "born_before"

PAIRS = 2
"""Comparisons of each person with another one."""


def manipulations(dates: dict[str, datetime], written: bool, seed: int) -> list[Question]:
    """The questions about the dates of people."""
    rng = random.Random(f"{seed}-pairs")
    names = list(dates)
    rows = []

    def add(question: str, relation: str, verdict: bool, *people: str) -> None:
        facts = " and ".join(written_date(dates[name]) for name in people)
        answer = "yes" if verdict else "no"
        rows.append(
            {
                "question": question,
                "answer": f"{facts}: {answer}" if written else answer,
                "name": people[0],
                "relation": relation,
            }
        )

    for name in names:
        add(f"Was {name} born in an even month?", EVEN, dates[name].month % 2 == 0, name)
        for other in rng.sample([another for another in names if another != name], PAIRS):
            add(f"Was {name} born before {other}?", BEFORE, dates[name] < dates[other], name, other)
    return rows


def written_date(date: datetime) -> str:
    """A date as biographies write it: `May 4, 1950`."""
    return f"{date:%B} {date.day}, {date.year}"


def questions_about(lab: LawLab, people: Path, file: str, row: str) -> Path:
    """The dates of people, and what is asked about them, as a file."""
    asked = [question for question in read_questions(people / file) if question["relation"] == DATE]
    dates = {name: datetime.strptime(facts[DATE], "%B %d, %Y") for name, facts in read_facts(people / file).items()}
    questions = asked + manipulations(dates, row == WRITTEN, lab.seed)
    return lab.write_questions(f"{row}_{Path(file).stem}", questions)


def measure(lab: LawLab, row: str) -> Measures:
    """The accuracies of verdicts, with or without the dates before them."""
    people, model = pretrained(lab, RECALLED, DIVERSE)
    trained, held_out = (questions_about(lab, people, file, row) for file in (QUESTIONS_TRAIN, QUESTIONS_DEV))
    answering = lab.finetune(f"{RECALLED}_{DIVERSE}_{row}", model, trained)
    found = list(zip(lab.answers(answering, held_out), read_questions(held_out), strict=True))
    verdicts = {
        relation: percent_of(
            answer.split()[-1:] == question["answer"].split()[-1:]
            for answer, question in found
            if question["relation"] == relation
        )
        for relation in (EVEN, BEFORE)
    }
    return verdicts | {DATE: lab.accuracy(answering, held_out, [DATE])}


LAW = Law(
    text=__doc__,
    measures={EVEN: "even month (%)", BEFORE: "born before (%)", DATE: "the date itself (%)"},
    rows={DIRECT: "the verdict alone", WRITTEN: "the dates, then the verdict"},
    published={DIRECT: "near a guess", WRITTEN: "good"},
    measure=measure,
)
