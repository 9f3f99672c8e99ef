"""Garbage collection in small pieces. That connections leave nothing to collect is tested with
their handlers and their reception."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from push_server.transport.garbage import STEPS, Collector


class Ring:
    """Garbage that only a collection finds."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    made.start()
    yield made
    made.stop()


def is_visited(thing: object) -> bool:
    """Whether a full collection looks at it."""
    return any(each is thing for each in gc.get_objects())


def test_what_was_there_at_the_start_is_not_visited() -> None:
    here = [[0]]
    collector = Collector()
    collector.start()
    assert not is_visited(here)
    collector.stop()
    assert is_visited(here)


def test_what_handshakes_have_left_alive_is_set_aside_some_at_a_time(
    collector: Collector,
) -> None:
    new = [[0]]
    for _ in range(STEPS - 1):
        collector.step()
    assert is_visited(new)
    collector.step()
    assert not is_visited(new)


def test_what_only_a_collection_finds_is_collected_before_that(collector: Collector) -> None:
    gone = weakref.ref(Ring())
    assert gone() is not None
    for _ in range(STEPS):
        collector.step()
    assert gone() is None


def test_what_was_set_aside_goes_with_its_last_reference(collector: Collector) -> None:
    class Thing:
        """Something that can be referred to weakly."""

    thing = Thing()
    gc.collect()
    gone = weakref.ref(thing)
    del thing
    assert gone() is None


def test_what_becomes_garbage_later_is_found_in_the_end(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("push_server.transport.garbage.STEPS_TO_ALL", 5 * STEPS)
    ring = Ring()
    gone = weakref.ref(ring)
    for _ in range(STEPS):
        collector.step()
    del ring
    for _ in range(3 * STEPS):
        collector.step()
    assert gone() is not None
    for _ in range(STEPS):
        collector.step()
    assert gone() is None


def test_collections_that_python_makes_by_itself_set_aside_too(collector: Collector) -> None:
    new = [[0]]
    gc.collect(1)
    assert is_visited(new)
    gc.collect(2)
    assert not is_visited(new)


def test_after_the_end_collections_are_as_they_were() -> None:
    before = list(gc.callbacks)
    collector = Collector()
    collector.start()
    collector.stop()
    assert gc.callbacks == before
    assert gc.get_freeze_count() == 0
