"""Messages, rooms and closes, and which clients they reach."""

from queue_run import socket
from queue_run.application.requests import SentMessage
from queue_run.contracts.ids import UserId
from queue_run.testing import Application
from tests.conftest import WriteApp


def test_what_a_handler_sends_comes_before_its_reply(write_app: WriteApp) -> None:
    handler = """
from queue_run import socket

async def handler(data):
    socket.send("awaited by nobody")
    await socket.send("awaited")
    return "reply"
"""
    app = Application(write_app({"sockets/index.py": handler}))
    with app.connected(user="ann") as client:
        client.send("go")
        assert client.received == ["awaited by nobody", "awaited", "reply"]


def test_pushes_reach_the_clients_they_are_for(write_app: WriteApp) -> None:
    handler = "from queue_run import socket\ndef handler(data): socket.to(data).send({'hi': data})"
    with Application(write_app({"sockets/index.py": handler})) as app:
        with (
            app.connected(user="ann") as ann,
            app.connected(user="bob") as bob,
            app.connected(user="bob") as bobs_phone,
        ):
            ann.send(["bob", "eve"])
        assert ann.received == []
        assert bob.received == bobs_phone.received == [{"hi": ["bob", "eve"]}]
        assert app.sent == [
            SentMessage(data={"hi": ["bob", "eve"]}, users=(UserId("bob"), UserId("eve")))
        ]


def test_what_one_client_does_to_a_message_the_other_does_not_see(echo: Application) -> None:
    with echo.connected(user="ann") as first, echo.connected(user="ann") as second:
        socket.to("ann").send({"list": [1]})
        first.received[0]["list"].append(2)
        assert second.received == [{"list": [1]}]
        assert echo.sent[0].data == {"list": [1]}


ROOMS = {
    "sockets/index.py": """
from queue_run import socket

def handler(data):
    verb, room = data
    if verb == "join":
        socket.join(room)
    elif verb == "leave":
        socket.leave(room)
    else:
        socket.room(room).send(verb, exclude_sender=verb == "others")
"""
}


def test_a_room_reaches_those_who_joined_it(write_app: WriteApp) -> None:
    with (
        Application(write_app(ROOMS)) as app,
        app.connected(user="ann") as ann,
        app.connected() as nobody,
        app.connected(user="eve") as eve,
    ):
        for client in (ann, nobody, eve):
            client.send(["join", "lobby"])
        eve.send(["leave", "lobby"])
        ann.send(["all", "lobby"])
        ann.send(["others", "lobby"])
        assert (ann.rooms, eve.rooms) == ({"lobby"}, set())
        assert ann.received == ["all"]
        assert nobody.received == ["all", "others"]
        assert eve.received == []
        assert app.sent[0] == SentMessage(data="all", room="lobby")


def test_a_job_lets_all_connections_of_its_user_join_and_excludes_them(
    write_app: WriteApp,
) -> None:
    files = {
        "queues/room.py": """
from queue_run import socket

def handler(job):
    socket.join("lobby")
    socket.room("lobby").send("for others", exclude_sender=True)
    socket.room("lobby").send("for all")
"""
    }
    with (
        Application(write_app(files)) as app,
        app.connected("ann") as ann,
        app.connected("ann") as phone,
        app.connected("bob") as bob,
    ):
        bob.rooms.add("lobby")
        app.run_job("room", None, user="ann")
        assert ann.received == phone.received == ["for all"]
        assert bob.received == ["for others", "for all"]


def test_a_user_can_be_closed_from_outside(echo: Application) -> None:
    with echo.connected(user="ann") as ann, echo.connected(user="bob") as bob:
        socket.to("ann").close(4002)
        assert (ann.closed, bob.closed) == ((4002, ""), None)
