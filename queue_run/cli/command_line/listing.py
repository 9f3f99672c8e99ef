"""Lists on the command line: a table for people, or lines of JSON for scripts."""

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import click

from queue_run.cli.command_line.text import as_json, table

T = TypeVar("T")

#: Of a list: how many of the newest are shown.
limit_option = click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Show the newest N.",
)
#: Of a list: lines for scripts.
lines_option = click.option(
    "--json", "as_lines", is_flag=True, help="One JSON object a line, with everything."
)


@dataclass(frozen=True)
class Listing(Generic[T]):
    """A list of things of one kind: its columns, and its lines for scripts."""

    #: Of the columns; the last one is cut where the terminal ends.
    headings: tuple[str, ...]
    #: What stands in them, at a Unix time.
    row: Callable[[T, float], Sequence[str]]
    #: A thing for scripts.
    facts: Callable[[T], dict[str, Any]]
    #: What can be done with them; below the table.
    hint: str

    def echo_lines(self, things: Sequence[T]) -> None:
        """Print one JSON object a line."""
        for each in things:
            click.echo(as_json(self.facts(each)))

    def echo_table(self, things: Sequence[T], now: float, *, more: str | None) -> None:
        """Print a table and what can be done.

        Args:
            more: says that there are others, where there are.
        """
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        click.echo(table(self.headings, [self.row(each, now) for each in things], width=width))
        if more is not None:
            click.echo(f"\n{more}: show them with --limit N.")
        click.echo(f"\n{self.hint}")
