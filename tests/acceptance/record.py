"""What the middleware of tests/apps/document was called with, read from Redis."""

import json
from typing import Any

import redis

from tests.waiting import eventually_async

Call = dict[str, Any]


class Record:
    """The record of one application; tests tell theirs apart by a mark in their messages."""

    def __init__(self, client: "redis.Redis", key: str) -> None:
        self._client = client
        self._key = key

    def all(self, mark: str) -> list[Call]:
        """Every call that has to do with messages of this mark, in order."""
        entries = [json.loads(entry) for entry in self._client.lrange(self._key, 0, -1)]
        return [entry for entry in entries if entry["mark"] == mark]

    async def calls(self, mark: str, hook: str, count: int = 1) -> list[Call]:
        """Wait for so many calls of a hook; all there are by then."""

        def found() -> list[Call]:
            calls = [call for call in self.all(mark) if call["hook"] == hook]
            return calls if len(calls) >= count else []

        return await eventually_async(found, what=f"{count} calls of {hook} for {mark}")

    async def call(self, mark: str, hook: str) -> Call:
        """Wait for the one call of a hook."""
        [call] = await self.calls(mark, hook)
        return call
