"""The dead letters: jobs that have failed for good, kept until somebody retries or drops them."""

import logging
import uuid
from typing import cast

from queue_run.errors import InvalidEnvelope
from queue_run.jobs.attempt_records import LIVING_EXPIRY
from queue_run.jobs.groups import Group
from queue_run.jobs.stored import DeadLetter, StoredJob, decode_dead_letter, encode
from queue_run.storage.script_files import load
from queue_run.storage.scripts import Store, milliseconds

log = logging.getLogger(__name__)

#: Letters that are read in one round trip.
PAGE = 200
#: Seconds for which a call that drops a letter may be repeated.
DROPPED_EXPIRY = 60.0

_REVIVE = load("dead_letters/revive")
_REVIVE_IN_GROUP = load("dead_letters/revive_in_group")
_DROP = load("dead_letters/drop")


class DeadLetters:
    """The dead letters: the jobs that `Attempts.park` has put aside."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._keys = store.keys

    def newest(self, queue: str | None = None, *, limit: int) -> list[DeadLetter]:
        """The letters of one queue or all, the newest first."""
        # By id: a letter that comes meanwhile moves the others on, to the next page.
        found: dict[str, DeadLetter] = {}
        start = 0
        while len(found) < limit and (page := self._page(start)) is not None:
            start += PAGE
            found |= {each.job.id: each for each in page if queue in (None, each.job.queue)}
        return list(found.values())[: max(0, limit)]

    def get(self, job_id: str) -> DeadLetter | None:
        """
        Raises:
            InvalidEnvelope: when it cannot be read.
        """
        data = self._store.patiently(lambda: self._store.client.hget(self._keys.dead, job_id))
        return decode_dead_letter(data) if isinstance(data, bytes) else None

    def revive(self, letter: DeadLetter, job: StoredJob) -> bool:
        """Let a job run again with all its attempts; False when the letter is gone."""
        keys = [self._keys.job(job.id), self._keys.dead, self._keys.dead_index]
        arguments = [job.id, encode(job), _new_token(), milliseconds(LIVING_EXPIRY)]
        if not letter.fifo:
            keys += [self._keys.delayed, self._keys.delayed_jobs]
            return bool(self._store.call(_REVIVE, keys, arguments))
        assert job.facts.group is not None
        group = Group(job.queue, job.facts.group).name
        keys += [self._keys.group(group), self._keys.groups, self._keys.sequence(job.queue)]
        return bool(self._store.call(_REVIVE_IN_GROUP, keys, [*arguments, group]))

    def drop(self, job_id: str) -> bool:
        """Forget a job; False when there is no such letter."""
        keys = [self._keys.job(job_id), self._keys.dead, self._keys.dead_index]
        arguments = [job_id, _new_token(), milliseconds(DROPPED_EXPIRY)]
        return bool(self._store.call(_DROP, keys, arguments))

    def _page(self, start: int) -> list[DeadLetter] | None:
        """The letters from a position on that can be read; None after the last."""
        client, keys = self._store.client, self._keys
        ids = self._store.patiently(
            lambda: client.zrevrange(keys.dead_index, start, start + PAGE - 1)
        )
        if not ids:
            return None
        data = self._store.patiently(lambda: client.hmget(keys.dead, cast("list[bytes]", ids)))
        return [letter for each in data if each and (letter := _readable(cast("bytes", each)))]


def _readable(data: bytes) -> DeadLetter | None:
    try:
        return decode_dead_letter(data)
    except InvalidEnvelope as error:
        log.error("a dead letter cannot be read, and is left where it is: %s", error)
        return None


def _new_token() -> str:
    """A token by which a repeated call finds that its change was made already."""
    return uuid.uuid4().hex
