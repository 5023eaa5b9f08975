"""A repository of a model on the Hub. It is changed by one commit, so nobody ever sees a part of an upload.

Settings that name the account are those of huggingface_hub: `HF_TOKEN` or `hf auth login`, and `HF_ENDPOINT`.
"""

import logging
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError

from birthgpt.settings import checked, setting
from birthgpt.training.manifest import MANIFEST
from birthgpt.utils.files import read_json

logger = logging.getLogger(__name__)

READ_BY_TRANSFORMERS = (
    *("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin", "*.bin.index.json", "adapter_*"),
    *("generation_config.json", "custom_generate/*", "chat_template.*", "additional_chat_templates/*"),
    *("tokenizer.*", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt"),
)
"""Files that transformers reads if they are there: those of another model would change what this one answers."""

MAIN = "main"


@checked
@dataclass(kw_only=True)
class HubSettings:
    """The repository to push to."""

    hub_model_id: str | None = setting(None, "repository to push to: user/name, or a name of your account")
    private: bool | None = setting(
        None, "make a new repository private, and refuse a public one; the default of the account if not given"
    )
    hub_revision: str = setting(MAIN, "branch to push to; it is made, from main, if it does not exist")
    hub_tag: str | None = setting(None, "new tag of the commit, such as v1")
    commit_message: str = setting("Upload model", "message of the commit on the Hub")

    def validate_hub_settings(self):
        """A commit has a message; what belongs to a push needs a repository."""
        if not self.commit_message.strip():
            raise ValueError("commit_message is empty: say what is uploaded")
        for name, is_given in (("hub_tag", self.hub_tag is not None), ("hub_revision", self.hub_revision != MAIN)):
            if self.hub_model_id is None and is_given:
                raise ValueError(
                    f"{name}={getattr(self, name)} has no effect without hub_model_id: give the repository"
                )


@dataclass(frozen=True)
class Repository:
    """A branch of a repository as it was found.

    Args:
        name: user/name.
        branch: the branch that is pushed to.
        commit: the commit of the branch. If somebody else pushes meanwhile, the upload is refused.
        files: the paths of its files.
    """

    name: str
    branch: str
    commit: str
    files: tuple[str, ...]


def open_repository(settings: HubSettings) -> Repository:
    """The branch to push to. Repository and branch are made if they do not exist.

    Raises:
        ValueError: the repository should be private, but is public; the tag exists, or the branch is a tag.
    """
    assert settings.hub_model_id is not None
    api = HfApi()
    # without a value, the Hub follows the default of the account or the organisation
    url = api.create_repo(settings.hub_model_id, private=settings.private, exist_ok=True)
    found = api.model_info(url.repo_id)
    if settings.private and not found.private:
        raise ValueError(f"{found.id} exists and is public: nothing was uploaded; make it private on the Hub first")
    refs = api.list_repo_refs(found.id)
    tags = {tag.name for tag in refs.tags}
    if settings.hub_tag in tags:
        raise ValueError(f"{found.id} has the tag {settings.hub_tag} already: nothing was uploaded; give another")
    if settings.hub_revision in tags:
        raise ValueError(f"hub_revision={settings.hub_revision} is a tag of {found.id}: give a branch")
    if settings.hub_revision not in {branch.name for branch in refs.branches}:
        api.create_branch(found.id, branch=settings.hub_revision)
    at = api.model_info(found.id, revision=settings.hub_revision)
    assert at.sha is not None, "the Hub names the commit of a revision"
    files = tuple(sibling.rfilename for sibling in at.siblings or ())
    return Repository(found.id, settings.hub_revision, at.sha, files)


def upload(folder: Path, names: Sequence[str], repository: Repository, message: str, tag: str | None = None) -> None:
    """Upload files of a folder, and delete those of an earlier model, as one commit.

    `HfApi.upload_folder` may make several commits, so this calls `create_commit`: all files are in the storage of the
    Hub before the commit names them. After an interruption the repository is as it was, and a repeated upload skips
    what is stored already.
    """
    api = HfApi()
    stale = stale_files(repository, names)
    commit = api.create_commit(
        repository.name,
        [
            *(CommitOperationDelete(name, is_folder=False) for name in stale),
            *(CommitOperationAdd(name, folder / name) for name in names),
        ],
        commit_message=message,
        revision=repository.branch,
        parent_commit=repository.commit,
    )
    if stale:
        logger.info("removed from %s, as parts of an earlier model: %s", repository.name, ", ".join(stale))
    if tag is not None:
        api.create_tag(repository.name, tag=tag, revision=commit.oid)


def stale_files(repository: Repository, names: Iterable[str]) -> list[str]:
    """The files of an earlier model in a repository: those of its manifest, and what transformers would read.

    Other files, such as pictures, stay. The history of the repository keeps all of them.
    """
    earlier = set(_manifest(repository)) if MANIFEST in repository.files else set()
    return [
        file
        for file in sorted(set(repository.files) - set(names))
        if file in earlier or any(fnmatch(file, pattern) for pattern in READ_BY_TRANSFORMERS)
    ]


def hub_fault(error: BaseException) -> str:
    """What went wrong on the Hub, in one line that says what to do, without the token."""
    response = getattr(error, "response", None)
    status = response.status_code if isinstance(error, HfHubHTTPError) and response is not None else None
    token = get_token()
    if status == 401:
        advice = "log in by `hf auth login`, or set HF_TOKEN"
        text = f"the Hub asks for a token: {advice}" if token is None else f"the Hub refuses the token: {advice}"
    elif status == 403:
        text = "this token may not write there: take one with the right to write, or a repository of your account"
    elif status == 412:
        text = "somebody else has changed the repository meanwhile: push again"
    else:
        causes = [error] + ([error.__cause__] if error.__cause__ is not None else [])
        lines = [line.strip() for cause in causes for line in (str(cause) or type(cause).__name__).splitlines()]
        text = " ".join(line for line in lines if line)
    return text.replace(token, "(token)") if token else text


def _manifest(repository: Repository) -> list[str]:
    """The files that the manifest of a repository lists; none if it is not one of this package."""
    with tempfile.TemporaryDirectory() as scratch:
        file = HfApi().hf_hub_download(repository.name, MANIFEST, revision=repository.commit, local_dir=scratch)
        try:
            return list(read_json(file)["files"])
        except (ValueError, KeyError, TypeError):
            return []
