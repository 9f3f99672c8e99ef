"""Faults that were put into a log on purpose: the checker must find each of them."""

from collections.abc import Mapping

from tests.faults.checker import Event, Received

KINDS = ("dropped", "doubled", "reordered", "misdelivered")


def plant(kind: str, logs: Mapping[str, list[Event]]) -> None:
    """Put one fault into the longest log.

    Raises:
        ValueError: where no log holds enough for it.
    """
    log = max(logs.values(), key=len)
    places = [index for index, event in enumerate(log) if isinstance(event, Received)]
    if len(places) < 3:
        raise ValueError("too few messages for a planted fault")
    middle = places[len(places) // 2]
    if kind == "dropped":
        del log[middle]
    elif kind == "doubled":
        log.insert(middle, log[middle])
    elif kind == "reordered":
        before = places[len(places) // 2 - 1]
        log[before], log[middle] = log[middle], log[before]
    elif kind == "misdelivered":
        other = next(each for each in logs.values() if each is not log)
        other.append(_foreign(log, other))
    else:
        raise ValueError(f"no such fault: {kind}")


def _foreign(log: list[Event], other: list[Event]) -> Event:
    """A message of one log that the other has not had."""
    return next(event for event in log if isinstance(event, Received) and event not in other)
