"""Who is told of a clock that is wrong."""

import logging
import time

import pytest

from queue_run.process import clock_reports
from queue_run.process.clock_reports import ClockReport, ClockWatch, notes
from queue_run.storage.clock import Clock


class Machine:
    """A machine whose clock is wrong, and what is logged of it."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        self._caplog = caplog
        self.clock = Clock()
        self.watch = ClockWatch(self.clock)

    def look(self, ahead: float) -> float:
        """Let the clock be so far ahead of Redis', and look."""
        moment, wall = time.monotonic(), time.time()
        self.clock.learn((round(wall - ahead), 0), moment, moment)
        return self.watch.look()

    @property
    def logged(self) -> list[tuple[str, str]]:
        return [(record.levelname, record.getMessage()) for record in self._caplog.records]


@pytest.fixture
def machine(caplog: pytest.LogCaptureFixture) -> Machine:
    return Machine(caplog)


def test_a_small_difference_is_nobodys_business(machine: Machine) -> None:
    assert machine.look(1) == 0
    assert machine.logged == []


@pytest.mark.parametrize(("ahead", "words"), [(20, "ahead of"), (-20, "behind")])
def test_a_difference_is_logged_once(machine: Machine, ahead: float, words: str) -> None:
    for _ in range(5):
        assert machine.look(ahead) == pytest.approx(ahead, abs=1)
    [(level, text)] = machine.logged
    assert level == "WARNING"
    assert text.startswith("the clock of this machine is ")
    assert f"s {words} that of Redis" in text


def test_a_clock_that_jumps_about_is_logged_once_a_minute(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.look(20)
    machine.look(-300)
    assert len(machine.logged) == 1
    monkeypatch.setattr(clock_reports, "LOG_INTERVAL", 0.0)
    machine.look(-300)
    machine.look(-300)
    assert [level for level, _ in machine.logged] == ["WARNING", "WARNING"]


def test_a_clock_that_was_set_right_is_logged(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock_reports, "LOG_INTERVAL", 0.0)
    machine.look(20)
    assert machine.look(0) == 0
    assert machine.look(0) == 0
    assert machine.logged[1:] == [
        ("INFO", "the clock of this machine agrees with that of Redis again")
    ]


def test_what_was_left_in_redis_becomes_sentences() -> None:
    found = {
        b"worker b@host": ClockReport(-3600.04, 1000.0).encode().encode(),
        b"push server a": ClockReport(20.0, 1000.0).encode().encode(),
        b"dead": ClockReport(5.0, 10.0).encode().encode(),
        b"strange": b"what is this",
    }
    assert notes(found, now=500.0) == (
        [
            "the clock of push server a is 20.0 s ahead of that of Redis",
            "the clock of worker b@host is 3600.0 s behind that of Redis",
        ],
        [b"dead", b"strange"],
    )
