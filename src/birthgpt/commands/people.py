"""Invented people as files: biographies, and questions about some of them."""

from dataclasses import asdict, dataclass, field

from birthgpt.data.synthetic import MAX_PEOPLE, MIN_PEOPLE, SyntheticCorpus, write_synthetic_corpus
from birthgpt.training.arguments import setting


@dataclass
class PeopleArguments:
    """How many people to invent, and which questions to write about them."""

    output_dir: str = field(metadata={"help": "folder for the files; created if missing"})
    people: int = setting(1000, f"people to invent, from {MIN_PEOPLE} to {MAX_PEOPLE}")
    held_out: int = setting(200, "people whose questions are in birth_dev.tsv alone")
    test_inputs: int = setting(0, "people whose questions are in birth_test_inputs.tsv alone, without answers")
    biographies_per_person: int = setting(5, "different lines about each person")
    seed: int = setting(0, "another seed invents other people")


def make_people(settings: PeopleArguments) -> SyntheticCorpus:
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
