"""What a run has shown: lines for the terminal, and the table of docs/guarantees.md."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.documents import between, put_between
from tests.processes import ROOT

GUARANTEES = ROOT / "docs" / "guarantees.md"
BEGIN = "<!-- begin: written by `make faults` -->"
END = "<!-- end: written by `make faults` -->"
HEAD = ("| | fault | load | seen |", "|---|---|---|---|")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table."""

    fault: str
    load: str
    shown: str
    passed: bool

    def __str__(self) -> str:
        return (
            f"{'ok  ' if self.passed else 'FAIL'} {self.fault}\n     {self.load}\n     {self.shown}"
        )


def write(rows: Mapping[str, Row], order: Sequence[str], path: Path = GUARANTEES) -> None:
    """Put the rows into the table of the document; the lines of other scenarios stay as they are.

    Args:
        rows: by the name of the scenario.
        order: all scenarios, as the table is to have them; a line of no scenario goes.

    Raises:
        ValueError: for a document without the markers of the table.
    """
    lines = _lines_of(between(path, BEGIN, END))
    lines |= {name: _line(name, row) for name, row in rows.items()}
    found = [lines[name] for name in order if name in lines]
    put_between(path, BEGIN, END, "\n".join([*HEAD, *found]))


def _line(name: str, row: Row) -> str:
    return f"| `{name}` | {row.fault} | {row.load} | {row.shown} |"


def _lines_of(table: str) -> dict[str, str]:
    """The lines of a table, by their scenarios."""
    return {line.split("`")[1]: line for line in table.splitlines() if line.startswith("| `")}
