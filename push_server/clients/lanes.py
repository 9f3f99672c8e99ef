"""A lane: the ordered sequence of one connection's requests.

Pure: no clock and no I/O. One turn of a lane is in flight at a time; what arrives meanwhile waits
and leaves together as the next turn, so that order costs no round trip per request.
"""

from collections.abc import Sequence

from queue_run.contracts.envelopes import Inbound
from queue_run.contracts.ids import RequestId


class Lane:
    """The requests of one connection: those that wait, and those that are with a worker."""

    __slots__ = ("_in_flight", "_max_bytes", "_max_requests", "_waiting", "_waiting_bytes")

    def __init__(self, *, max_requests: int, max_bytes: int) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        # Lists: they are short, and an empty one costs a tenth of an empty deque.
        self._waiting: list[Inbound] = []
        self._waiting_bytes = 0
        #: Requests of the current turn without an outcome, in order.
        self._in_flight: list[RequestId] = []

    @property
    def idle(self) -> bool:
        """True while no request waits or is with a worker."""
        return not self._waiting and not self._in_flight

    @property
    def full(self) -> bool:
        """True while so many requests or bytes wait that no more should be read from the client."""
        return len(self._waiting) >= self._max_requests or self._waiting_bytes >= self._max_bytes

    @property
    def head(self) -> RequestId | None:
        """The request whose outcome is due next."""
        return self._in_flight[0] if self._in_flight else None

    def add(self, request: Inbound) -> None:
        """Let a request wait for its turn."""
        self._waiting.append(request)
        self._waiting_bytes += len(request.data)

    def next_turn(self) -> list[Inbound]:
        """Take all that wait, as the new turn; empty while a turn is in flight."""
        if self._in_flight:
            return []
        turn, self._waiting = self._waiting, []
        self._waiting_bytes = 0
        self._in_flight = [request.id for request in turn]
        return turn

    def give_back(self, requests: Sequence[Inbound]) -> None:
        """Let requests of the turn in flight wait again, before all others."""
        given_back = [request for request in requests if self.settle(request.id)]
        self._waiting[:0] = given_back
        self._waiting_bytes += sum(len(request.data) for request in given_back)

    def settle(self, request: RequestId) -> bool:
        """Note an outcome; False when nobody waits for it any more."""
        try:
            self._in_flight.remove(request)
        except ValueError:
            return False
        return True

    def abandon(self) -> list[RequestId]:
        """Give up the turn in flight; return those of its requests that have no outcome yet."""
        given_up = list(self._in_flight)
        self._in_flight.clear()
        return given_up

    def give_up(self) -> list[RequestId]:
        """Give up all requests, in flight and waiting, and return them."""
        given_up = self.abandon() + [request.id for request in self._waiting]
        self._waiting.clear()
        self._waiting_bytes = 0
        return given_up
