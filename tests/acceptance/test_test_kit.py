"""The test kit, as the author of an application uses it: pytest, and nothing else running."""

import pytest

from tests.conftest import WriteApp
from tests.nested_pytest import run_pytest
from tests.waiting import DEADLINE

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
    ended = run_pytest(folder, "--timeout", f"{DEADLINE:g}", "-W", "error", "-p", "no:asyncio")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "4 passed" in ended.stdout


def test_a_test_that_expects_something_else_fails(write_app: WriteApp) -> None:
    wrong = TESTS.replace('"told": "bob"', '"told": "eve"')
    folder = write_app({**APPLICATION, "test_application.py": wrong})
    ended = run_pytest(folder)
    assert ended.returncode == pytest.ExitCode.TESTS_FAILED, ended.stdout + ended.stderr
    assert "3 passed" in ended.stdout
    assert "1 failed" in ended.stdout


ORDERS = {
    "sockets/index.py": """
from queue_run import queues


async def handler(data, user):
    match data:
        case {"transfer": int(amount), "id": str(name)}:
            account = queues.get("account").group(user["id"]).dedupe(name)
            return {"job": await account.push({"amount": amount}, params={"by": "web"})}
        case {"cancel": str(job_id)}:
            return {"cancelled": await queues.cancel(job_id)}
""",
    "queues/account.py": """
from dataclasses import dataclass

from queue_run import Config, Queue, socket

config = Config(fifo=True, notify=True, retries=1)
lines = []


@dataclass
class Transfer:
    amount: int


queue = Queue[Transfer](__name__)


def on_job_started(job):
    lines.append(f"{job.sequence_number} by {job.params.get('by')}")


def handler(transfer: Transfer, *, group_id):
    if transfer.amount > 100:
        raise PermissionError("too much")
    socket.send({"moved": transfer.amount, "of": group_id})
""",
}

JOB_TESTS = """
import pytest

from queue_run import InvalidPush, dead_letters, queues
from queue_run.testing import Pushed


def test_transfers_are_made_once_and_in_order(queue_run_app, connect):
    from queues.account import lines

    ann = connect("ann")
    for amount, name in [(1, "a"), (2, "b"), (1, "a")]:
        ann.send({"transfer": amount, "id": name})
    first, second, again = [each["job"] for each in ann.received]
    assert again == first
    facts = {"queue": "account", "user": {"id": "ann"}, "params": {"by": "web"}, "group": "ann"}
    assert queue_run_app.pushed == [
        Pushed(payload={"amount": 1}, dedupe="a", **facts),
        Pushed(payload={"amount": 2}, dedupe="b", **facts),
    ]
    queue_run_app.run_jobs()
    assert ann.received[3:] == [
        {"moved": 1, "of": "ann"},
        {"event": "finished", "job": first, "queue": "account"},
        {"moved": 2, "of": "ann"},
        {"event": "finished", "job": second, "queue": "account"},
    ]
    assert lines == ["1 by web", "2 by web"]


def test_the_last_attempt_tells_that_it_failed(queue_run_app, connect):
    from queues.account import Transfer, queue

    ann = connect("ann")
    queue.group("ann").push(Transfer(1000))
    with pytest.raises(PermissionError):
        queue_run_app.run_jobs()
    assert ann.received == [] == dead_letters.newest().value
    with pytest.raises(PermissionError):
        queue_run_app.run_job("account", {"amount": 1000}, user="ann", group="ann", attempt=2)
    [told] = ann.received
    assert told["event"] == "failed"
    assert dead_letters.get(told["job"]).value.error == "PermissionError: too much"


def test_a_wrong_transfer_is_not_pushed(queue_run_app):
    for queue in (queues.get("account"), queues.get("account").group("ann")):
        with pytest.raises(InvalidPush):
            queue.push({"amount": "all"})
    assert queue_run_app.pushed == []


@pytest.mark.asyncio
async def test_a_transfer_is_cancelled(queue_run_app):
    async with queue_run_app.connected("ann") as ann:
        await ann.send({"transfer": 1, "id": "a"})
        job_id = ann.received[0]["job"]
        await ann.send({"cancel": job_id})
        assert await queue_run_app.run_jobs_async() == []
        await ann.send({"cancel": job_id})
        assert ann.received[1:] == [
            {"cancelled": True},
            {"event": "cancelled", "job": job_id, "queue": "account"},
            {"cancelled": False},
        ]
"""


def test_jobs_in_groups_are_tested_without_a_worker(write_app: WriteApp) -> None:
    folder = write_app({**ORDERS, "test_application.py": JOB_TESTS})
    scope = "asyncio_default_fixture_loop_scope=function"
    ended = run_pytest(folder, "--timeout", f"{DEADLINE:g}", "-W", "error", "-o", scope)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "4 passed" in ended.stdout
