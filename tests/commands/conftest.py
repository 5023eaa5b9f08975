"""The Hub, for commands that push to it or load from it."""

import pytest
from hub_server import Hub


@pytest.fixture
def hub(monkeypatch):
    """A server that the client of this process, logged in as `you`, takes for the Hub."""
    with Hub() as server:
        server.log_in(monkeypatch)
        yield server
    assert server.faults == []
