"""What log lines go through, in records of the real module `logging`."""

import io
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

from queue_run import logs
from tests.processes import environment
from tests.waiting import DEADLINE

FORMAT = "%(levelname)s %(name)s: %(message)s"


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """A log that goes through it; everything is as before after the test."""
    factory = logging.getLogRecordFactory()
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr("threading.excepthook", sys.modules["threading"].excepthook)
    logs.prepare(["a-known-secret", "short"])
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter(FORMAT))
    log.addHandler(handler)
    log.propagate = False
    yield stream
    log.removeHandler(handler)
    log.propagate = True
    logs.prepare()
    logging.setLogRecordFactory(factory)


log = logging.getLogger("test")

FORGED = "ann\n2026-01-01 00:00:00 ERROR root: forged"
NASTY = [
    "\r",
    "\r\n",
    "\x1b[2J",
    "\x9b",
    "\x00",
    "\u202e",
    "\u2028",
    "\x85",
    "\x0b",
    "\ud83d",
    "\u200b",
]


def test_a_line_that_is_in_order_stays(lines: io.StringIO) -> None:
    log.warning("%s: %d of %.1f %r, grüße 🎉", "a", 1, 2.5, {"b": 1})
    assert lines.getvalue() == "WARNING test: a: 1 of 2.5 {'b': 1}, grüße 🎉\n"


@pytest.mark.parametrize("nasty", ["\n", *NASTY])
def test_what_a_terminal_would_obey_is_escaped(lines: io.StringIO, nasty: str) -> None:
    log.warning("refused: %s", f"a{nasty}b")
    log.warning(f"refused: a{nasty}b")  # noqa: G004
    log.warning("%(reason)s", {"reason": f"a{nasty}b"})
    log.warning("%s", [f"a{nasty}b"])
    written = lines.getvalue()
    assert written.count("\n") == 4
    assert written.replace("\n", "").isprintable()
    assert written.encode()


def test_a_line_cannot_be_forged(lines: io.StringIO) -> None:
    log.error("user %s", FORGED)
    assert lines.getvalue() == ("ERROR test: user ann\\n2026-01-01 00:00:00 ERROR root: forged\n")


def test_the_line_ends_of_a_template_are_the_authors(lines: io.StringIO) -> None:
    log.error("cannot connect to %s.\n%s\n", "a", "again")
    assert lines.getvalue() == "ERROR test: cannot connect to a. again\n"


def test_what_is_long_is_cut(lines: io.StringIO) -> None:
    log.error("%s and %s", "x" * 100_000, "the end")
    log.error("y" * 100_000)
    log.error("%r", ["z" * 100_000])
    first, second, third = lines.getvalue().splitlines()
    assert first.endswith("x… (100,000 characters) and the end")
    assert second.endswith("y… (100,000 characters)")
    assert len(first) < 2_100
    assert len(second) < 8_100
    assert len(third) < 8_100


def test_a_traceback_keeps_its_lines_and_none_looks_like_a_record(lines: io.StringIO) -> None:
    try:
        raise ValueError(FORGED + "\x1b[2J") from LookupError("redis://:a-known-secret@host")
    except ValueError:
        log.exception("failed")
    first, *rest = lines.getvalue().splitlines()
    assert first == "ERROR test: failed"
    assert "  Traceback (most recent call last):" in rest
    assert "  ValueError: ann" in rest
    assert all(line.startswith("  ") for line in rest)
    assert not any("\x1b" in line or "a-known-secret" in line for line in rest)


def test_a_traceback_has_an_end(lines: io.StringIO) -> None:
    try:
        raise ValueError("line\n" * 100_000 + "x" * 100_000)
    except ValueError:
        log.exception("failed")
    assert lines.getvalue().count("\n") < 500
    assert len(lines.getvalue()) < 20_000


def test_secrets_are_hidden_wherever_they_stand(lines: io.StringIO) -> None:
    log.error("%s and %s", "redis://ann:hush@host", "it is a-known-secret")
    log.error("in short: %s", "short")
    assert lines.getvalue().splitlines() == [
        "ERROR test: redis://ann:***@host and it is ***",
        # A word of six letters or fewer is hidden in URLs alone.
        "ERROR test: in short: short",
    ]


def test_a_line_without_an_error_has_no_traceback(lines: io.StringIO) -> None:
    log.error("failed", exc_info=True)
    assert lines.getvalue().startswith("ERROR test: failed")
    assert "Traceback" not in lines.getvalue()


def test_a_formatter_of_somebody_else_writes_the_same(lines: io.StringIO) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("{message}", style="{"))
    log.addHandler(handler)
    try:
        log.error("user %s", FORGED)
    finally:
        log.removeHandler(handler)
    assert stream.getvalue().count("\n") == 1


@pytest.mark.parametrize("where", ["", "import threading; threading.Thread(target=fail).start()"])
def test_what_nobody_catches_is_told_without_secrets(where: str) -> None:
    program = (
        "from queue_run import logs\n"
        "logs.prepare(['a-known-secret'])\n"
        "def fail(): raise ValueError('a-known-secret at redis://:hush@host \\x1b[2J')\n"
        f"{where or 'fail()'}\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert "ValueError: *** at redis://:***@host" in ran.stderr
    assert "Traceback (most recent call last)" in ran.stderr
    assert "\x1b" not in ran.stderr
