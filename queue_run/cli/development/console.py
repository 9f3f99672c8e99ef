"""The one log of all processes, and what `queue-run dev` or `queue-run start` itself says."""

import contextlib
import io
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TextIO

import click

from queue_run.cli.supervision.policy import describe_exit
from queue_run.cli.supervision.reporter import Program

COLOURS = {
    "dev": "yellow",
    "redis": "red",
    "web": "green",
    "sockets": "cyan",
    "jobs": "magenta",
}
#: For names that have none of their own, in turn.
OTHER_COLOURS = ("green", "cyan", "magenta", "blue", "red")


class Console:
    """Writes lines with the name of the process before them; the supervisor's `Reporter`.

    Args:
        own: the name before what the command itself says.
        names: those of the processes, for the width of their column.
        again: what a second signal to end does.

    Attributes:
        on_closed: called once when nobody reads any more (`queue-run dev | head`).
        on_exited: called when a program has ended, with the seconds until it starts again; None for
            not before a change.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        environ: Mapping[str, str],
        own: str = "dev",
        names: Collection[str] = COLOURS,
        again: str = "Ctrl+C again kills at once",
    ) -> None:
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a character shows its number; it must not end the session.
            stream.reconfigure(errors="backslashreplace")
        self._stream = stream
        self._own = own
        self._again = again
        self._width = max(map(len, (own, *names)))
        given = {name: OTHER_COLOURS[n % len(OTHER_COLOURS)] for n, name in enumerate(names)}
        self._colour_of = given | {own: "yellow"} | COLOURS
        self._colours = stream.isatty() and not environ.get("NO_COLOR")
        self._open = True
        self.on_closed: Callable[[], None] = lambda: None
        self.on_exited: Callable[[Program, float | None], None] = lambda program, delay: None

    # What programs write and do

    def output(self, program: Program, line: str) -> None:
        if not program.quiet:
            self._line(program.name, line)

    def exited(
        self, program: Program, status: int, *, delay: float | None, output: Collection[str]
    ) -> None:
        if program.quiet:
            for line in output:
                self._line(program.name, line)
        if delay is None:
            how, when = f"{describe_exit(status)}, see above", "when a file changes"
        else:
            how, when = describe_exit(status), f"in {delay:g} s"
        self.say(f"{program.name} ended ({how}): it starts again {when}")
        self.on_exited(program, delay)

    def not_started(self, program: Program, error: OSError, *, delay: float) -> None:
        reason = f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
        self.say(f"{program.name} cannot be started ({reason}): it is tried again in {delay:g} s")

    def killed(self, program: Program, *, after: float) -> None:
        self.say(f"{program.name} did not end within {after:g} s: killed")

    # What the command says

    def say(self, text: str) -> None:
        """One line of our own in the log."""
        self._line(self._own, text)

    def stopping(self) -> None:
        """The answer to Ctrl+C, or another signal to end."""
        if self._open and self._stream.isatty():
            self._write("\r")  # Over the ^C that the terminal has shown.
        self.say(f"stopping ({self._again})")

    def announce(self, rows: Sequence[str]) -> None:
        """Lines of our own that stand apart; the first is the headline."""
        headline = click.style(rows[0], bold=True) if self._colours else rows[0]
        lines = [f"  {row}".rstrip() for row in (headline, *rows[1:])]
        self._write("\n".join(["", *lines, "", ""]))

    def _line(self, name: str, text: str) -> None:
        prefix = f"{name:<{self._width}} |"
        if self._colours:
            prefix = click.style(prefix, fg=self._colour_of.get(name))
        self._write(f"{prefix} {text}".rstrip(" ") + "\n")

    def _write(self, text: str) -> None:
        if not self._open:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            # A closed pipe or terminal: there is nobody left to tell, and nobody to stop us later.
            self._open = False
            with contextlib.suppress(OSError):
                self._stream.close()  # Else Python tries again to write it at the end.
            self.on_closed()
