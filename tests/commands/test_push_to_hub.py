"""A push to the Hub, by the real client and a real server: nobody sees a part of a model, or the token."""

import json
import logging
import shutil
import subprocess
import sys
import time
from pathlib import Path

import huggingface_hub.constants
import pytest
from hub_server import READ_TOKEN, TOKEN

from birthgpt.commands import hub as hub_module
from birthgpt.commands.push import PushSettings, export

ROOT = Path(__file__).parents[2]


@pytest.fixture
def no_waiting(monkeypatch):
    """The client repeats requests at once."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def push(finetuned, folder: Path, hub_model_id: str = "you/mine", **settings) -> Path:
    arguments = {"model_name_or_path": str(finetuned), "output_dir": str(folder / "export")}
    result = export(PushSettings(**arguments, hub_model_id=hub_model_id, overwrite_output_dir=True, **settings))
    assert result is not None
    return result


def files_in(folder: Path) -> dict[str, bytes]:
    """The files of an export, without the record of the folder."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != ".birthgpt.json"}


@pytest.mark.parametrize("private", [None, True, False])
@pytest.mark.parametrize("default", [True, False])
def test_a_new_repository_has_all_files_in_one_commit_and_is_as_private_as_asked(
    hub, finetuned, tmp_path, private, default
):
    hub.private_by_default = default
    folder = push(finetuned, tmp_path, private=private)
    repository = hub.repositories["you/mine"]
    assert repository.private is (default if private is None else private)
    assert repository.history == ["initial commit", "Upload model"]
    uploaded = {name: content for name, content in repository.files.items() if name != ".gitattributes"}
    assert uploaded == files_in(folder) and "modeling_birthgpt.py" in uploaded


def test_a_private_push_to_a_public_repository_uploads_nothing(hub, finetuned, tmp_path):
    before = hub.create("you/mine").branches["main"]
    with pytest.raises(ValueError, match="you/mine exists and is public: nothing was uploaded"):
        push(finetuned, tmp_path, private=True)
    assert hub.repositories["you/mine"].branches["main"] == before and not hub.objects
    hub.create("you/secret", private=True)
    push(finetuned, tmp_path, "you/secret", private=True)
    assert "model.safetensors" in hub.repositories["you/secret"].files


def test_a_name_without_user_is_that_of_the_account_also_in_the_card(hub, finetuned, tmp_path):
    push(finetuned, tmp_path, "mine")
    card = hub.repositories["you/mine"].files["README.md"].decode()
    assert "# you/mine\n" in card and 'pipeline("text-generation", "you/mine"' in card


def test_only_the_export_is_uploaded(hub, finetuned, tmp_path):
    (push(finetuned, tmp_path) / "secret.txt").write_text("mine")
    folder = push(finetuned, tmp_path)
    assert (folder / "secret.txt").is_file() and "secret.txt" not in hub.repositories["you/mine"].files


def test_parts_of_an_earlier_model_go_and_files_of_the_user_stay(hub, finetuned, tmp_path, caplog):
    manifest = json.dumps({"files": {"attention_old.py": {}, "run.json": {}, "config.json": {}}}).encode()
    old = {"attention_old.py": b"x", "run.json": b"{}", "config.json": b"{}", "manifest.json": manifest}
    weights = {
        "model-00001-of-00002.safetensors": b"1",
        "model.safetensors.index.json": b"{}",
        "pytorch_model.bin": b"2",
    }
    read = {"adapter_config.json": b"{}", "generation_config.json": b"{}", "additional_chat_templates/rag.jinja": b"x"}
    mine = {"picture.png": b"png", "notes/plan.md": b"plan", "handler.py": b"x", "LICENSE": b"MIT"}
    repository = hub.create("you/mine", **old, **weights, **read, **mine)
    caplog.set_level(logging.INFO)
    folder = push(finetuned, tmp_path)
    assert repository.files == {**files_in(folder), **mine, ".gitattributes": repository.files[".gitattributes"]}
    assert len(repository.history) == 2 and "attention_old.py" in caplog.text
    # the files of the first commit are still in the history
    assert "adapter_config.json" in repository.commits[repository.commits[repository.branches["main"]].parent].files


def test_a_repository_of_other_programs_with_an_odd_manifest_is_pushed_to(hub, finetuned, tmp_path):
    for number, content in enumerate([b"{", b"[]", b'{"files": 3}', b'{"files": null}', b"\xff"]):
        hub.create(f"you/odd{number}", **{"manifest.json": content, "mine.txt": b"mine"})
        push(finetuned, tmp_path, f"you/odd{number}")
        assert hub.repositories[f"you/odd{number}"].files["mine.txt"] == b"mine"


def test_a_second_push_of_the_same_model_makes_no_commit(hub, finetuned, tmp_path):
    push(finetuned, tmp_path)
    push(finetuned, tmp_path)
    assert len(hub.repositories["you/mine"].history) == 2


def test_an_upload_that_is_cut_is_repeated(hub, finetuned, tmp_path, no_waiting):
    hub.cut_uploads = 2
    folder = push(finetuned, tmp_path)
    assert hub.repositories["you/mine"].files["model.safetensors"] == (folder / "model.safetensors").read_bytes()


def test_an_interrupted_push_leaves_what_was_there_and_a_repeated_one_works(hub, finetuned, tmp_path, no_waiting):
    repository = hub.create("you/mine", **{"config.json": b"old", "model.safetensors": b"old weights"})
    before = repository.files
    hub.cut_uploads = 100
    with pytest.raises(ValueError, match=r"you/mine could not be pushed .*model.safetensors.*the export is in"):
        push(finetuned, tmp_path)
    assert hub.cut_uploads < 100 and repository.files == before and repository.history == ["initial commit"]
    hub.cut_uploads = 0
    folder = push(finetuned, tmp_path)
    assert repository.files == {**files_in(folder), ".gitattributes": before[".gitattributes"]}
    assert len(repository.history) == 2


def test_a_push_whose_answer_is_lost_is_found_done_by_the_next(hub, finetuned, tmp_path):
    hub.lost_commits = 1
    with pytest.raises(ValueError, match="you/mine could not be pushed"):
        push(finetuned, tmp_path)
    push(finetuned, tmp_path)
    assert hub.repositories["you/mine"].history == ["initial commit", "Upload model"]


def test_a_push_beside_another_one_is_refused(hub, finetuned, tmp_path, monkeypatch):
    repository = hub.create("you/mine")

    def stale_files(*arguments):
        repository.add("main", type(repository.at("main"))("theirs", {}, repository.branches["main"]))
        return []

    monkeypatch.setattr(hub_module, "stale_files", stale_files)
    with pytest.raises(ValueError, match="somebody else has changed the repository meanwhile: push again"):
        push(finetuned, tmp_path)
    assert repository.history == ["initial commit", "theirs"]


def test_a_branch_and_a_tag_are_made_and_no_tag_is_moved(hub, finetuned, tmp_path):
    push(finetuned, tmp_path, hub_revision="trial", hub_tag="v1", commit_message="A trial")
    repository = hub.repositories["you/mine"]
    assert repository.history == ["initial commit"]
    assert repository.at("v1").message == "A trial" and repository.at("v1") == repository.at("trial")
    with pytest.raises(ValueError, match="you/mine has the tag v1 already: nothing was uploaded; give another"):
        push(finetuned, tmp_path, hub_tag="v1")
    with pytest.raises(ValueError, match="hub_revision=v1 is a tag of you/mine: give a branch"):
        push(finetuned, tmp_path, hub_revision="v1")
    assert repository.history == ["initial commit"]


def test_settings_of_a_push_need_a_repository():
    arguments = {"model_name_or_path": "a", "output_dir": "b"}
    for name in ("hub_tag", "hub_revision"):
        with pytest.raises(ValueError, match=f"{name}=x has no effect without hub_model_id"):
            PushSettings(**arguments, **{name: "x"})
    with pytest.raises(ValueError, match="commit_message is empty"):
        PushSettings(**arguments, commit_message=" ")


@pytest.mark.parametrize(
    ("token", "hub_model_id", "message"),
    [
        (
            "hf_wrongwrongwrongwrong",
            "you/mine",
            "the Hub refuses the token: log in by `hf auth login`, or set HF_TOKEN",
        ),
        (None, "you/mine", "the Hub asks for a token: log in by `hf auth login`, or set HF_TOKEN"),
        (READ_TOKEN, "you/new", "this token may not write there"),
        (READ_TOKEN, "you/mine", "this token may not write there"),
        (TOKEN, "somebody/model", "this token may not write there"),
        ("hf_bad\x01bad\x01bad", "you/mine", "could not be pushed"),
        (TOKEN, "a/b/c", "could not be pushed"),
    ],
)
def test_a_wrong_token_or_name_is_one_line_without_the_token(
    hub, finetuned, tmp_path, monkeypatch, token, hub_model_id, message
):
    before = hub.create("you/mine").branches["main"]
    monkeypatch.delenv("HF_TOKEN")
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(ValueError, match="the export is in") as refusal:
        push(finetuned, tmp_path, hub_model_id)
    text = str(refusal.value)
    assert message in text and "\n" not in text and str(token) not in text
    assert not token or not any(part in text for part in token.split("\x01") if len(part) > 3)
    assert hub.repositories["you/mine"].branches["main"] == before and "you/new" not in hub.repositories


def test_an_unreachable_hub_is_named(hub, finetuned, tmp_path, monkeypatch, no_waiting):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match="you/mine could not be pushed .*the export is in") as refusal:
        push(finetuned, tmp_path)
    assert "\n" not in str(refusal.value)


@pytest.mark.slow
@pytest.mark.parametrize("is_right", [True, False])
def test_the_token_is_in_no_output_and_no_file(hub, finetuned, tmp_path, is_right):
    token = TOKEN if is_right else "hf_wrongwrongwrongwrong"
    environment = {
        **{"PATH": "/usr/bin:/bin", "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": token, "HF_HUB_DISABLE_XET": "1"},
        **{"HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
    }
    shutil.copytree(finetuned, tmp_path / "model")
    hub.cut_uploads = 1
    command = [sys.executable, "-m", "birthgpt", "push", "--model_name_or_path", "model", "--output_dir", "export"]
    result = subprocess.run(
        [*command, "--hub_model_id", "mine"], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == (0 if is_right else 2), result.stderr
    written = [file for file in tmp_path.rglob("*") if file.is_file()]
    stored = list(hub.repositories["you/mine"].files.values()) if is_right else []
    texts = [result.stdout.encode(), result.stderr.encode(), *(file.read_bytes() for file in written), *stored]
    assert len(written) > 20 and not any(token.encode() in text for text in texts)
    if not is_right:
        assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("error: mine could not be pushed")
