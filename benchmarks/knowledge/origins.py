"""Does a model guess a birthplace by the origin of a name that it never read, where no text says anything of origins?

The people have given and family names of four origins, and were born in 24 cities, six of each country. The places of a
known share of them are drawn from the cities of the country that their name is from; those of the others from all 24.
The lines mention no origin and no country. Then each model is asked about names that no line has: other pairs of the
same given and family names, and names of new parts of the same origins.
"""

import random
from collections.abc import Iterable
from itertools import product
from pathlib import Path

from benchmarks.knowledge.people import Person, Sizes, question, train, write_lines, write_questions
from benchmarks.lab import Lab
from birthgpt.commands.loading import load_model_and_tokenizer
from birthgpt.data.synthetic.lists import load_lists
from birthgpt.evaluation.answering import answer_questions
from birthgpt.utils.strict_yaml import load_yaml

SHARES = (0.0, 0.5, 0.9)
"""The share of people whose birthplace is drawn from the cities of their origin."""

NEW = 4
"""The given and family names of each origin that no line has."""

Origins = dict[str, dict[str, list[str]]]


def load_origins() -> Origins:
    """Origin → its given names, family names and places."""
    return load_yaml(Path(__file__).with_name("origins.yaml").read_text(encoding="utf-8"))


def people_of(origin: str, origins: Origins, share: float, count: int, seed: int) -> tuple[list[Person], list[str]]:
    """People of an origin, and further names of the same parts. The share is met as exactly as whole people allow."""
    # the names do not depend on the share
    generator, own = random.Random(f"{seed}-{origin}"), origins[origin]
    names = [f"{given} {family}" for given, family in product(own["given"][:-NEW], own["family"][:-NEW])]
    generator.shuffle(names)
    everywhere = [place for each in origins.values() for place in each["places"]]
    of_origin = round(share * count)
    places = [own["places"][index % len(own["places"])] for index in range(of_origin)]
    rest = generator.sample(everywhere, len(everywhere))
    places += [rest[index % len(rest)] for index in range(count - of_origin)]
    generator.shuffle(places)
    occupations = load_lists("names.json")["occupations"]
    people = [Person(name, place, generator.choice(occupations)) for name, place in zip(names, places, strict=False)]
    return people, names[count:]


def measure(lab: Lab, sizes: Sizes) -> dict:
    """A row for each share: how often a place of the origin is answered about read and unread names."""
    return {"rows": [measure_share(lab, sizes, share) for share in SHARES]}


def measure_share(lab: Lab, sizes: Sizes, share: float) -> dict:
    """The row of one share."""
    origins = load_origins()
    people, recombined, new = {}, {}, {}
    for origin, own in origins.items():
        people[origin], others = people_of(origin, origins, share, sizes.of_origin, lab.seed)
        recombined[origin] = others[: sizes.unread // len(origins)]
        pairs = product(own["given"][-NEW:], own["family"][-NEW:])
        new[origin] = [f"{given} {family}" for given, family in pairs]
    taught = [person for of_origin in people.values() for person in of_origin[: sizes.of_origin // 2]]
    asked = {origin: of_origin[sizes.of_origin // 2 :] for origin, of_origin in people.items()}
    name = f"share_{share:g}"
    lines = write_lines(
        lab.folder / f"{name}.txt", {person: 1 for of_origin in people.values() for person in of_origin}
    )
    questions = write_questions(lab.folder / f"{name}_taught.tsv", taught)
    member = load_model_and_tokenizer(str(train(lab, name, lines, questions, sizes.origin_epochs, sizes.steps)))

    def answers(names: dict[str, list[str]]) -> list[tuple[str, str]]:
        of_origins = [(origin, name) for origin, found in names.items() for name in found]
        texts = answer_questions(*member, [question(name) for _, name in of_origins])
        return [(origin, text.text) for (origin, _), text in zip(of_origins, texts, strict=True)]

    known = [person for found in asked.values() for person in found]
    of_known = answers({origin: [person.name for person in found] for origin, found in asked.items()})
    verdicts = [
        (person.place in origins[origin]["places"], text == person.place, text in origins[origin]["places"])
        for person, (origin, text) in zip(known, of_known, strict=True)
    ]
    in_lines = ((origin, person.place) for origin, found in people.items() for person in found)
    return {
        "share": share,
        "of_origin_in_lines": share_of_origin(in_lines, origins),
        "recombined": share_of_origin(answers(recombined), origins),
        "recombined_names": sum(map(len, recombined.values())),
        "new_parts": share_of_origin(answers(new), origins),
        "new_names": sum(map(len, new.values())),
        "read_people": len(known),
        "accuracy_born_there": mean(right for there, right, _ in verdicts if there),
        "accuracy_born_elsewhere": mean(right for there, right, _ in verdicts if not there),
        "wrong_answers_of_origin": mean(guessed for _, right, guessed in verdicts if not right),
        "wrong_answers": sum(not right for _, right, _ in verdicts),
    }


def share_of_origin(pairs: Iterable[tuple[str, str]], origins: Origins) -> float | None:
    """How many places are of the origin they are paired with."""
    return mean(place in origins[origin]["places"] for origin, place in pairs)


def mean(verdicts: Iterable[bool]) -> float | None:
    """The fraction of verdicts that are true; None if there are none."""
    found = list(verdicts)
    return sum(found) / len(found) if found else None
