"""Synthetic people, their biographies, and the questions about them.

There are 100 to a billion people. With birthplaces alone, the files have the same form as the real files (`corpus`).
With one to ten relations (`related_people`), or for a table of a user (`tables`), templates make the sentences and the
questions. Only the biographies contain the answers, so a right answer for a held-out person is recall.
"""

from birthgpt.data.synthetic.biographies import MAX_BIOGRAPHIES_PER_PERSON, biographies_of
from birthgpt.data.synthetic.corpus import (
    DEV,
    TEST_INPUTS,
    TRAIN,
    WIKI,
    SyntheticCorpus,
    SyntheticSettings,
    question,
    write_synthetic_corpus,
)
from birthgpt.data.synthetic.people import MAX_PEOPLE, MIN_PEOPLE, Person, generate_people, person_at
from birthgpt.data.synthetic.related_people import RELATIONS, RelationSettings, write_related_people
from birthgpt.data.synthetic.relation_corpus import Parts, RelationCorpus, write_relation_corpus
from birthgpt.data.synthetic.shards import ShardSettings
from birthgpt.data.synthetic.tables import read_table
from birthgpt.data.synthetic.templates import read_templates
from birthgpt.data.synthetic.wordings import WordingSettings

__all__ = [
    "DEV",
    "MAX_BIOGRAPHIES_PER_PERSON",
    "MAX_PEOPLE",
    "MIN_PEOPLE",
    "RELATIONS",
    "TEST_INPUTS",
    "TRAIN",
    "WIKI",
    "Parts",
    "Person",
    "RelationCorpus",
    "RelationSettings",
    "ShardSettings",
    "SyntheticCorpus",
    "SyntheticSettings",
    "WordingSettings",
    "biographies_of",
    "generate_people",
    "person_at",
    "question",
    "read_table",
    "read_templates",
    "write_related_people",
    "write_relation_corpus",
    "write_synthetic_corpus",
]
