"""Log records: the preparation of every log line of a process, by any logger and for any handler.

One record is one line: control characters, line ends and marks that turn text around are escaped,
so that no client can forge a line. Long excerpts are cut, and secrets hidden. It happens in the
record itself, and so holds for every handler and formatter: ours, Celery's, and the application's.
Only tracebacks have several lines, which are indented: none can be taken for a record of its own.
"""

import logging
import sys
import threading
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from queue_run.settings.masking import MASK, SHORTEST_SECRET, masked

#: Characters of one text in a line, and of the line.
MAX_EXCERPT = 2_000
MAX_LINE = 8_000
#: Lines of a traceback: of the first and of the last ones so many.
MAX_LINES = 200

_formatter = logging.Formatter()
#: Longest first: one may be a part of another.
_secrets: tuple[str, ...] = ()


def prepare(secrets: Iterable[str] = ()) -> None:
    """Make this process log safe lines, and log its unexpected end in the same way.

    Args:
        secrets: texts that must not stand in a log.
    """
    global _secrets
    long_enough = {each for each in secrets if len(each) >= SHORTEST_SECRET}
    _secrets = tuple(sorted(long_enough, key=len, reverse=True))
    logging.setLogRecordFactory(Record)
    sys.excepthook = _tell_failure
    threading.excepthook = _tell_thread_failure


class Record(logging.LogRecord):
    """A log record that is safe to write."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        if self.exc_info and self.exc_info[1] is not None:
            # Formatters take it instead of making their own.
            self.exc_text = safe_traceback(_formatter.formatException(self.exc_info))

    def getMessage(self) -> str:
        text = str(self.msg)
        if self.args:
            # Line ends of the template are the author's, and mean nothing bad.
            text = " ".join(text.split("\n")).rstrip() % _cut(self.args)
        return safe_line(text)


def safe_line(text: str) -> str:
    """The text on one line, without secrets, and not too long."""
    size = len(text)
    text = without_secrets(text[: 2 * MAX_LINE].rstrip("\n"))
    if not text.isprintable():
        text = escaped(text)
    return f"{text[:MAX_LINE]}… ({size:,} characters)" if len(text) > MAX_LINE else text


def safe_traceback(text: str) -> str:
    """A traceback whose lines are indented, and no longer than they need to be."""
    lines = text.split("\n")
    if len(lines) > 2 * MAX_LINES:
        left_out = len(lines) - 2 * MAX_LINES
        lines = [*lines[:MAX_LINES], f"… {left_out:,} lines", *lines[-MAX_LINES:]]
    return "\n".join(f"  {safe_line(_excerpt(line))}" for line in lines)


def excerpt(text: str, size: int = 200) -> str:
    """The beginning of a text that a client has sent."""
    return text if len(text) <= size else f"{text[:size]}… ({len(text):,} characters)"


def without_secrets(text: str) -> str:
    """The text without passwords of URLs, and without the secrets of this process."""
    for secret in _secrets:
        if secret in text:
            text = text.replace(secret, MASK)
    return masked(text)


def escaped(text: str) -> str:
    """The text with everything escaped that a terminal or an editor would obey, not show."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape", "surrogatepass").decode()
        for each in text
    )


def _cut(arguments: Any) -> Any:
    """The arguments of a line, each cut to a certain length."""
    if isinstance(arguments, Mapping):
        return {name: _excerpt(value) for name, value in arguments.items()}
    return tuple(map(_excerpt, arguments)) if isinstance(arguments, tuple) else arguments


def _excerpt(value: Any) -> Any:
    return excerpt(value, MAX_EXCERPT) if isinstance(value, str) else value


def _tell_failure(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """Write an error that nobody has caught to standard error, as Python does, as safe text."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    told = safe_traceback(_formatter.formatException((kind, error, traceback)))
    sys.stderr.write(f"the process failed\n{told}\n")


def _tell_thread_failure(failure: threading.ExceptHookArgs) -> None:
    if failure.exc_type is SystemExit or failure.exc_value is None:
        return
    name = failure.thread.name if failure.thread is not None else "unknown"
    found = (failure.exc_type, failure.exc_value, failure.exc_traceback)
    told = safe_traceback(_formatter.formatException(found))
    sys.stderr.write(f"the thread {safe_line(name)} failed\n{told}\n")
