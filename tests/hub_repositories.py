"""What the server of `hub_server` stores: repositories with their commits, branches, tags and files."""

import hashlib
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Blob:
    """A file of a commit."""

    content: bytes
    is_large: bool = False

    @property
    def oid(self) -> str:
        """The SHA-256 of a large file; of another, the name that git gives it."""
        if self.is_large:
            return hashlib.sha256(self.content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()


@dataclass(frozen=True)
class Commit:
    """A commit: all files of the repository after it."""

    message: str
    files: dict[str, Blob]
    parent: str = ""

    @property
    def oid(self) -> str:
        names = sorted((path, blob.oid) for path, blob in self.files.items())
        return hashlib.sha1(repr((self.parent, self.message, names)).encode()).hexdigest()


@dataclass
class Repository:
    """Commits, the newest last in `history`, and the branches and tags that name them."""

    private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def add(self, branch: str, commit: Commit) -> None:
        """Put a commit on a branch."""
        self.commits[commit.oid] = commit
        self.branches[branch] = commit.oid

    def at(self, revision: str) -> Commit | None:
        """The commit of a branch, a tag or a hash."""
        return self.commits.get(self.branches.get(revision) or self.tags.get(revision) or revision)

    @property
    def files(self) -> dict[str, bytes]:
        """The files on main."""
        return {path: blob.content for path, blob in self.commits[self.branches["main"]].files.items()}

    @property
    def history(self) -> list[str]:
        """The messages of the commits on main, the first commit first."""
        messages, oid = [], self.branches["main"]
        while oid:
            messages.insert(0, self.commits[oid].message)
            oid = self.commits[oid].parent
        return messages
