"""The lists from which people and their biographies are drawn: the JSON files of this package."""

import json
from functools import cache
from importlib import resources


@cache
def load_lists(file_name: str) -> dict[str, tuple[str, ...]]:
    """All lists of `names.json` or `templates.json` by key. A file is read once."""
    lists = json.loads(resources.files(__package__).joinpath(file_name).read_text(encoding="utf-8"))
    return {key: tuple(entries) for key, entries in lists.items()}
