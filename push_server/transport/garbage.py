"""Keeping Python's garbage collector from stopping the event loop.

A full collection visits everything that lives: at 10,000 connections that takes 100 ms, and they
come along with the connections. Yet what one has found alive is mostly a connection's, which lives
long and then goes by its reference counts, for nothing in it refers back to it (there are tests of
that). So what is alive is set aside, some connections at a time, and visited again very seldom: in
case something does.
"""

import gc
from typing import Any

#: Steps of handshakes after which what they have left alive is set aside, in 2 to 5 ms.
STEPS = 100
#: Steps after which everything is visited.
STEPS_TO_ALL = 1_000_000


class Collector:
    """Garbage collection in small pieces, for the whole process."""

    def __init__(self) -> None:
        self._steps = 0

    def start(self) -> None:
        """Set aside what is here now, and from now on whatever a full collection finds alive."""
        gc.callbacks.append(_set_aside)
        gc.collect()

    def stop(self) -> None:
        """Leave everything to Python's own rules again."""
        gc.callbacks.remove(_set_aside)
        gc.unfreeze()

    def step(self) -> None:
        """A connection has been accepted, or has sent its handshake."""
        # Not left to Python's thresholds: its count of new objects goes down with each that ends,
        # old ones too, so that hundreds of thousands may be new before it collects.
        self._steps += 1
        if self._steps % STEPS_TO_ALL == 0:
            gc.unfreeze()
        if self._steps % STEPS == 0:
            gc.collect()


def _set_aside(phase: str, info: dict[str, Any]) -> None:
    if phase == "stop" and info["generation"] == 2:
        gc.freeze()
