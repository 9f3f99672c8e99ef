"""Running `on_online` and `on_offline`, with a real Redis."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from queue_run.contracts.keys import Keys
from queue_run.errors import HandlerTimeout
from queue_run.process import runtime
from queue_run.settings import Settings
from tests.processes import RedisServer
from tests.unit.worker.building import Gate, hook
from tests.waiting import DEADLINE, eventually
from worker import presence as presence_module
from worker.application.middleware import Hooks
from worker.application.routes import Routes
from worker.presence import PresenceWatcher
from worker.running.intake import Intake


class World:
    """Worker processes of one application, in this one."""

    def __init__(self, server: RedisServer, namespace: str) -> None:
        self.settings = Settings(redis_url=server.url, namespace=namespace, heartbeat_interval=0.5)
        self.keys = Keys(namespace)
        self.client = server.client()
        self.told: list[str] = []
        self.errors: list[BaseException] = []
        self.intakes: list[Intake] = []
        self.watchers: list[PresenceWatcher] = []
        self._here = runtime.configure(self.settings)

    def event(self, user: str, online: int) -> None:
        self.client.xadd(self.keys.presence, {"user": user, "online": online})

    def watch(
        self,
        online: Callable[..., Any] | None = None,
        offline: Callable[..., Any] | None = None,
    ) -> PresenceWatcher:
        routes = Routes(
            online=hook(online or self.came),
            offline=None if offline is None else hook(offline),
            hooks=Hooks(error=hook(self.failed)),
        )
        intake = Intake(routes, self._here)
        watcher = PresenceWatcher(self.settings, routes, lambda: intake)
        self.intakes.append(intake)
        self.watchers.append(watcher)
        watcher.start()
        return watcher

    def came(self, user: str) -> None:
        self.told.append(f"+{user}")

    async def went(self, user: str) -> None:
        self.told.append(f"-{user}")

    async def failed(self, error: BaseException, asker: object) -> None:
        assert asker is None
        self.errors.append(error)

    @property
    def left(self) -> int:
        return int(self.client.xlen(self.keys.presence))

    def until_done(self) -> None:
        eventually(lambda: self.left == 0, what="all events to be gone")

    def holder(self) -> str | None:
        found = self.client.get(self.keys.presence_lease)
        return None if found is None else str(found)

    def close(self) -> None:
        for watcher in self.watchers:
            watcher.stop()
        for intake in self.intakes:
            intake.wind_down(DEADLINE)
        self._here.close()
        self.client.close()


@pytest.fixture
def world(redis_server: RedisServer, namespace: str, no_runtime: None) -> Iterator[World]:
    world = World(redis_server, namespace)
    yield world
    world.close()


def test_the_application_is_told_in_order_and_events_are_gone_then(world: World) -> None:
    world.event("ann", 1)
    world.event("ann", 0)
    world.watch(offline=world.went)
    world.until_done()
    assert world.told == ["+ann", "-ann"]
    world.event("ann", 1)
    world.until_done()
    assert world.told == ["+ann", "-ann", "+ann"]


def test_an_event_without_a_function_is_passed_over(world: World) -> None:
    world.watch()
    world.event("ann", 0)
    world.event("bob", 1)
    world.until_done()
    assert world.told == ["+bob"]


def test_an_entry_that_is_none_of_ours_is_passed_over(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.client.xadd(world.keys.presence, {"something": "else"})
    world.event("ann", 1)
    world.watch()
    world.until_done()
    assert world.told == ["+ann"]
    assert "cannot be read" in caplog.text


def test_a_hook_that_would_end_the_loop_holds_up_nothing(world: World) -> None:
    async def rude(user: str) -> None:
        raise KeyboardInterrupt

    world.watch(online=rude, offline=world.went)
    world.event("ann", 1)
    world.event("ann", 0)
    world.until_done()
    assert world.told == ["-ann"]


def test_users_do_not_wait_for_one_another_and_each_keeps_its_order(world: World) -> None:
    gate = Gate()

    async def slow_for_ann(user: str) -> None:
        if user == "ann":
            await gate.handler()
        world.came(user)

    world.watch(online=slow_for_ann, offline=world.went)
    world.event("ann", 1)
    world.event("ann", 0)
    world.event("bob", 1)
    eventually(lambda: world.told == ["+bob"], what="bob")
    gate.open()
    world.until_done()
    assert world.told == ["+bob", "+ann", "-ann"]


def test_no_more_functions_run_at_once_than_may(world: World) -> None:
    gate = Gate()
    world.watch(online=lambda user: gate.pass_through())
    for number in range(3 * presence_module.SIDE_BY_SIDE):
        world.event(f"u{number}", 1)
    eventually(lambda: gate.inside == presence_module.SIDE_BY_SIDE, what="the first of them")
    gate.open()
    world.until_done()
    assert gate.most == presence_module.SIDE_BY_SIDE


def test_a_failure_is_told_to_on_error_and_not_repeated(world: World) -> None:
    async def fails(user: str) -> None:
        world.told.append(user)
        raise LookupError(user)

    world.watch(online=fails)
    world.event("ann", 1)
    world.event("ann", 1)
    world.until_done()
    assert world.told == ["ann", "ann"]
    assert [str(error) for error in world.errors] == ["ann", "ann"]


def test_a_function_that_hangs_is_ended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence_module, "HOOK_TIME", 0.05)
    world.watch(online=lambda user: asyncio.Event().wait())
    world.event("ann", 1)
    world.until_done()
    assert [type(error) for error in world.errors] == [HandlerTimeout]


def test_a_time_limit_of_its_own_is_its_own_failure(world: World) -> None:
    async def impatient(user: str) -> None:
        raise TimeoutError("its own")

    world.watch(online=impatient)
    world.event("ann", 1)
    world.until_done()
    assert [str(error) for error in world.errors] == ["its own"]


def test_one_process_at_a_time_is_at_work(world: World) -> None:
    threads = set()
    lock = threading.Lock()

    def note(name: str) -> Callable[[str], None]:
        def came(user: str) -> None:
            with lock:
                threads.add(name)
                world.came(user)

        return came

    for name in ("one", "two", "three"):
        world.watch(online=note(name))
    for number in range(50):
        world.event(f"u{number}", 1)
    world.until_done()
    assert len(threads) == 1
    assert sorted(world.told) == sorted(f"+u{number}" for number in range(50))


def test_another_process_takes_over_from_one_that_stops(world: World) -> None:
    first = world.watch()
    world.event("ann", 1)
    world.until_done()
    held = world.holder()
    world.watch()
    first.stop()
    eventually(lambda: world.holder() not in (None, held), what="another holder")
    world.event("bob", 1)
    world.until_done()
    assert world.told == ["+ann", "+bob"]


def test_what_a_killed_process_had_not_ended_is_run_again(world: World) -> None:
    # It left its event, and its lease, which ends by itself.
    world.client.set(world.keys.presence_lease, "killed", px=300)
    world.event("ann", 1)
    world.watch()
    assert world.holder() == "killed"
    world.until_done()
    assert world.told == ["+ann"]


def test_a_stop_waits_for_what_runs_and_begins_nothing_new(world: World) -> None:
    gate = Gate()

    async def slow(user: str) -> None:
        await gate.handler()
        world.came(user)

    first = world.watch(online=slow, offline=world.went)
    world.event("ann", 1)
    world.event("ann", 0)
    eventually(lambda: gate.inside == 1, what="the function to run")
    stopping = threading.Thread(target=first.stop)
    stopping.start()
    eventually(first._stopped.is_set, what="the stop to have begun")
    gate.open()
    stopping.join(DEADLINE)
    assert world.told == ["+ann"]
    assert world.left == 1
    assert world.holder() is None
    world.watch(offline=world.went)
    world.until_done()
    assert world.told == ["+ann", "-ann"]


def test_a_process_that_may_have_lost_its_lease_begins_nothing_and_keeps_the_order(
    world: World,
) -> None:
    gate = Gate()

    async def slow(user: str) -> None:
        if not world.told:
            await gate.handler()
        world.came(user)

    watcher = world.watch(online=slow, offline=world.went)
    world.event("ann", 1)
    world.event("ann", 0)
    eventually(lambda: gate.inside == 1, what="the function to run")
    # As after an outage that was longer than the lease, while Redis stood still.
    watcher._next_renewal = float("inf")
    watcher._held_until = 0.0
    world.client.set(world.keys.presence_lease, "another")
    gate.open()
    eventually(lambda: world.left == 1, what="the first event to be gone")
    assert world.told == ["+ann"]
    world.client.delete(world.keys.presence_lease)
    world.event("ann", 1)
    world.until_done()
    assert world.told == ["+ann", "-ann", "+ann"]


def test_what_was_read_when_another_process_has_the_lease_is_not_told(world: World) -> None:
    """A Redis that was emptied gives it to another one, while the first one thinks it has it."""
    world.settings = msgspec.structs.replace(world.settings, heartbeat_interval=600)
    watcher = world.watch()
    eventually(lambda: watcher._held_until, what="the lease")
    world.client.set(world.keys.presence_lease, "another")
    world.event("ann", 1)
    eventually(lambda: not watcher._held_until, what="the loss of the lease")
    assert world.told == []
    world.client.delete(world.keys.presence_lease)
    world.until_done()
    assert world.told == ["+ann"]


def test_a_watcher_outlives_its_redis(
    own_redis: RedisServer, namespace: str, no_runtime: None, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(own_redis, namespace)
    world.watch()
    world.event("ann", 1)
    world.until_done()
    own_redis.kill()
    eventually(lambda: "told of later" in caplog.text, what="the warning")
    own_redis.start()
    world.event("bob", 1)
    world.until_done()
    assert world.told == ["+ann", "+bob"]
    world.close()
