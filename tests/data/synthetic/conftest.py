"""People that several test modules use."""

import pytest

from birthgpt.data.synthetic import generate_people, person_at


@pytest.fixture(scope="session")
def crowd():
    return list(generate_people(10_000, seed=5))


@pytest.fixture
def generated(monkeypatch):
    """The indices of the people that are generated during a test, in order."""
    indices = []

    def counting_person_at(index, seed):
        indices.append(index)
        return person_at(index, seed)

    monkeypatch.setattr("birthgpt.data.synthetic.people.person_at", counting_person_at)
    return indices
