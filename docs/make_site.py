"""Hooks of mkdocs: pages outside of docs/, an API page for each package, and links to files that are no pages."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from pymdownx.slugs import slugify

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "birthgpt"
AS_THEY_ARE = (
    "CONTRIBUTING.md", "CHANGELOG.md", "RESULTS.md", "benchmarks/attention.md", "benchmarks/encoder_decoder.md",
    "benchmarks/confidence_seeds.md",
)  # fmt: skip
PAGES = {"README.md": "index.md", **{name: name for name in AS_THEY_ARE}}
"""Pages of the repository outside of docs/, and where the site has them."""

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]+)(#[^)]*)?\)")
_BADGE = re.compile(r"\[!\[[^\]]*\]\((?!https?:)[^)]*\)\]\([^)]*\)\n?")
_FENCE = re.compile(r"^( *)(```|~~~).*?^\1\2", re.MULTILINE | re.DOTALL)


def on_config(config: Any) -> Any:
    """Fill the part `API` of the navigation, a page for each package, and make anchors as GitHub does."""
    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")
    config.nav[-1] = {"API": [{page.rpartition("/")[2].removesuffix(".md"): page} for page in api_pages()]}
    return config


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages and pictures outside of docs/, and the API pages."""
    for source, place in PAGES.items():
        files.append(File.generated(config, place, content=(ROOT / source).read_text(encoding="utf-8")))
    for picture in sorted(pictures()):
        files.append(File.generated(config, picture, abs_src_path=str(ROOT / picture)))
    for place, modules in api_pages().items():
        files.append(File.generated(config, place, content=api_page(place, modules)))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Make links lead to pages of the site; a link to another file of the repository becomes its name."""
    uri = page.file.src_uri
    source = next((path for path, place in PAGES.items() if place == uri), f"docs/{uri}")
    if uri.startswith("api/"):
        return markdown
    # a badge of the repository is a picture in a link
    markdown = _BADGE.sub("", markdown)

    def replaced(match: re.Match) -> str:
        picture, text, link, anchor = match.groups()
        if "://" in link or link.startswith("mailto:"):
            return match[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
        place = PAGES.get(target) or (target.removeprefix("docs/") if target.startswith("docs/") else target)
        if files.get_file_from_path(place) is not None:
            return f"{picture}[{text}]({posixpath.relpath(place, posixpath.dirname(uri) or '.')}{anchor or ''})"
        # badges and files of code are in the repository, and not on the site
        return "" if picture else text

    kept = [match.span() for match in _FENCE.finditer(markdown)]
    parts, start = [], 0
    for first, last in [*kept, (len(markdown), len(markdown))]:
        parts += [_LINK.sub(replaced, markdown[start:first]), markdown[first:last]]
        start = last
    return "".join(parts)


def pictures() -> set[str]:
    """The pictures outside of docs/ that a page shows, by their paths in the repository."""
    found = set()
    for page in [*(ROOT / name for name in PAGES), *(ROOT / "docs").glob("*.md")]:
        for match in _LINK.finditer(page.read_text(encoding="utf-8")):
            target = posixpath.normpath(posixpath.join(page.parent.relative_to(ROOT).as_posix(), match[3]))
            is_outside = not target.startswith("docs/") and "://" not in match[3]
            if is_outside and target.endswith((".svg", ".png")) and (ROOT / target).is_file():
                found.add(target)
    return found


def api_pages() -> dict[str, list[str]]:
    """For each page of the API, the modules that it describes: those of one package."""
    pages: dict[str, list[str]] = {}
    for file in sorted(SOURCE.rglob("*.py")):
        parts = ["birthgpt", *file.relative_to(SOURCE).with_suffix("").parts]
        if parts[-1] == "__main__":
            continue
        package = ".".join(parts[:-1])
        name = package if parts[-1] == "__init__" else ".".join(parts)
        pages.setdefault(f"api/{package}.md", []).append(name)
    return {page: sorted(modules) for page, modules in sorted(pages.items())}


def api_page(place: str, modules: list[str]) -> str:
    """The page of a package: what each of its modules documents."""
    title = place.removeprefix("api/").removesuffix(".md")
    return f"# {title}\n\n" + "\n".join(f"::: {module}\n" for module in modules)
