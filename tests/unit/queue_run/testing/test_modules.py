"""The modules of an application come and go with it."""

import sys

import pytest

from queue_run import socket
from queue_run.errors import ApplicationError
from queue_run.process import runtime
from queue_run.testing import Application
from tests.conftest import WriteApp
from tests.unit.queue_run.testing.applications import ECHO


def test_an_application_that_cannot_be_loaded_says_so_and_leaves_nothing(
    write_app: WriteApp, no_runtime: None
) -> None:
    before = list(sys.path)
    with pytest.raises(ApplicationError, match=r"sockets/index\.py: line 1"):
        Application(write_app({"sockets/index.py": "def"})).__enter__()
    assert runtime._current is None
    assert sys.path == before
    assert "sockets.index" not in sys.modules


def test_modules_of_the_same_names_come_back(
    write_app: WriteApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = type(sys)("sockets")
    monkeypatch.setitem(sys.modules, "sockets", mine)
    with Application(write_app(ECHO)):
        assert sys.modules["sockets"] is not mine
    assert sys.modules["sockets"] is mine


def test_an_application_begins_anew_each_time(write_app: WriteApp) -> None:
    counter = "seen = []\ndef handler(data):\n    seen.append(data)\n    return len(seen)"
    app = Application(write_app({"sockets/index.py": counter}))
    for _ in range(2):
        with app, app.connected() as client:
            client.send("hi")
            socket.to("ann").send("hi")
            assert client.received == [1]
            assert len(app.sent) == 1
