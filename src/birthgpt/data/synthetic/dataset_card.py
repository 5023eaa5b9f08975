"""The dataset card of a synthetic corpus: by it, `datasets.load_dataset` and the Hub know what its files are.

The metadata are those of https://huggingface.co/docs/hub/datasets-manual-configuration: a configuration has splits of
files with the same columns, and the settings of their builder. All configurations of a folder have one builder, which
`datasets` chooses by the files of the first. So lines are read by the csv builder too, as rows of one cell.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

CARD = "README.md"

TSV = {"sep": "\t", "quoting": 3, "keep_default_na": False, "dtype": "str"}
"""How the csv builder reads text without a header, of which cells may be `NA` or `1`, or contain quotation marks."""


def configuration(name: str, splits: Mapping[str, str], *columns: str) -> dict[str, Any]:
    """A configuration: its files by split, and their columns."""
    files = [{"split": split, "path": file} for split, file in splits.items()]
    return {"config_name": name, "data_files": files, **TSV, "names": list(columns)}


def corpus_configurations(
    lines: str, questions: Mapping[str, str], test_inputs: Mapping[str, str]
) -> list[dict[str, Any]]:
    """The configurations of a corpus: its questions with answers, its lines, its questions without answers.

    Args:
        lines: the file of the lines.
        questions: the files that there are, by their split.
        test_inputs: likewise.
    """
    found = [
        configuration("questions", questions, "question", "answer"),
        configuration("biographies", {"train": lines}, "text"),
        configuration("test_inputs", test_inputs, "question"),
    ]
    return [entry for entry in found if entry["data_files"]]


def dataset_card(title: str, text: str, configurations: Sequence[dict[str, Any]], languages: Sequence[str]) -> str:
    """The card as Markdown, with its metadata in front.

    Args:
        title: also the name that the Hub shows.
        text: what the lines and questions are; Markdown.
        configurations: the first is the default.
        languages: their codes; empty if unknown.
    """
    found = [{**entry, **({"default": True} if not number else {})} for number, entry in enumerate(configurations)]
    metadata = {
        "pretty_name": title,
        **({"language": list(languages)} if languages else {}),
        "task_categories": ["question-answering", "text-generation"],
        "tags": ["birthgpt", "synthetic"],
        "configs": found,
    }
    rows = [
        f"| `{entry['config_name']}` | `{file['split']}` | `{file['path']}` |"
        for entry in configurations
        for file in entry["data_files"]
    ]
    front = yaml.safe_dump(metadata, allow_unicode=True, sort_keys=False)
    table = "\n".join(["| configuration | split | file |", "| --- | --- | --- |", *rows])
    return f"---\n{front}---\n\n# {title}\n\n{text}\n\n{table}\n"
