"""Synthetic people, their biographies, and the questions about them.

The files have the same form as the real files, for 100 to a million people. Only the biographies contain the
birthplaces, so a right answer for a held-out person is recall.
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

__all__ = [
    "DEV",
    "MAX_BIOGRAPHIES_PER_PERSON",
    "MAX_PEOPLE",
    "MIN_PEOPLE",
    "TEST_INPUTS",
    "TRAIN",
    "WIKI",
    "Person",
    "SyntheticCorpus",
    "SyntheticSettings",
    "biographies_of",
    "generate_people",
    "person_at",
    "question",
    "write_synthetic_corpus",
]
