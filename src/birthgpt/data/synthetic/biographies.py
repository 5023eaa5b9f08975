"""Biographies: lines about one person, made of different templates.

`templates.json` contains lists of templates. `sentences` are complete sentences. Each contains the birthplace, as
`{birthplace}` or in `{birth}`. The other lists are parts of a sentence. `subjects` fill `{subject}`. The rest are verb
phrases in the third person: `births` contain the birthplace and fill `{birth}`; two of the lists `works`, `studies` and
`homes` fill `{deed}` and `{other_deed}`.
"""

import random

from birthgpt.data.synthetic.checks import check_whole_number
from birthgpt.data.synthetic.lists import load_lists
from birthgpt.data.synthetic.people import Person

MAX_BIOGRAPHIES_PER_PERSON = 1000

TEMPLATES = load_lists("templates.json")
_DEEDS = (TEMPLATES["works"], TEMPLATES["studies"], TEMPLATES["homes"])
_MONTHS = load_lists("names.json")["months"]


def biographies_of(person: Person, count: int, seed: int) -> list[str]:
    """`count` different lines `Name. Sentence .`, which all contain the birthplace.

    A larger `count` adds lines after the lines of a smaller `count`.

    Raises:
        ValueError: `count` is not a whole number from 0 to 1,000.
    """
    check_whole_number("count", count, 0, MAX_BIOGRAPHIES_PER_PERSON)
    facts = _facts(person)
    rng = random.Random(f"{seed}-biographies-{person.name}")
    # a dictionary keeps the order and drops repetitions; the templates make far more than 1,000 different sentences
    lines: dict[str, None] = {}
    while len(lines) < count:
        lines[f"{person.name}. {_sentence(facts, rng)} ."] = None
    return list(lines)


def _facts(person: Person) -> dict[str, object]:
    """The values of the placeholders in the templates."""
    born, occupation = person.birth_date, person.occupation
    return vars(person) | {
        "surname": person.name.split()[-1],
        "date": f"{born.day} {_MONTHS[born.month - 1]} {born.year}",
        "year": born.year,
        "an_occupation": f"{'an' if occupation[0] in 'aeiou' else 'a'} {occupation}",
    }


def _sentence(facts: dict[str, object], rng: random.Random) -> str:
    deed, other_deed = rng.sample(_DEEDS, 2)
    choices = {
        "subject": TEMPLATES["subjects"],
        "birth": TEMPLATES["births"],
        "deed": deed,
        "other_deed": other_deed,
    }
    parts = {part: rng.choice(templates).format_map(facts) for part, templates in choices.items()}
    sentence = rng.choice(TEMPLATES["sentences"]).format_map(facts | parts)
    return sentence[0].upper() + sentence[1:]
