"""What terminals are shown: others' text, times, tables."""

import json
import time
from datetime import datetime, timedelta

import pytest

from queue_run.cli.command_line.text import ago, as_json, one_line, printable, table

#: 14:05:33 on a day in January, in this machine's timezone.
NOW = datetime(2026, 1, 7, 14, 5, 33).timestamp()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, café, 日本", "plain, café, 日本"),
        ("two\nlines", "two\nlines"),
        ("\x1b[31mred\x07", "\\u001b[31mred\\u0007"),
        ("over\rwritten", "over\\rwritten"),
        ("del\x7f", "del\\u007f"),
        ("c1 \x9b31m", "c1 \\u009b31m"),
        ("turned \u202e round", "turned \\u202e round"),
        ("half \ud800", "half \\ud800"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_one_line_holds_all_lines_of_a_text_and_is_cut_at_the_width() -> None:
    assert one_line("a\n  b\t\x1b[0m\r\n") == "a b \\u001b[0m"
    assert one_line("abcdef", 6) == "abcdef"
    assert one_line("abcdefg", 6) == "abcde…"


@pytest.mark.parametrize(
    "value", [None, {"a": ["\x1b[0m", "\x7f", "é", "\U000e0041", "\n"]}, "text", 1.5, "\\u001b"]
)
def test_json_stays_the_same_value_with_what_it_holds_escaped(value: object) -> None:
    for indent in (None, 2):
        text = as_json(value, indent=indent)
        assert json.loads(text) == value
        assert all(each.isprintable() or each == "\n" for each in text)


def test_bytes_are_base64_in_json() -> None:
    assert as_json({"file": b"\x00\xff"}) == '{"file": {"bytes": "AP8="}}'


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "just now (14:05:38)"),
        (0.2, "just now (14:05:32)"),
        (1, "1 second ago (14:05:32)"),
        (59, "59 seconds ago (14:04:34)"),
        (60, "1 minute ago (14:04:33)"),
        (2 * 3600 + 1799, "2 hours ago (11:35:34)"),
        (20 * 3600, "20 hours ago (2026-01-06 18:05)"),
        (timedelta(days=3).total_seconds(), "3 days ago (2026-01-04 14:05)"),
    ],
)
def test_a_time_that_has_passed_is_told_in_words(seconds: float, words: str) -> None:
    assert ago(NOW, NOW - seconds) == words


def test_the_time_is_that_of_the_machines_timezone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "XYZ-3")
    time.tzset()
    try:
        assert ago(86_400, 86_400) == "just now (03:00:00)"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_columns_are_as_wide_as_their_widest_cell_and_the_last_is_cut() -> None:
    rows = [("1", "mail", "x" * 100), ("22", "a", "short\nbut two lines")]
    assert table(("id", "queue", "error"), rows, width=40).splitlines() == [
        "id  queue  error",
        "1   mail   " + "x" * 28 + "…",
        "22  a      short but two lines",
    ]
    assert "x" * 100 in table(("id", "queue", "error"), rows, width=None)


def test_a_narrow_terminal_still_gets_some_of_the_last_column() -> None:
    assert table(("id", "error"), [("1" * 36, "x" * 100)], width=30).splitlines() == [
        "id".ljust(38) + "error",
        "1" * 36 + "  " + "x" * 19 + "…",
    ]
