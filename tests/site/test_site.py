"""The site builds strictly and without a network, and its API documents every public name."""

import ast
import re
import socket
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site, built while no connection can be made."""
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    def refuse(*given):
        raise AssertionError(f"the build connects to {given[1:]}")

    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True)
        config.plugins.on_startup(command="build", dirty=False)
        build(config)
        config.plugins.on_shutdown()
    return folder


def public_names():
    """`module.name` of every class and function of a module whose name does not begin with an underscore."""
    source = ROOT / "src"
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                yield f"{module}.{node.name}"


def test_every_public_name_has_its_place_in_the_api(site):
    pages = "".join(page.read_text(encoding="utf-8") for page in site.glob("api/**/*.html"))
    documented = set(re.findall(r'id="(birthgpt[\w.]*)"', pages))
    names = set(public_names())
    assert len(names) > 500 and names - documented == set()


def test_every_guide_is_a_page_and_nothing_is_loaded_from_elsewhere(site):
    guides = [path.stem for path in (ROOT / "docs").glob("*.md")]
    for place in [*guides, "RESULTS", "CHANGELOG", "CONTRIBUTING", "benchmarks/attention"]:
        assert (site / place / "index.html").is_file(), place
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"""<(?:script|img|link)[^>]*?(?:src|href)=["']?(https?:[^"'\s>]+)""", text)
        # badges of the README say which versions are supported
        assert [url for url in loaded if not url.startswith("https://img.shields.io/")] == [], page
