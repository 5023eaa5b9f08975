"""Reading the files of a synthetic corpus, independently of the package."""

from pathlib import Path


def read_lines(path: Path) -> list[str]:
    text = path.read_bytes().decode("utf-8")
    assert text.endswith("\n") and "\r" not in text
    return text[:-1].split("\n")


def read_answers(path: Path) -> dict[str, str]:
    return dict(line.split("\t") for line in read_lines(path))


def name_of(line: str) -> str:
    """The name rule, spelled out word by word: the name ends with the first word that ends a sentence."""
    words = line.split(" ")
    for position, word in enumerate(words[:-1]):
        bare = word.removesuffix(".")
        if bare != word and len(bare) > 1 and bare not in {"Jr", "Sr", "St", "Dr"}:
            return " ".join(words[: position + 1]).removesuffix(".")
    raise AssertionError(f"no name in {line!r}")
