"""The synthetic corpus: files of biographies and questions, in the same form as the real files."""

import os
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from birthgpt.data.synthetic.biographies import MAX_BIOGRAPHIES_PER_PERSON, biographies_of
from birthgpt.data.synthetic.checks import check_whole_number
from birthgpt.data.synthetic.dataset_card import corpus_configurations, dataset_card
from birthgpt.data.synthetic.people import MAX_PEOPLE, MIN_PEOPLE, Person, generate_people, person_at
from birthgpt.data.synthetic.shards import Piece, check_shards, pattern_of, write_corpus, write_lines
from birthgpt.data.synthetic.shuffle import MAX_SHUFFLED, line_order, write_shuffled
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
    shards: int = 1,
    processes: int = 1,
) -> SyntheticCorpus:
    """Write synthetic people as a corpus with questions. The same arguments write the same bytes.

    `wiki.txt` contains `biographies_per_person` lines about *every* person, uniformly shuffled. `birth_dev.tsv`
    contains the questions about the first `held_out` people, so corpora of different sizes have the same dev questions.
    `birth_test_inputs.tsv` contains the questions about the next `test_inputs` people, without answers (there is no
    such file for 0). `birth_places_train.tsv` contains the questions about all others. `README.md` is the dataset card.
    The files appear in `output_dir` when all of them are complete. About 50,000 lines are in memory at once, for any
    number of people.

    Args:
        shards: the files into which `wiki.txt` and `birth_places_train.tsv` are divided (`shards.py`).
        processes: how many write shards at the same time. It changes no byte.

    Raises:
        ValueError: a number is out of its bounds; `output_dir` is a file, or contains one of these files, or an
            unfinished corpus of other arguments; a process was killed.
    """
    check_whole_number("people", people, MIN_PEOPLE, MAX_PEOPLE)
    check_whole_number("held_out", held_out, 1, people - 1)
    check_whole_number("test_inputs", test_inputs, 0, people - held_out - 1)
    check_whole_number("biographies_per_person", biographies_per_person, 1, MAX_BIOGRAPHIES_PER_PERSON)
    check_shards(shards, processes, people - held_out - test_inputs)
    corpus = _Birthplaces(people, held_out, biographies_per_person, seed, test_inputs)
    counts = write_corpus(
        output_dir,
        corpus,
        corpus.pieces(shards),
        lambda counts: _card(people, seed, shards, counts),
        names=(WIKI, TRAIN, DEV, TEST_INPUTS),
        settings={"kind": "birthplaces", **vars(corpus), "shards": shards},
        processes=processes,
    )
    lines = sum(counts.pop(WIKI))
    birthplaces = {file: _added(found) for file, found in counts.items()}
    return SyntheticCorpus(
        people=people,
        places=len(set().union(*birthplaces.values())),
        held_out=held_out,
        test_inputs=test_inputs,
        lines=lines,
        most_common_dev_ratio=max(birthplaces[DEV].values()) / held_out,
    )


@dataclass(frozen=True)
class _Birthplaces:
    """The files of the corpus, each of which can be written alone."""

    people: int
    held_out: int
    biographies_per_person: int
    seed: int
    test_inputs: int

    @property
    def lines(self) -> int:
        return self.people * self.biographies_per_person

    @property
    def parts(self) -> dict[str, range]:
        """The people of each file of questions, by index."""
        asked = self.held_out + self.test_inputs
        parts = {DEV: range(self.held_out), TEST_INPUTS: range(self.held_out, asked), TRAIN: range(asked, self.people)}
        return {file: part for file, part in parts.items() if part}

    def pieces(self, shards: int) -> list[Piece]:
        """All files, and all shards of the large ones."""
        large = [Piece(file, shard, shards) for file in (WIKI, TRAIN) for shard in range(shards)]
        return large + [Piece(file) for file in self.parts if file != TRAIN]

    def write(self, piece: Piece, folder: Path) -> int | Counter[str]:
        """See `shards.Corpus`; counted are lines, or the birthplaces that are asked for."""
        path = folder / piece.name
        if piece.file != WIKI:
            people = (person_at(index, self.seed) for index in piece.share(self.parts[piece.file]))
            return _write_questions(path, people, answered=piece.file != TEST_INPUTS)
        order_seed = f"{self.seed}-lines"
        if piece.shards == 1 and self.lines <= MAX_SHUFFLED:
            biographies = _biographies(self.people, self.biographies_per_person, self.seed)
            write_shuffled(path, biographies, self.lines, random.Random(order_seed))
            return self.lines
        share = piece.share(range(self.lines))
        batches = line_order(self.lines, self.lines, order_seed).batches(share.start, share.stop)
        write_lines(path, batches, self.biographies_per_person, self._lines_of)
        return len(share)

    def _lines_of(self, index: int, count: int) -> list[str]:
        return biographies_of(person_at(index, self.seed), count, self.seed)


def question(name: str) -> str:
    """The question about a person, as in every question file."""
    return f"Where was {name} born?"


def _card(people: int, seed: int, shards: int, names: Iterable[str]) -> str:
    """The dataset card; `names` are the files that there are."""
    questions, test_inputs = (
        {split: name for split, name in files.items() if name in names}
        for files in ({"train": TRAIN, "dev": DEV}, {"test": TEST_INPUTS})
    )
    questions["train"] = pattern_of(TRAIN, shards)
    configurations = corpus_configurations(pattern_of(WIKI, shards), questions, test_inputs)
    text = (
        f"Biographies of {people:,} invented people, and where each of them was born. They were written by "
        f"`birthgpt people` with seed {seed}. The lines are about everybody; nobody of `dev` is in `train`."
    )
    return dataset_card("Synthetic people: birthplaces", text, configurations, ["en"])


def _added(counts: Iterable[Mapping[str, int]]) -> Counter[str]:
    """The sum of the counts of shards."""
    total: Counter[str] = Counter()
    for counted in counts:
        total.update(counted)
    return total


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
