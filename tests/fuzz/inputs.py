"""Mutations of what users bring: a corpus, questions, a table, templates."""

import gzip
import json
import os
import random
import unicodedata
from pathlib import Path

from .mutation import VALUES, Mutation, explained, flip_bits, harmless, must_be_refused, replace_file

ODD_TEXTS = (
    *(
        "\ufeff",
        "\u200b",
        "\u00a0",
        "\u2028",
        "\x00",
        "\x0b",
        "\x1c",
        "\x85",
        "\u202e",
        "👩‍🚀",
        "⁇",
        "␃",
        "□",
        '"',
        "\\",
    ),
    *("\t", "\t\t", "\r", "\n\n", "é", "e\u0301", "�", "{name}", "Where was ", ". ", "born?"),
)
NOT_TEXT = ("utf-16", "utf-32", "gzip", "noise", "surrogate", "half a character")
NOT_FILES = ("folder", "pipe", "loop", "dangling link", "device", "missing", "memory", "full folder")
NO_TEXT = ("empty", "blank", "only a BOM")
SAME_TEXT = ("BOM", "CRLF", "no last line break")
TEXTS = ("odd", "odd", "odd", "bit", "lines", "long line", "many cells", "NFD", "cut", "repeated", "joined")
OF_FEW_ROWS = ("held_out", "folds")
"""Settings that do not fit to a file with few rows."""
FORMATS = ("jsonl", "json", "csv", "ending")


MARKUP = (
    *("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</div></table>", "<!--", "&lt;b&gt;"),
    *("<svg/onload=x>", "**bold**", "[a](javascript:x)", "# head", "`code`", "${x}", "{{x}}", "{x}", "|a|b|"),
    *("$\\frac{1}{2}$", "\" onclick=x '"),
)
"""What is HTML, Markdown, mathematics or a template where a text is not escaped."""


def mutate_question(arguments: list[str], rng: random.Random) -> Mutation:
    """Another question: any bytes, any characters, markup, or a long one. It is the last argument."""
    question = arguments[-1]
    kind = rng.choice(["bytes", "surrogates", "odd", "markup", "markup", "markup", "long", "long name", "empty"])
    if kind == "bytes":
        question = rng.randbytes(rng.choice([1, 20, 300])).decode(rng.choice(["latin-1", "utf-16"]), "ignore")
    elif kind == "surrogates":
        question = rng.randbytes(40).decode("utf-8", "surrogateescape")
    elif kind in ("odd", "markup"):
        for _ in range(rng.choice([1, 1, 3, 20])):
            place = rng.randrange(len(question) + 1)
            question = question[:place] + rng.choice(ODD_TEXTS if kind == "odd" else MARKUP) + question[place:]
    elif kind == "long":
        question = (rng.choice([question, "x", " ", "é", "👩‍🚀", "<b>"]) * 100_000)[:100_000]
    elif kind == "long name":
        question = f"Where was {'Aa ' * rng.choice([5, 30, 100, 600])}born?"
    else:
        question = rng.choice(["", " ", "\n", "\u200b", "⁇", "␃"])
    return Mutation(f"question: {kind} {ascii(question[:40])}", explained(), ("question",), (*arguments[:-1], question))


def mutate_input(name: str, path: Path, arguments: list[str], rng: random.Random) -> Mutation:
    """Mutate one input file of a case.

    Args:
        name: the setting or the kind of the file.
        path: the file.
        arguments: the command line, in which the path changes if the file gets another ending.
    """
    groups = [NOT_TEXT, NOT_FILES, NO_TEXT, SAME_TEXT, TEXTS, TEXTS, TEXTS]
    if name in ("train", "dev", "table", "held_out", "lookup"):
        groups += [FORMATS, FORMATS, FORMATS]
    kind = rng.choice(rng.choice(groups))
    names = (path.name, path.stem, *OF_FEW_ROWS)
    if kind in NOT_TEXT:
        path.write_bytes(_not_text(kind, path.read_bytes(), rng))
        return Mutation(f"{path.name}: {kind}", must_be_refused(), names)
    if kind in NOT_FILES:
        replace_file(path, lambda place: _not_a_file(kind, place))
        return Mutation(f"{path.name}: {kind}", explained() if kind == "full folder" else must_be_refused(), names)
    content = path.read_text(encoding="utf-8")
    if kind in NO_TEXT:
        path.write_text({"empty": "", "blank": " \n\n\t\n", "only a BOM": "\ufeff"}[kind], encoding="utf-8")
        return Mutation(f"{path.name}: {kind}", must_be_refused(), names)
    if kind in SAME_TEXT:
        changed = {"BOM": "\ufeff" + content, "CRLF": content.replace("\n", "\r\n")}.get(kind, content.rstrip("\n"))
        path.write_bytes(changed.encode())
        return Mutation(f"{path.name}: {kind}", harmless(), names)
    if kind in FORMATS:
        return _other_format(kind, path, content, arguments, rng)
    path.write_bytes(_other_text(kind, content, rng))
    return Mutation(f"{path.name}: {kind}", explained(), names)


def _not_text(kind: str, content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return {
        "utf-16": lambda: content.decode().encode("utf-16"),
        "utf-32": lambda: content.decode().encode("utf-32"),
        "gzip": lambda: gzip.compress(content),
        "noise": lambda: b"\xff" + rng.randbytes(2000),
        "surrogate": lambda: content[:place] + b"\xed\xa0\x80" + content[place:],
        "half a character": lambda: content[:place] + b"\xc3\n" + content[place:],
    }[kind]()


def _not_a_file(kind: str, path: Path) -> None:
    if kind in ("folder", "full folder"):
        path.mkdir()
        if kind == "full folder":
            (path / "x.txt").write_text("Ada Lovelace. Born in London .\n", encoding="utf-8")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind != "missing":
        targets = {"loop": path.name, "dangling link": "missing", "device": "/dev/zero", "memory": "/proc/self/mem"}
        path.symlink_to(targets[kind])


def _other_text(kind: str, content: str, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    lines = content.splitlines(keepends=True)
    if kind == "odd":
        for _ in range(rng.choice([1, 1, 5, 50])):
            place = rng.randrange(len(content))
            content = content[:place] + rng.choice(ODD_TEXTS) + content[place:]
        return content.encode()
    if kind == "bit":
        return flip_bits(content.encode(), rng, rng.choice([1, 5]))
    if kind == "lines":
        rng.shuffle(lines)
        return "".join(lines[: rng.randrange(1, len(lines) + 1)]).encode()
    if kind == "joined":
        return content.encode() + b"\xef\xbb\xbf" + content.encode()
    others = {
        "long line": content[:place] + "x " * 100_000 + content[place:],
        "many cells": content[:place] + "\t" * 10_000 + content[place:],
        "NFD": unicodedata.normalize("NFD", content),
        "cut": content[:place],
        "repeated": content * 3,
    }
    return others[kind].encode()


def _other_format(kind: str, path: Path, content: str, arguments: list[str], rng: random.Random) -> Mutation:
    """The file in another format, in which one value is odd."""
    separator = "," if path.suffix == ".csv" else "\t"
    rows = [line.split(separator) for line in content.splitlines()]
    head = rows.pop(0) if path.suffix == ".csv" else ["question", "answer"]
    objects = [dict(zip(head, row, strict=False)) for row in rows]
    value = rng.choice(VALUES)
    rng.choice(objects)[rng.choice([*head, "name", "x"])] = value
    ending = kind
    if kind == "jsonl":
        text = "".join(json.dumps(row) + "\n" for row in objects)
    elif kind == "json":
        text = json.dumps(rng.choice([objects, {"rows": objects}, objects[0], [objects], "x", 3]))
    elif kind == "csv":
        cells = [head, *([str(row.get(name, "")) for name in head] for row in objects)]
        text = "\n".join(",".join(f'"{cell}"' for cell in row) for row in cells)
        place = rng.randrange(len(text))
        text = text[:place] + rng.choice(['"', ",", "\n", '""', "x" * 200_000, ""]) + text[place:]
    else:
        ending = rng.choice(["jsonl", "json", "csv", "tsv", "parquet", "gz", "txt", "xlsx", "", "yaml"])
        text = content
    other = path.with_suffix(f".{ending}" if ending else "")
    path.unlink()
    other.write_text(text, encoding="utf-8", errors="surrogatepass")
    changed = tuple(argument.replace(str(path), str(other)) for argument in arguments)
    return Mutation(
        f"{other.name}: as {kind}, with {str(value)[:30]!r}", explained(), (other.name, *OF_FEW_ROWS), changed
    )
