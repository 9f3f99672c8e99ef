"""The test kit, as the author of an application uses it: pytest, and nothing else running."""

import pytest

from tests.conftest import WriteApp
from tests.nested_pytest import run_pytest

#: 40 lines, its tests aside.
APPLICATION = {
    "sockets/_middleware.py": """
from queue_run import Refuse

NAMES = {"s-ann": "ann", "s-bob": "bob"}


def on_authenticate(request):
    name = NAMES.get(request.cookies.get("session"))
    if name is None:
        raise Refuse(401, "log in first")
    return {"id": name}
""",
    "sockets/index.py": """
from queue_run import ClientError, queues, socket


async def handler(data, user):
    match data:
        case {"join": str(room)}:
            await socket.join(room)
        case {"say": str(text), "in": str(room)}:
            await socket.room(room).send({"from": user["id"], "text": text}, exclude_sender=True)
        case {"invite": str(friend)}:
            await queues.get("invite").push({"friend": friend})
            return {"invited": friend}
        case _:
            raise ClientError("join, say or invite")
""",
    "queues/invite.py": """
from queue_run import socket


def handler(job, *, user):
    socket.to(job["friend"]).send({"invited by": user["id"]})
    socket.send({"told": job["friend"]})
""",
}

TESTS = """
import pytest

from queue_run import Refuse
from queue_run.testing import Pushed, connected


def test_only_members_are_let_in(queue_run_app):
    with pytest.raises(Refuse):
        with queue_run_app.connected(cookies={"session": "forged"}):
            pass
    with queue_run_app.connected(cookies={"session": "s-ann"}) as ann:
        assert ann.user_id == "ann"


def test_a_room_hears_what_is_said(connect):
    ann, bob = connect("ann"), connect("bob")
    for client in (ann, bob):
        client.send({"join": "lobby"})
    ann.send({"say": "hi", "in": "lobby"})
    assert bob.received == [{"from": "ann", "text": "hi"}]
    assert ann.received == []


def test_an_invitation_is_a_job(queue_run_app, connect):
    ann, bob = connect("ann"), connect("bob")
    ann.send({"invite": "bob"})
    assert queue_run_app.pushed == [
        Pushed(queue="invite", payload={"friend": "bob"}, user={"id": "ann"})
    ]
    queue_run_app.run_jobs()
    assert bob.received == [{"invited by": "ann"}]
    assert ann.received == [{"invited": "bob"}, {"told": "bob"}]


def test_anything_else_is_an_error():
    with connected(user="ann") as ann:
        ann.send("what?")
        assert ann.received == [{"error": "join, say or invite"}]
"""


def test_an_application_of_40_lines_is_tested_without_a_server(write_app: WriteApp) -> None:
    lines = [line for text in APPLICATION.values() for line in text.splitlines() if line]
    assert len(lines) <= 40
    folder = write_app({**APPLICATION, "test_application.py": TESTS})
    # The limit on each test is a second; the four together take a small part of it.
    ended = run_pytest(folder, "--timeout", "1", "-W", "error", "-p", "no:asyncio")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "4 passed" in ended.stdout


def test_a_test_that_expects_something_else_fails(write_app: WriteApp) -> None:
    wrong = TESTS.replace('"told": "bob"', '"told": "eve"')
    folder = write_app({**APPLICATION, "test_application.py": wrong})
    ended = run_pytest(folder)
    assert ended.returncode == pytest.ExitCode.TESTS_FAILED, ended.stdout + ended.stderr
    assert "3 passed" in ended.stdout
    assert "1 failed" in ended.stdout
