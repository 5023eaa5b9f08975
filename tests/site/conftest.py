"""`make docs` installs what these tests need."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("mkdocs") and find_spec("mkdocstrings") else ["test_*.py"]
