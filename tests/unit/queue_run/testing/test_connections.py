"""What a client gets, and when it can send."""

import pytest

from queue_run import socket
from queue_run.testing import Application, Disconnected
from tests.conftest import WriteApp


@pytest.mark.parametrize(
    ("reply", "received"),
    [("'text'", ["text"]), ("b'bytes'", [b"bytes"]), ("[1, {'a': None}]", [[1, {"a": None}]])],
)
def test_a_message_arrives_in_its_form(
    write_app: WriteApp, reply: str, received: list[object]
) -> None:
    app = Application(write_app({"sockets/index.py": f"def handler(data): return {reply}"}))
    with app.connected() as client:
        client.send("go")
        assert client.received == received


@pytest.mark.parametrize(
    ("sent", "data"),
    [
        ("hi", "'hi'"),
        ('{"a": 1}', "{'a': 1}"),
        (b"\x00", r"b'\x00'"),
        ((1, 2), "[1, 2]"),
        (None, "None"),
    ],
)
def test_a_handler_gets_a_message_as_from_a_real_client(
    write_app: WriteApp, sent: object, data: str
) -> None:
    app = Application(write_app({"sockets/index.py": "def handler(data): return repr(data)"}))
    with app.connected() as client:
        client.send(sent)
        assert client.received == [data]


def test_a_closed_client_gets_nothing_more_and_cannot_send(write_app: WriteApp) -> None:
    handler = """
from queue_run import socket

def handler(data):
    socket.join("lobby")
    socket.close(4000, "bye")
    socket.close(4001, "again")
    return "too late"
"""
    with (
        Application(write_app({"sockets/index.py": handler})) as app,
        app.connected(user="ann") as client,
    ):
        assert client.is_open
        client.send("go")
        socket.to("ann").send("too late")
        socket.room("lobby").send("too late")
        assert client.closed == (4000, "bye")
        assert client.rooms == set()
        assert client.received == []
        with pytest.raises(Disconnected, match="closed with 4000 bye"):
            client.send("again")


def test_a_client_is_gone_after_its_block(echo: Application) -> None:
    with echo.connected(user="ann") as client:
        pass
    socket.to("ann").send("hi")
    assert client.received == []
    with pytest.raises(Disconnected, match="after the end of its block"):
        client.send("hi")
