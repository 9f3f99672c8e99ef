"""What the jobs of tests/apps/jobs have done, read from Redis; and pushing to them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis

from queue_run.process import runtime
from queue_run.process.runtime import Runtime
from queue_run.settings import Settings
from tests.processes import Stack
from tests.waiting import DEADLINE, eventually, eventually_async

Entry = dict[str, Any]


class JobRecord:
    """The record of one stack."""

    def __init__(self, stack: Stack) -> None:
        self.client = redis.Redis.from_url(stack.redis_url, decode_responses=True)
        self._namespace = stack.namespace
        self._read = 0
        self._entries: dict[str, Entry] = {}

    def key(self, name: str) -> str:
        return f"{self._namespace}:test:{name}"

    def all(self, what: str | None = None, **facts: object) -> list[Entry]:
        """The entries with these facts, in the order in which they were written."""
        self._read_on()
        return [
            entry
            for entry in self._entries.values()
            if (what is None or entry["what"] == what)
            and all(entry.get(name) == value for name, value in facts.items())
        ]

    def wait(self, what: str, count: int = 1, **facts: object) -> list[Entry]:
        """Wait for at least so many entries; all there are by then."""
        return eventually(
            lambda: self._at_least(count, what, facts), what=f"{count} x {what} {facts}"
        )

    async def wait_async(
        self, what: str, count: int = 1, *, deadline: float = DEADLINE, **facts: object
    ) -> list[Entry]:
        """The same, while the test's event loop goes on."""
        return await eventually_async(
            lambda: self._at_least(count, what, facts),
            what=f"{count} x {what} {facts}",
            deadline=deadline,
        )

    def _at_least(self, count: int, what: str, facts: dict[str, object]) -> list[Entry]:
        found = self.all(what, **facts)
        return found if len(found) >= count else []

    def _read_on(self) -> None:
        try:
            new = self.client.lrange(self.key("record"), self._read, -1)
        except redis.RedisError:
            return  # A test has killed it.
        assert isinstance(new, list)
        self._read += len(new)
        for text in new:
            entry = json.loads(text)
            self._entries.setdefault(entry["id"], entry)


@contextmanager
def pushing_to(stack: Stack) -> Iterator[Runtime]:
    """Inside the block, `queues` and `dead_letters` of this process are those of a stack."""
    with runtime.using(Runtime(Settings.from_env(stack.environ()))) as here:
        yield here
