"""The page of `birthgpt app` as a Space of the Hub: a folder with the page, the checkpoint, and this package."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import requires, version
from pathlib import Path

import yaml

import birthgpt
from birthgpt.app.page import check_gradio
from birthgpt.settings import checked, setting
from birthgpt.utils.files import check_input_file
from birthgpt.utils.folders import (
    check_may_empty,
    check_output_is_not_input,
    record_files,
    remove_recorded,
)
from birthgpt.utils.locks import locked

SPACE = "space"
"""The kind of a Space in the record of its folder (`utils.folders`)."""

MODEL, PACKAGE, CORPUS = "model", "birthgpt", "corpus"

APP = '''"""Serves the page; Spaces runs this file."""

from pathlib import Path

from birthgpt.commands.app import COMMAND

HERE = Path(__file__).parent
CORPUS = sorted(HERE.glob("{corpus}*"))

if __name__ == "__main__":
    COMMAND([str(HERE / "{model}"), *(f"--corpus_file={{file}}" for file in CORPUS)])
'''

TEXT = """
# {title}

A page to ask a birthgpt model: the answer with its confidence, the competing answers, what the answer depends on, and
the nearest names. It needs no network beside this Space. Upload the folder by

    hf upload USER/NAME . --repo-type space
"""


@checked
@dataclass(kw_only=True)
class SpaceSettings:
    """The folder of a Space."""

    space_dir: str | None = setting(None, "also write a Space, which serves the page of birthgpt app, to this folder")
    space_corpus_file: str | None = setting(
        None, "biographies that the Space shows: everybody who sees the Space can read them"
    )

    def validate_space(self):
        """A corpus of a Space needs a Space."""
        if self.space_corpus_file is not None and self.space_dir is None:
            raise ValueError("space_corpus_file has no effect without space_dir: give the folder of the Space")


def check_space(settings: SpaceSettings, **inputs: str | None) -> None:
    """Raise ValueError, before the work, unless the Space can be written.

    Args:
        inputs: what the command reads or writes, by the name of the setting.
    """
    if settings.space_dir is None:
        return
    target = Path(settings.space_dir)
    check_output_is_not_input(target, space_corpus_file=settings.space_corpus_file, **inputs)
    check_may_empty(target, SPACE)
    check_gradio()
    if settings.space_corpus_file is not None:
        check_input_file(settings.space_corpus_file)
        if not Path(settings.space_corpus_file).is_file():
            raise ValueError(f"space_corpus_file={settings.space_corpus_file} is no file: give one")


def write_space(
    settings: SpaceSettings, export: Path, names: Sequence[str], model_id: str | None, license: str | None
) -> Path:
    """Write the Space; return its folder. An earlier Space in it is replaced.

    Args:
        export: the folder of the exported checkpoint.
        names: the files of the export.
        model_id: the repository of the checkpoint on the Hub, if there is one.
        license: the licence of the card, if there is one.
    """
    assert settings.space_dir is not None
    target = Path(settings.space_dir)
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target), tempfile.TemporaryDirectory(prefix=".unfinished-", dir=target.parent) as scratch:
        temporary = Path(scratch, SPACE)
        (temporary / MODEL).mkdir(parents=True)
        for name in names:
            shutil.copy(export / name, temporary / MODEL / name)
        # the package is not on every index, and the Space must run the code that made it
        copy_package(temporary / PACKAGE)
        if settings.space_corpus_file is not None:
            corpus = Path(settings.space_corpus_file)
            shutil.copy(corpus, temporary / f"{CORPUS}{corpus.suffix}")
        (temporary / "app.py").write_text(APP.format(corpus=CORPUS, model=MODEL), encoding="utf-8")
        (temporary / "requirements.txt").write_text("\n".join(requirements()) + "\n", encoding="utf-8")
        (temporary / "README.md").write_text(readme(model_id or export.name, model_id, license), encoding="utf-8")
        remove_recorded(target, SPACE)
        files = [file.relative_to(temporary).as_posix() for file in temporary.rglob("*") if file.is_file()]
        record_files(target, SPACE, files)
        # a Space that has run has folders of compiled code, which stay
        shutil.copytree(temporary, target, dirs_exist_ok=True)
    return target


def copy_package(folder: Path) -> None:
    """Copy the source of this package with its data files. The page needs no configuration of a training."""
    source = Path(birthgpt.__file__).parent
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("__pycache__"))


def requirements() -> list[str]:
    """What the page needs: the requirements of this package without its extras, and Gradio, which the card pins too."""
    parts = [line.partition(";") for line in requires("birthgpt") or ()]
    needed = [requirement.strip() for requirement, _, marker in parts if not marker.strip()]
    return [*needed, f"gradio=={version('gradio')}"]


def readme(title: str, model_id: str | None, license: str | None) -> str:
    """The card of the Space with the metadata that Spaces reads."""
    metadata = {
        # titles are shown in one line, and are no longer on the Hub
        "title": " ".join(title.split("/")[-1].split())[:60] or "birthgpt",
        "emoji": "🧠",
        "colorFrom": "blue",
        "colorTo": "green",
        "sdk": "gradio",
        "sdk_version": version("gradio"),
        "app_file": "app.py",
        "pinned": False,
        **({"models": [model_id]} if model_id else {}),
        **({"license": license} if license else {}),
    }
    text = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)
    return f"---\n{text}---\n{TEXT.format(title='Ask a small GPT')}"
