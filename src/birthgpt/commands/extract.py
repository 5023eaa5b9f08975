"""Write questions whose answers stand in the lines of a corpus, as patterns find them."""

import logging
import os
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from birthgpt.commands.command import Command
from birthgpt.data.corpus import ColumnSettings
from birthgpt.data.extraction import PatternRelation, builtin_patterns, extract_facts, read_patterns
from birthgpt.data.names import NameFinder, name_key
from birthgpt.data.questions import people_asked_about
from birthgpt.data.synthetic.checks import checked_folder
from birthgpt.data.synthetic.relation_corpus import (
    DEV,
    NEW_WORDINGS,
    TRAIN,
    Answers,
    RelationCounts,
    count_relation,
    write_questions,
)
from birthgpt.data.synthetic.wordings import Question, Subject, questions_about
from birthgpt.settings import Number, checked, setting
from birthgpt.utils.files import check_output_folder
from birthgpt.utils.tables import percent, text_table

logger = logging.getLogger(__name__)


@checked
@dataclass(kw_only=True)
class ExtractSettings(ColumnSettings):
    """Write questions whose answers stand in the lines of a corpus, as patterns find them."""

    corpus_file: str = setting(help="biographies: a text, JSON, CSV or Parquet file, or a Hub id")
    patterns: str | None = setting(
        None, "YAML file with the patterns and questions of each relation; those for English biographies if not given"
    )
    held_out_file: list[str] | None = setting(
        None, "files of questions whose people are in questions_dev and never in questions_train"
    )
    held_out_ratio: Number = setting(
        0.1, "fraction of the other people who are in questions_dev, drawn at random", min=0, max=1
    )
    output_dir: str = setting(help="folder for the files; created if missing")
    seed: int = setting(0, "seed of the wordings, and of the people who are held out")


@dataclass(frozen=True)
class Extraction:
    """The counts of written questions."""

    lines: int
    people: int  # with a question
    held_out: int  # of these people
    relations: tuple[RelationCounts, ...]
    lines_matched: dict[str, int]


def extract(settings: ExtractSettings) -> Extraction:
    """Write the questions. The same settings write the same bytes.

    Raises:
        ValueError: a file is wrong, no line tells a fact for certain, or the folder cannot be written or contains such
            files already.
    """
    check_output_folder(settings.output_dir)
    names = [f"{name}.{ending}" for name in (TRAIN, DEV, NEW_WORDINGS) for ending in ("tsv", "jsonl")]
    folder = checked_folder(settings.output_dir, names)
    relations = builtin_patterns() if settings.patterns is None else read_patterns(settings.patterns)
    lines = settings.read_lines(settings.corpus_file)
    facts = extract_facts(lines, relations)
    if not facts.subjects:
        matched = max(facts.lines_matched.values())
        raise ValueError(
            f"{settings.corpus_file}: "
            + (
                f"patterns match in {matched:,} lines, but no fact is certain"
                if matched
                else "no line matches a pattern"
            )
            + f" of {settings.patterns or 'English biographies'}: `patterns` takes a file of your own"
        )
    warn_without_facts(facts.lines_matched)
    finder = NameFinder(filter(None, lines["name"]))
    held_out = held_out_people(settings, finder, facts.subjects)
    train = [subject for subject in facts.subjects if name_key(subject.name) not in held_out]
    dev = [subject for subject in facts.subjects if name_key(subject.name) in held_out]
    try:
        counts = write_files(folder, train, dev, relations, settings.seed)
    except OSError as error:
        raise ValueError(f"output_dir: {folder} cannot be written ({error})") from error
    return Extraction(len(lines), len(facts.subjects), len(dev), counts, dict(facts.lines_matched))


def held_out_people(settings: ExtractSettings, finder: NameFinder, subjects: Sequence[Subject]) -> set[str]:
    """The keys of the names that are never trained on: those in the given questions, and some of the others."""
    held_out = people_asked_about(settings.held_out_file or (), finder)
    others = [key for key in (name_key(subject.name) for subject in subjects) if key not in held_out]
    random.Random(f"{settings.seed}-extract").shuffle(others)
    return held_out | set(others[: round(settings.held_out_ratio * len(others))])


def warn_without_facts(lines_matched: Mapping[str, int]) -> None:
    """Log a warning for relations without a match."""
    if empty := [relation for relation, count in lines_matched.items() if not count]:
        logger.warning("no line matches a pattern of %s", ", ".join(empty))


def write_files(
    folder: Path, train: Sequence[Subject], dev: Sequence[Subject], relations: Sequence[PatternRelation], seed: int
) -> tuple[RelationCounts, ...]:
    """Write the files of questions, which appear when all of them are complete; count each relation."""
    asked = [relation.questions for relation in relations]

    def questions(subjects: Sequence[Subject], new: bool = False) -> Iterator[Question]:
        return (row for subject in subjects for row in questions_about(subject, asked, seed, new))

    folder.mkdir(parents=True, exist_ok=True)
    answers: dict[str, dict[str, Answers]] = {}
    with tempfile.TemporaryDirectory(prefix=".questions-", dir=folder) as scratch:
        for name, rows in ((TRAIN, questions(train)), (DEV, questions(dev)), (NEW_WORDINGS, questions(dev, new=True))):
            answers[name] = write_questions(Path(scratch, name), rows, answered=True)
        for path in sorted(Path(scratch).iterdir()):
            os.replace(path, folder / path.name)
    return tuple(count_relation(relation.name, answers) for relation in asked)


def show_extraction(extraction: Extraction) -> None:
    """Print the counts, and a table by relation."""
    print(
        f"{extraction.lines:,} lines; questions about {extraction.people:,} names, {extraction.held_out:,} of them "
        "held out\n"
    )
    rows = [
        asdict(row)
        | {
            "lines_matched": f"{extraction.lines_matched[row.relation]:,}",
            "most_common_dev_answer": f"{percent(row.most_common_dev_ratio)}%",
        }
        for row in extraction.relations
    ]
    print(text_table(rows, ["relation", "lines_matched", "train", "dev", "answers", "most_common_dev_answer"]))


COMMAND = Command(ExtractSettings, extract, show_extraction, several_processes=False)
