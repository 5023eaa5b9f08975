"""Write lines and questions from a table, in the wordings of templates."""

import random
from dataclasses import dataclass

from birthgpt.commands.command import Command
from birthgpt.commands.people import show_corpus
from birthgpt.data.synthetic import (
    MAX_BIOGRAPHIES_PER_PERSON,
    Parts,
    RelationCorpus,
    WordingSettings,
    read_table,
    read_templates,
    write_relation_corpus,
)
from birthgpt.data.synthetic.checks import check_whole_number
from birthgpt.settings import checked, setting
from birthgpt.utils.files import check_output_folder


@checked
@dataclass(kw_only=True)
class SynthesizeSettings:
    """Write lines and questions from a table, in the wordings of templates."""

    table: str = setting(help="a row a name: a .csv, .tsv with a header, .json, .jsonl or .parquet")
    templates: str = setting(help="YAML file with the wordings of each relation")
    output_dir: str = setting(help="folder for the files; created if missing")
    relations: list[str] | None = setting(None, "relations of the templates; all if not given")
    held_out: int | None = setting(
        None, "names whose questions are in questions_dev and not in training; a fifth if not given", min=0
    )
    left_out: int = setting(0, "names with questions, but without a line: what can be guessed", min=0)
    biographies_per_person: int = setting(5, "different lines about each name", min=1, max=MAX_BIOGRAPHIES_PER_PERSON)
    wording: WordingSettings
    seed: int = setting(0, "seed of the wordings, and of the names that are held out")


def synthesize(settings: SynthesizeSettings) -> RelationCorpus:
    """Write the corpus and its questions, and print what was written. Names are divided at random.

    Raises:
        ValueError: the table or the templates are wrong or do not fit together, a number is out of its bounds, or the
            folder cannot be written or contains such files already.
    """
    check_output_folder(settings.output_dir)
    templates = read_templates(settings.templates)
    relations = templates.select(["all"] if settings.relations is None else settings.relations)
    subjects = read_table(settings.table, templates)
    random.Random(f"{settings.seed}-table").shuffle(subjects)
    held_out = len(subjects) // 5 if settings.held_out is None else settings.held_out
    check_whole_number("held_out", held_out, 0, len(subjects) - 1)
    check_whole_number("left_out", settings.left_out, 0, len(subjects) - held_out - 1)
    in_lines = len(subjects) - settings.left_out
    try:
        corpus = write_relation_corpus(
            settings.output_dir,
            subjects.__getitem__,
            Parts(dev=range(held_out), train=range(held_out, in_lines), left_out=range(in_lines, len(subjects))),
            relations,
            biographies=settings.biographies_per_person,
            wordings=settings.wording,
            seed=settings.seed,
        )
    except OSError as error:
        raise ValueError(f"output_dir: {settings.output_dir} cannot be written ({error})") from error
    show_corpus(settings.output_dir, corpus)
    return corpus


COMMAND = Command(SynthesizeSettings, synthesize, several_processes=False)
