"""The synthetic corpus: files of biographies and questions, in the same form as the real files."""

import os
import random
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from birthgpt.data.synthetic.biographies import MAX_BIOGRAPHIES_PER_PERSON, biographies_of
from birthgpt.data.synthetic.checks import check_whole_number, checked_folder
from birthgpt.data.synthetic.dataset_card import CARD, corpus_configurations, dataset_card
from birthgpt.data.synthetic.people import MAX_PEOPLE, MIN_PEOPLE, Person, generate_people
from birthgpt.data.synthetic.shuffle import write_shuffled
from birthgpt.settings import checked, setting

WIKI, TRAIN = "wiki.txt", "birth_places_train.tsv"
DEV, TEST_INPUTS = "birth_dev.tsv", "birth_test_inputs.tsv"


@checked
@dataclass(kw_only=True)
class SyntheticSettings:
    """The numbers of synthetic people, held-out people and biographies."""

    people: int = setting(1000, "synthetic people", min=MIN_PEOPLE, max=MAX_PEOPLE)
    held_out: int = setting(200, "people whose questions are not trained on", min=1)
    biographies_per_person: int = setting(5, "different lines about each person", min=1, max=MAX_BIOGRAPHIES_PER_PERSON)


@dataclass(frozen=True)
class SyntheticCorpus:
    """The counts of a written corpus, and the accuracy of the best constant answer."""

    people: int
    places: int  # different birthplaces among the people
    held_out: int
    test_inputs: int
    lines: int
    most_common_dev_ratio: float  # fraction of dev questions that have the most common dev answer


def write_synthetic_corpus(
    output_dir: str | os.PathLike,
    *,
    people: int,
    held_out: int,
    biographies_per_person: int = 1,
    seed: int = 0,
    test_inputs: int = 0,
) -> SyntheticCorpus:
    """Write synthetic people as a corpus with questions. The same arguments write the same bytes.

    `wiki.txt` contains `biographies_per_person` lines about *every* person, uniformly shuffled. `birth_dev.tsv`
    contains the questions about the first `held_out` people, so corpora of different sizes have the same dev questions.
    `birth_test_inputs.tsv` contains the questions about the next `test_inputs` people, without answers (there is no
    such file for 0). `birth_places_train.tsv` contains the questions about all others. `README.md` is the dataset card.
    The files appear in `output_dir` when all of them are complete. About 50,000 lines are in memory at once, or 1/256
    of the lines if that is more.

    Raises:
        ValueError: a number is out of its bounds, or `output_dir` is a file or contains one of these files already.
    """
    check_whole_number("people", people, MIN_PEOPLE, MAX_PEOPLE)
    check_whole_number("held_out", held_out, 1, people - 1)
    check_whole_number("test_inputs", test_inputs, 0, people - held_out - 1)
    check_whole_number("biographies_per_person", biographies_per_person, 1, MAX_BIOGRAPHIES_PER_PERSON)
    folder = checked_folder(output_dir, (WIKI, TRAIN, DEV, TEST_INPUTS, CARD))
    folder.mkdir(parents=True, exist_ok=True)

    lines = people * biographies_per_person
    sizes = {DEV: held_out, TEST_INPUTS: test_inputs, TRAIN: people - held_out - test_inputs}
    with tempfile.TemporaryDirectory(prefix=".people-", dir=folder) as scratch:
        biographies = _biographies(people, biographies_per_person, seed)
        write_shuffled(Path(scratch, WIKI), biographies, lines, random.Random(f"{seed}-lines"))
        everyone = generate_people(people, seed)
        birthplaces = {
            name: _write_questions(Path(scratch, name), islice(everyone, size), answered=name != TEST_INPUTS)
            for name, size in sizes.items()
            if size
        }
        Path(scratch, CARD).write_text(_card(people, seed, birthplaces), encoding="utf-8")
        for name in (*birthplaces, WIKI, CARD):
            os.replace(Path(scratch, name), folder / name)
    return SyntheticCorpus(
        people=people,
        places=len(set().union(*birthplaces.values())),
        held_out=held_out,
        test_inputs=test_inputs,
        lines=lines,
        most_common_dev_ratio=max(birthplaces[DEV].values()) / held_out,
    )


def question(name: str) -> str:
    """The question about a person, as in every question file."""
    return f"Where was {name} born?"


def _card(people: int, seed: int, names: Iterable[str]) -> str:
    """The dataset card; `names` are the files of questions."""
    questions, test_inputs = (
        {split: name for split, name in files.items() if name in names}
        for files in ({"train": TRAIN, "dev": DEV}, {"test": TEST_INPUTS})
    )
    configurations = corpus_configurations(WIKI, questions, test_inputs)
    text = (
        f"Biographies of {people:,} invented people, and where each of them was born. They were written by "
        f"`birthgpt people` with seed {seed}. The lines are about everybody; nobody of `dev` is in `train`."
    )
    return dataset_card("Synthetic people: birthplaces", text, configurations, ["en"])


def _biographies(people: int, biographies_per_person: int, seed: int) -> Iterator[str]:
    for person in generate_people(people, seed):
        yield from biographies_of(person, biographies_per_person, seed)


def _write_questions(path: Path, people: Iterable[Person], answered: bool) -> Counter[str]:
    """Write one question per line, and count the birthplaces."""
    birthplaces: Counter[str] = Counter()
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for person in people:
            birthplaces[person.birthplace] += 1
            answer = f"\t{person.birthplace}" if answered else ""
            file.write(f"{question(person.name)}{answer}\n")
    return birthplaces
