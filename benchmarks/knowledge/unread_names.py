"""What a model answers about a name that it never read.

The first model of the exposures is asked about names that no line of its corpus has: *recombined* of a first and a last
name that it read with others; with *new parts* in the spelling of the others; and of the people *left out*. Its answer
is compared with its answers about the names that it read: about the one with the nearest final state, and about those
with the same first or last name. Then one half of each recombined name is replaced by another one that was read, and
the other half stays: how often does the answer stay?
"""

import random
from collections import Counter
from collections.abc import Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.knowledge.exposures import copies_of, population, trained_model
from benchmarks.knowledge.people import RELATION, Person, Sizes, most_common, question
from benchmarks.lab import Lab
from birthgpt.commands.loading import load_model_and_tokenizer
from birthgpt.data.unknown_names import UnknownNames
from birthgpt.evaluation.answering import answer_questions
from birthgpt.evaluation.nearest_names import answer_origins, summarize_origins

REPLACED = 8
"""Other halves that are tried for each name."""

COMMON = (1, 5)
"""So many of the most common places are counted together."""


def measure(lab: Lab, sizes: Sizes) -> dict:
    """Where the answers come from by kind of name, what each half decides, and how often a common place is named."""
    asked, taught = population(sizes, lab.seed)
    copies = copies_of(asked, taught, mirrored=False)
    read = [person for person, count in copies.items() if count]
    left_out = [person.name for person, count in copies.items() if not count]
    member = load_model_and_tokenizer(str(trained_model(lab, sizes, mirrored=False)))
    names = [person.name for person in read]
    invented = {
        kind: UnknownNames(names, part="measurement", new_parts=share, excluded=left_out).sample(sizes.unread, lab.seed)
        for kind, share in (("recombined", 0.0), ("new parts", 1.0))
    }
    kinds = {kind: [each.name for each in found] for kind, found in invented.items()} | {"left out": left_out}
    rows, ranked = [], most_common([person.place for person in read])
    for kind, unread in kinds.items():
        origins = answer_origins(*member, RELATION, unread, names)
        answers = [origin.answer for origin in origins]
        rows.append({"names": kind, **summarize_origins(origins), **common_shares(answers, ranked)})
    return {
        "rows": rows,
        "places_of_lines": common_shares([person.place for person in read], ranked),
        "halves": kept_answers(member, kinds["recombined"], read, lab.seed),
    }


def common_shares(answers: Sequence[str], ranked: Sequence[str]) -> dict[str, float]:
    """The fraction of answers that are among the most common places, and that are a place of the lines at all."""
    shares = {f"top_{count}": sum(text in ranked[:count] for text in answers) / len(answers) for count in COMMON}
    return shares | {"a_place": sum(text in ranked for text in answers) / len(answers)}


def kept_answers(
    member: tuple[PreTrainedModel, PreTrainedTokenizerBase], names: Sequence[str], read: Sequence[Person], seed: int
) -> dict[str, float]:
    """How often the answer stays when one half of a name is replaced, and for two names that share nothing."""
    generator = random.Random(f"{seed}-halves")
    taken = {person.name for person in read}
    firsts, lasts = (sorted({person.name.split()[index] for person in read}) for index in (0, -1))

    def others(name: str, replaces_first: bool) -> list[str]:
        first, last = name.split()
        candidates = [f"{each} {last}" for each in firsts] if replaces_first else [f"{first} {each}" for each in lasts]
        free = [each for each in candidates if each not in taken and each != name]
        return generator.sample(free, min(REPLACED, len(free)))

    changed = {
        "the_last_name_stays": [(name, other) for name in names for other in others(name, True)],
        "the_first_name_stays": [(name, other) for name in names for other in others(name, False)],
    }
    everything = sorted({each for pairs in changed.values() for pair in pairs for each in pair})
    answers = answer_questions(*member, [question(name) for name in everything])
    of_name = {name: answer.text for name, answer in zip(everything, answers, strict=True)}
    kept = {
        kind: sum(of_name[name] == of_name[other] for name, other in pairs) / len(pairs)
        for kind, pairs in changed.items()
    }
    counts = Counter(of_name.values())
    chance = sum(count * (count - 1) for count in counts.values()) / (len(everything) * (len(everything) - 1))
    return {**kept, "any_two_names": chance, "pairs": sum(map(len, changed.values()))}
