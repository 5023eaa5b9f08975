"""Synthetic people with one to ten relations."""

import os
from dataclasses import dataclass, fields
from functools import partial

from birthgpt.data.synthetic.checks import check_whole_number
from birthgpt.data.synthetic.corpus import SyntheticSettings
from birthgpt.data.synthetic.facts import subject_at
from birthgpt.data.synthetic.people import MAX_PEOPLE, MIN_PEOPLE, PEOPLE_WITH_ONE_LAST_NAME
from birthgpt.data.synthetic.relation_corpus import Parts, RelationCorpus, write_relation_corpus
from birthgpt.data.synthetic.shards import check_shards
from birthgpt.data.synthetic.templates import builtin_templates
from birthgpt.data.synthetic.wordings import Subject, WordingSettings
from birthgpt.settings import checked, flatten_settings, setting

RELATIONS = tuple(relation.name for relation in builtin_templates().relations)


@checked
@dataclass(kw_only=True)
class RelationSettings:
    """The relations of synthetic people."""

    relations: list[str] | None = setting(
        None,
        f"all, or some of {', '.join(RELATIONS)}; if not given, one-sentence lines about birthplaces",
    )
    left_out: int = setting(0, "people with questions, but without a biography: what can be guessed", min=0)
    wording: WordingSettings

    def validate_relations(self) -> None:
        """Check the names of the relations, and that nothing else is given without them.

        Raises:
            ValueError: see `Templates.select`; or a setting that needs `relations` is given without it.
        """
        if self.relations is not None:
            builtin_templates().select(self.relations)
            return
        given = ["left_out"] if self.left_out else []
        default = WordingSettings()
        given += [
            entry.name
            for entry in fields(WordingSettings)
            if getattr(self.wording, entry.name) != getattr(default, entry.name)
        ]
        if given:
            raise ValueError(f"{given[0]}: give --relations too, for example --relations all")


def write_related_people(
    output_dir: str | os.PathLike,
    synthetic: SyntheticSettings,
    relation: RelationSettings,
    *,
    seed: int = 0,
    test_inputs: int = 0,
    shards: int = 1,
    processes: int = 1,
) -> RelationCorpus:
    """Write synthetic people with the given relations; for the files, see `write_relation_corpus`.

    The first `held_out` people are the dev people, and the people left out are the last of the first million, so
    corpora of different sizes have the same dev people and leave out the same people.

    Raises:
        ValueError: a number is out of its bounds; or `spouse` is a relation, and a married couple would be divided
            between two files, because a number of people is odd.
    """
    people, held_out, left_out = synthetic.people, synthetic.held_out, relation.left_out
    check_whole_number("people", people, MIN_PEOPLE, MAX_PEOPLE)
    check_whole_number("held_out", held_out, 1, people - 1)
    check_whole_number("test_inputs", test_inputs, 0, people - held_out - 1)
    asked = held_out + test_inputs
    check_whole_number("left_out", left_out, 0, min(MAX_PEOPLE - people, PEOPLE_WITH_ONE_LAST_NAME - asked))
    check_shards(shards, processes, people - asked)
    relations = builtin_templates().select(relation.relations or ["all"])
    if any(chosen.name == "spouse" for chosen in relations):
        counts = {"people": people, "held_out": held_out, "test_inputs": test_inputs, "left_out": left_out}
        for name, count in counts.items():
            if count % 2:
                raise ValueError(f"{name}={count}: it must be even if spouse is a relation, to keep couples together")
    parts = Parts(
        train=range(asked, people),
        dev=range(held_out),
        test_inputs=range(held_out, asked),
        left_out=range(people, people + left_out),
    )
    return write_relation_corpus(
        output_dir,
        partial(_subject_at, people=people, left_out=left_out, seed=seed),
        parts,
        relations,
        biographies=synthetic.biographies_per_person,
        wordings=relation.wording,
        seed=seed,
        languages=["en"],
        unique=["spouse"],
        has_all_facts=True,
        shards=shards,
        processes=processes,
        settings={
            "kind": "relations",
            "seed": seed,
            "test_inputs": test_inputs,
            **flatten_settings(synthetic),
            **flatten_settings(relation),
            "relations": [chosen.name for chosen in relations],
        },
    )


def _subject_at(position: int, *, people: int, left_out: int, seed: int) -> Subject:
    """A person by its position: the people with lines, then those left out, who are the last of the first million."""
    first_left_out = PEOPLE_WITH_ONE_LAST_NAME - left_out
    if position >= people:
        return subject_at(first_left_out + position - people, seed)
    return subject_at(position if position < first_left_out else position + left_out, seed)
