"""Write files about synthetic people: their biographies, and questions about them."""

from dataclasses import dataclass

from birthgpt.commands.command import Command
from birthgpt.data.synthetic import SyntheticCorpus, SyntheticSettings, write_synthetic_corpus
from birthgpt.settings import checked, flatten_settings, setting
from birthgpt.utils.files import check_output_folder


@checked
@dataclass(kw_only=True)
class PeopleSettings:
    """Write biographies of synthetic people, and questions about them."""

    output_dir: str = setting(help="folder for the files; created if missing")
    synthetic: SyntheticSettings
    test_inputs: int = setting(0, "people whose question is in birth_test_inputs.tsv only, without an answer", min=0)
    seed: int = setting(0, "another seed makes other people")


def make_people(settings: PeopleSettings) -> SyntheticCorpus:
    """Write the corpus and its questions, and print one line about them.

    Raises:
        ValueError: a number is out of its bounds, or the folder cannot be written or contains such files already.
    """
    check_output_folder(settings.output_dir)
    try:
        corpus = write_synthetic_corpus(**flatten_settings(settings))
    except OSError as error:
        raise ValueError(f"output_dir: {settings.output_dir} cannot be written ({error})") from error
    print(
        f"{settings.output_dir}: {corpus.lines} lines about {corpus.people} people from {corpus.places} places; "
        f"{corpus.held_out} held out, {corpus.test_inputs} test inputs; "
        f"the most common answer is right for {corpus.most_common_dev_ratio:.1%} of the dev questions"
    )
    return corpus


COMMAND = Command(PeopleSettings, make_people, several_processes=False)
