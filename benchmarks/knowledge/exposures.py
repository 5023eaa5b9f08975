"""How often a line must be read, and what is left of an answer when the line is not there.

The people who are asked about are divided into groups, whose lines are in the corpus 0, 1, 2, 4, 8 and 16 times. Two
models are trained. In the corpus of the second one, the order of the groups is turned around: who is left out for one
model has the most lines for the other. The questions about these people are asked by no training. An exposure is one
pass over one copy of a line.
"""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.knowledge.people import Person, Sizes, invent_people, most_common, train, write_lines, write_questions
from benchmarks.lab import Lab
from birthgpt.commands.loading import load_model_and_tokenizer
from birthgpt.evaluation.answering import answer_questions

COPIES = (0, 1, 2, 4, 8, 16)
PLACES, PARTS = 40, 30


def population(sizes: Sizes, seed: int) -> tuple[list[Person], list[Person]]:
    """The people who are asked about, and those who are taught."""
    people = invent_people(sizes.asked + sizes.taught, PLACES, PARTS, seed)
    return people[: sizes.asked], people[sizes.asked :]


def copies_of(asked: Sequence[Person], taught: Sequence[Person], mirrored: bool) -> dict[Person, int]:
    """How many copies of a line each person has in a corpus; the taught people have at least one."""
    order = COPIES[::-1] if mirrored else COPIES
    copies = {person: order[index % len(order)] for index, person in enumerate(asked)}
    return copies | {person: COPIES[1 + index % (len(COPIES) - 1)] for index, person in enumerate(taught)}


def trained_model(lab: Lab, sizes: Sizes, mirrored: bool) -> Path:
    """The model of one of the two corpora."""
    asked, taught = population(sizes, lab.seed)
    name = "mirrored" if mirrored else "first"
    lines = write_lines(lab.folder / f"{name}.txt", copies_of(asked, taught, mirrored))
    questions = write_questions(lab.folder / "taught.tsv", taught)
    return train(lab, name, lines, questions, sizes.epochs, sizes.steps)


def measure(lab: Lab, sizes: Sizes) -> dict:
    """The accuracy by exposures, and of the people who are left out."""
    asked, taught = population(sizes, lab.seed)
    guess = most_common([person.place for person in taught])[0]
    found: dict[int, dict[Person, str]] = {count: {} for count in COPIES}
    for mirrored in (False, True):
        member = load_model_and_tokenizer(str(trained_model(lab, sizes, mirrored)))
        answers = answer_questions(*member, [person.question for person in asked])
        copies = copies_of(asked, taught, mirrored)
        for person, answer in zip(asked, answers, strict=True):
            # nobody is in the same group of both corpora: the number of groups is even
            assert person not in found[copies[person]]
            found[copies[person]][person] = answer.text
    right = {count: {person for person, text in rows.items() if text == person.place} for count, rows in found.items()}
    left_out, most_read = found[COPIES[0]], found[COPIES[-1]]
    # the same people, for the one model left out and for the other read most
    assert left_out.keys() == most_read.keys()
    return {
        "rows": [
            {"exposures": count * sizes.epochs, "people": len(rows), "correct": len(right[count])}
            for count, rows in found.items()
        ],
        "guess": guess,
        "right_by_the_guess": sum(person.place == guess for person in asked),
        "asked": len(asked),
        "left_out_answered_with_the_guess": sum(text == guess for text in left_out.values()),
        "left_out_right_by_the_guess": sum(person.place == guess for person in left_out),
    }
