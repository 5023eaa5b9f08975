"""Write files about synthetic people: their biographies, and questions about them."""

from dataclasses import asdict, dataclass

from birthgpt.commands.command import Command
from birthgpt.data.synthetic import (
    RelationCorpus,
    RelationSettings,
    ShardSettings,
    SyntheticCorpus,
    SyntheticSettings,
    write_related_people,
    write_synthetic_corpus,
)
from birthgpt.settings import checked, flatten_settings, setting
from birthgpt.utils.files import check_output_folder
from birthgpt.utils.tables import text_table


@checked
@dataclass(kw_only=True)
class PeopleSettings:
    """Write biographies of synthetic people, and questions about them."""

    output_dir: str = setting(help="folder for the files; created if missing")
    synthetic: SyntheticSettings
    relation: RelationSettings
    shard: ShardSettings
    test_inputs: int = setting(0, "people whose questions are in a file of their own, without answers", min=0)
    seed: int = setting(0, "another seed makes other people")


def make_people(settings: PeopleSettings) -> SyntheticCorpus | RelationCorpus:
    """Write the corpus and its questions, and print what was written.

    Raises:
        ValueError: a number is out of its bounds, or the folder cannot be written or contains such files already.
    """
    check_output_folder(settings.output_dir)
    numbers = {"seed": settings.seed, "test_inputs": settings.test_inputs, **flatten_settings(settings.shard)}
    try:
        if settings.relation.relations is not None:
            related = write_related_people(settings.output_dir, settings.synthetic, settings.relation, **numbers)
            show_corpus(settings.output_dir, related)
            return related
        corpus = write_synthetic_corpus(settings.output_dir, **flatten_settings(settings.synthetic), **numbers)
    except OSError as error:
        raise ValueError(f"output_dir: {settings.output_dir} cannot be written ({error})") from error
    print(
        f"{settings.output_dir}: {corpus.lines} lines about {corpus.people} people from {corpus.places} places; "
        f"{corpus.held_out} held out, {corpus.test_inputs} test inputs; "
        f"the most common answer is right for {corpus.most_common_dev_ratio:.1%} of the dev questions"
    )
    return corpus


def show_corpus(output_dir: str, corpus: RelationCorpus) -> None:
    """Print the counts of a corpus, and a table by relation."""
    print(
        f"{output_dir}: {corpus.lines:,} lines about {corpus.subjects:,} names; {corpus.held_out:,} held out, "
        f"{corpus.left_out:,} left out of the lines; {corpus.new_wordings:,} questions in wordings never trained on\n"
    )
    rows = [asdict(row) | {"most_common_answer": f"{row.most_common_dev_ratio:.1%}"} for row in corpus.relations]
    print(text_table(rows, ["relation", "train", "dev", "answers", "most_common_answer"]))


COMMAND = Command(PeopleSettings, make_people, several_processes=False)
