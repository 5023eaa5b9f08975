"""A headless browser: Debian's chromium. In CI it must be there; elsewhere the tests are skipped without it."""

import os
import shutil
from importlib.util import find_spec

import pytest

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
ARGUMENTS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
# `make pages` installs what these tests need
collect_ignore_glob = [] if find_spec("playwright") else ["test_*.py"]
WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}


@pytest.fixture(scope="session")
def browser():
    if shutil.which(CHROMIUM) is None and not os.environ.get("CI"):
        pytest.skip(f"there is no browser {CHROMIUM}: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield found
        found.close()


@pytest.fixture(params=WIDTHS)
def page(request, browser):
    """A page of the width of a desktop, and one of that of a phone; errors in scripts fail the test."""
    width, height = WIDTHS[request.param]
    # a page that scrolls smoothly would still move while a test reads where something is
    context = browser.new_context(
        viewport={"width": width, "height": height}, has_touch=request.param == "phone", reduced_motion="reduce"
    )
    opened = context.new_page()
    errors = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    context.close()
    assert errors == []
