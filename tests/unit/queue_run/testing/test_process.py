"""Code outside of handlers, and where it sends."""

import socket as sockets

import pytest

from queue_run import dead_letters, queues, socket
from queue_run.errors import UnknownDeadLetter, UnknownQueue
from queue_run.process import acting, runtime
from queue_run.settings import Settings
from queue_run.testing import Application
from tests.conftest import WriteApp
from tests.unit.queue_run.testing.applications import ECHO, ENDS, JOBS, LANES


def test_a_view_that_sends_and_pushes_is_seen(jobs: Application) -> None:
    with jobs.connected(user="ann") as ann:
        socket.to("ann").send("from a view")
        with acting.as_user("bob"):
            job_id = queues.get("mail").push({"to": "bob"}).value
        assert ann.received == ["from a view"]
    assert [(each.user, each.id) for each in jobs.pushed] == [({"id": "bob"}, job_id)]


def test_settings_of_the_code_under_test_do_not_lead_to_redis(echo: Application) -> None:
    with echo.connected(user="ann") as ann:
        runtime.configure(Settings(redis_url="redis://127.0.0.1:1/0"))
        socket.to("ann").send("hi")
        assert ann.received == ["hi"]


def test_the_process_sends_as_before_afterwards(write_app: WriteApp, no_runtime: None) -> None:
    before = runtime.configure(Settings(redis_url="redis://127.0.0.1:1/0"))
    with Application(write_app(ECHO)):
        assert runtime.current() is not before
    assert runtime.current() is before


async def test_asynchronous_code_of_the_test_sends_and_pushes(write_app: WriteApp) -> None:
    async with Application(write_app(JOBS)) as app, app.connected("ann") as ann:
        await socket.to("ann").send("awaited")
        socket.to("ann").send("not awaited")
        await queues.get("log.all").push(1)
        queues.get("log.all").push(2)
        assert [each.payload for each in app.pushed] == [1, 2]
        with pytest.raises(UnknownQueue):
            await queues.get("male").push(1)
        assert ann.received == ["awaited", "not awaited"]
        assert [each.payload for each in await app.run_jobs_async()] == [1, 2]
        assert len(await app.run_job_async("log.all", 3)) == 3


async def test_nothing_that_an_application_does_leads_to_redis(write_app: WriteApp) -> None:
    with sockets.create_server(("127.0.0.1", 0)) as redis:
        redis.setblocking(False)
        url = f"redis://127.0.0.1:{redis.getsockname()[1]}/0"
        app = Application(write_app({**LANES, **ENDS}), settings=Settings(redis_url=url))
        async with app, app.connected("ann") as ann:
            await ann.send({"push": "cancel"})
            await queues.get("account").group("ann").push({"add": 1})
            with pytest.raises(UnknownQueue):
                await queues.get("male").push(1)
            await queues.cancel(await queues.get("notified").push("never run"))
            await app.run_jobs_async()
            with pytest.raises(LookupError):
                await app.run_job_async("notified", "fail", user="ann", attempt=2)
            [letter] = await dead_letters.newest()
            await dead_letters.retry(letter.job.id)
            with pytest.raises(UnknownDeadLetter):
                await dead_letters.drop("none")
            await socket.to("ann").send("hi")
            with pytest.raises(RuntimeError, match="no Redis"):
                _ = runtime.current().groups
        with pytest.raises(BlockingIOError):
            redis.accept()


def test_jobs_that_are_pushed_while_the_application_is_imported_are_kept(
    write_app: WriteApp,
) -> None:
    at_import = "from queue_run import Queue\ndef handler(job): 0\nQueue[int](__name__).push(1)"
    with Application(write_app({"queues/mail.py": at_import})) as app:
        assert [each.queue for each in app.run_jobs()] == ["mail"]
