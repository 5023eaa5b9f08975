"""Invented people as files: biographies, and questions about some of them."""

from dataclasses import asdict, dataclass

from birthgpt.commands.command import Command
from birthgpt.data.synthetic import (
    MAX_BIOGRAPHIES_PER_PERSON,
    MAX_PEOPLE,
    MIN_PEOPLE,
    SyntheticCorpus,
    write_synthetic_corpus,
)
from birthgpt.settings import checked, setting


@checked
@dataclass(kw_only=True)
class PeopleSettings:
    """Invent people, and write biographies and questions about them."""

    output_dir: str = setting(help="folder for the files; created if missing")
    people: int = setting(1000, "people to invent", min=MIN_PEOPLE, max=MAX_PEOPLE)
    held_out: int = setting(200, "people whose questions are in birth_dev.tsv alone", min=1)
    test_inputs: int = setting(0, "people whose questions are in birth_test_inputs.tsv alone, without answers", min=0)
    biographies_per_person: int = setting(5, "different lines about each person", min=1, max=MAX_BIOGRAPHIES_PER_PERSON)
    seed: int = setting(0, "another seed invents other people")


def make_people(settings: PeopleSettings) -> SyntheticCorpus:
    """Write the corpus and its questions, and print one line about them.

    Raises:
        ValueError: a number is out of its bounds, or the folder cannot be written or contains such files already.
    """
    try:
        corpus = write_synthetic_corpus(**asdict(settings))
    except OSError as error:
        raise ValueError(f"output_dir: {settings.output_dir} cannot be written ({error})") from error
    print(
        f"{settings.output_dir}: {corpus.lines} lines about {corpus.people} people from {corpus.places} places; "
        f"{corpus.held_out} held out, {corpus.test_inputs} test inputs; "
        f"the most common answer is right for {corpus.most_common_dev_ratio:.1%} of the dev questions"
    )
    return corpus


COMMAND = Command(PeopleSettings, make_people, several_processes=False)
