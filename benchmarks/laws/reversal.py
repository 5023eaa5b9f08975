"""Reversed questions: who a fact is about cannot be asked, if the name always came before the fact.

Hypothesis: a model that read `Name … was born in X on D` cannot answer `Who was born in X on D?` about people whose
reversed question it has never seen, however often it read their lines and however well it answers where they were
born. It can if some lines tell the name after the facts.

Set-up: language modelling on forty lines a person in different wordings and orders, then finetuning on reversed
questions about half of the people. In the last row, a fifth of the lines has the name behind its facts; the cost is
the same.

Measured: right names of the other half, right first tokens of them, right names of the half of the finetuning; and the
most common first token of the names, which is what a guess reaches.

Published: 2309.14402: "virtually 0%, regardless of the prompts".
"""

import random
from collections import Counter
from itertools import cycle, islice
from pathlib import Path

from benchmarks.lab import QUESTIONS_DEV, QUESTIONS_TRAIN, Question, percent_of, read_facts, read_questions
from benchmarks.laws.lab import LawLab
from benchmarks.laws.law import Law, Measures
from benchmarks.laws.wording import DIVERSE, WORDINGS, all_facts, pretrained
from birthgpt.commands.loading import load_tokenizer
from birthgpt.data.synthetic.relation_corpus import BIOGRAPHIES

FORWARD, BOTH_WAYS = "forward", "both_ways"

NAME_LAST = (
    "Born in {birthplace} on {birth_date}: {name}.",
    "In {birthplace}, on {birth_date}, the parents of {name} welcomed a child.",
    "The native of {birthplace} who was born on {birth_date} is {name}.",
)
"""Lines with the name behind its facts."""


def reversed_questions(questions: Path) -> list[Question]:
    """A question for each person of a file, whose answer is the name."""
    return [
        {
            "question": f"Who was born in {facts['birthplace']} on {facts['birth_date']}?",
            "answer": name,
            "relation": "name",
        }
        for name, facts in read_facts(questions).items()
    ]


def lines_both_ways(lab: LawLab, people: Path) -> Path:
    """The lines of all people, shuffled with lines whose name is behind its facts."""
    lines = (people / BIOGRAPHIES).read_text(encoding="utf-8").splitlines()
    facts = all_facts(people)
    count = max(1, len(lines) // (4 * len(facts)))
    for name, values in facts.items():
        lines += [template.format(name=name, **values) for template in islice(cycle(NAME_LAST), count)]
    random.Random(lab.seed).shuffle(lines)
    path = lab.folder / "lines_both_ways.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def first_tokens(model: Path, texts: list[str]) -> list[int]:
    """The first token of each text; −1 for an empty one."""
    return [tokens[0] if tokens else -1 for tokens in load_tokenizer(str(model))(texts)["input_ids"]]


def measure(lab: LawLab, row: str) -> Measures:
    """The accuracies on names, for lines in one direction or in both."""
    people = lab.people(f"people_{DIVERSE}", **WORDINGS[DIVERSE][1])
    if row == FORWARD:
        _, model = pretrained(lab, "lm", DIVERSE)
    else:
        model = lab.pretrain("lm_both_ways", lines_both_ways(lab, people))
    trained, held_out = (
        lab.write_questions(f"reversed_{part}", reversed_questions(people / file))
        for part, file in (("train", QUESTIONS_TRAIN), ("dev", QUESTIONS_DEV))
    )
    # the last weights: held-out names are as wrong at all times, and the first weights would be the best
    answering = lab.finetune(f"{model.name}_reversed", model, trained, validation_size=0)
    expected = first_tokens(answering, [question["answer"] for question in read_questions(held_out)])
    given = first_tokens(answering, lab.answers(answering, held_out))
    return {
        "whole": lab.accuracy(answering, held_out),
        "first_token": percent_of(one == other for one, other in zip(expected, given, strict=True)),
        "trained": lab.accuracy(answering, trained),
        "guess": 100 * Counter(expected).most_common(1)[0][1] / len(expected),
    }


LAW = Law(
    text=__doc__,
    measures={
        "whole": "names of the other half (%)",
        "first_token": "first tokens (%)",
        "trained": "half of the finetuning (%)",
        "guess": "first tokens by a guess (%)",
    },
    rows={FORWARD: "name first in every line", BOTH_WAYS: "name also last"},
    published={FORWARD: "about 0"},
    measure=measure,
)
