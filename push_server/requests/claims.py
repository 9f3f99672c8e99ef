"""Claims: notes in Redis of the push server that took a client's request.

A repetition of the request finds the claim, and is not run again.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from queue_run.contracts.envelopes import Turn
from queue_run.contracts.ids import RequestId
from queue_run.storage.clock import Clock
from queue_run.storage.script_files import load
from queue_run.storage.scripts import Store, milliseconds

_CLAIM = load("requests/claim")


class Holder(NamedTuple):
    """The request under which a client's request is known already."""

    request: RequestId
    #: When it was claimed, in milliseconds of Redis' clock.
    since: int


class ClaimAnswer(NamedTuple):
    """The number of requests of a turn that were claimed, and the holder of the next one."""

    taken: int
    holder: Holder | None


class Claims:
    """Claims of clients' requests; safe to use from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def take(
        self,
        turns: Sequence[Sequence[tuple[str, RequestId]]],
        *,
        lasts: float,
        sessions: Mapping[str, str] | None = None,
        lives: float = 0.0,
    ) -> list[ClaimAnswer]:
        """Claim the requests of some turns, each by its claim's key and its id.

        Args:
            lasts: seconds for which the claims are remembered.
            sessions: keys of sessions that live, with what stands there, to be written first.
            lives: seconds for which these live.

        Raises:
            JobStoreUnavailable: when Redis does not answer in time.
        """
        sessions = sessions or {}
        keys = [*sessions, *(key for turn in turns for key, _ in turn)]
        arguments: list[object] = [milliseconds(lasts), milliseconds(lives), len(sessions)]
        arguments += sessions.values()
        for turn in turns:
            arguments += [len(turn), *(request for _, request in turn)]
        found = self._store.call(_CLAIM, keys, arguments)
        return [
            ClaimAnswer(int(taken), _holder(holder))
            for taken, holder in zip(found[::2], found[1::2], strict=True)
        ]


def _holder(text: bytes) -> Holder | None:
    since, _, request = text.decode().partition(" ")
    return Holder(RequestId(request), int(since)) if request else None


class Claiming:
    """Claims what the dispatcher is about to send, on its thread, and says on the loop what was
    sent before."""

    def __init__(
        self,
        claims: Claims,
        key: Callable[[str, str], str],
        *,
        session_time: float,
        clock: Clock,
        untold: Callable[[str], tuple[str, str] | None] = lambda session: None,
    ) -> None:
        """
        Args:
            key: gives the Redis key of the claim of a session's request.
            session_time: seconds for which a session outlives its socket.
            clock: by which requests expire.
            untold: the key of a session, and what stands there, where Redis may not know yet that
                it lives: else a request of it would be lost with this push server. Called in the
                dispatcher's thread.
        """
        self._claims = claims
        self._untold = untold
        self._key = key
        self._session_time = session_time
        self._clock = clock
        self._tell: Callable[[Turn, ClaimAnswer], None] = _tell_nobody

    def start(self, on_held: Callable[[Turn, int, Holder], None]) -> None:
        """Call `on_held` on the running loop for each turn with a request that was sent before.

        Args:
            on_held: gets the turn, the number of the first such request, and its holder.
        """
        loop = asyncio.get_running_loop()

        def tell(turn: Turn, answer: ClaimAnswer) -> None:
            assert answer.holder is not None
            loop.call_soon_threadsafe(on_held, turn, answer.taken, answer.holder)

        self._tell = tell

    def __call__(self, turns: Sequence[tuple[Turn, Sequence[str]]]) -> list[int]:
        """Claim turns for the dispatcher (see `queue_run.broker.dispatch.Claim`)."""
        # An outcome that came at the last moment may have been written to a dead socket: its
        # client notices, and has its session's time to come back and repeat the request.
        last = max(turn.expires for turn, _ in turns) - self._clock.now()
        answers = self._claims.take(
            [self._named(turn, names) for turn, names in turns],
            lasts=max(0.0, last) + 2 * self._session_time,
            sessions=dict(filter(None, (self._untold(turn.session or "") for turn, _ in turns))),
            lives=2 * self._session_time,
        )
        for (turn, _), answer in zip(turns, answers, strict=True):
            if answer.holder is not None:
                self._tell(turn, answer)
        return [answer.taken for answer in answers]

    def _named(self, turn: Turn, names: Sequence[str]) -> list[tuple[str, RequestId]]:
        assert turn.session is not None
        return [
            (self._key(turn.session, name), request.id)
            for name, request in zip(names, turn.requests, strict=True)
        ]


def _tell_nobody(turn: Turn, answer: ClaimAnswer) -> None:
    """Do nothing: before `start`, nobody asks for these answers."""
