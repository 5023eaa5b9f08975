"""Which code of the model this is: the version of the package, and a hash of the files that an export carries."""

import hashlib
from pathlib import Path

FOLDER = Path(__file__).parent / "model"


def model_code() -> list[Path]:
    """The files of the model folder: all the code that a checkpoint needs to run on its own."""
    return sorted(file for file in FOLDER.glob("*.py") if file.name != "__init__.py")


def code_version(version: str) -> str:
    """The version of the package with the first digits of the SHA-256 of the model's code, such as `0.2.0+1f0a9c3b`."""
    digest = hashlib.sha256()
    for file in model_code():
        digest.update(f"{file.name}\n".encode())
        # line ends are those of the system
        digest.update(file.read_text(encoding="utf-8").encode())
    return f"{version}+{digest.hexdigest()[:8]}"
