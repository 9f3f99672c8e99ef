"""Text for people's terminals: tables, times, and what others have written."""

import base64
import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


def printable(text: str) -> str:
    """The text with everything escaped that a terminal would obey, not show; lines stay lines.

    The escapes are those of JSON, so that JSON stays what it was.
    """
    return "".join(each if each.isprintable() or each == "\n" else _escaped(each) for each in text)


def one_line(text: str, width: int | None = None) -> str:
    """The printable text on one line, cut where it is longer than `width`."""
    line = printable(" ".join(text.split()))
    return line if width is None or len(line) <= width else line[: max(0, width - 1)] + "…"


def as_json(value: Any, *, indent: int | None = None) -> str:
    """Any payload as JSON that a terminal may show; bytes are base64 in `{"bytes": …}`."""
    return printable(json.dumps(value, ensure_ascii=False, indent=indent, default=_as_json_value))


def ago(now: float, then: float) -> str:
    """A Unix time that has passed, in words and in this machine's timezone.

    "just now (14:05:33)", "4 minutes ago (14:01:20)", "2 days ago (2026-01-05 14:05)".
    """
    seconds = round(now - then)
    time, today = datetime.fromtimestamp(then), datetime.fromtimestamp(now)
    shown = f"{time:%H:%M:%S}" if time.date() == today.date() else f"{time:%Y-%m-%d %H:%M}"
    for unit, length in _UNITS:
        if count := max(0, seconds) // length:
            return f"{count} {unit}{'s' * (count > 1)} ago ({shown})"
    return f"just now ({shown})"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, width: int | None) -> str:
    """Columns as wide as their widest cell; the last is cut at `width`, for a terminal so wide."""
    lines = [tuple(headings), *map(tuple, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings) - 1)]
    left = None if width is None else max(20, width - sum(widths) - 2 * len(widths))
    return "\n".join(
        "  ".join(
            [
                *(cell.ljust(width) for cell, width in zip(line, widths, strict=False)),
                one_line(line[-1], left),
            ]
        ).rstrip()
        for line in lines
    )


def _escaped(character: str) -> str:
    # JSON leaves DEL as it is.
    return "\\u007f" if character == "\x7f" else json.dumps(character)[1:-1]


def _as_json_value(value: object) -> object:
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    return str(value)
