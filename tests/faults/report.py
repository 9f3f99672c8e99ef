"""What a run has shown: lines for the terminal, and the table of docs/guarantees.md."""

from dataclasses import dataclass
from pathlib import Path

from tests.documents import put_between
from tests.processes import ROOT

GUARANTEES = ROOT / "docs" / "guarantees.md"
BEGIN = "<!-- begin: written by `make faults` -->"
END = "<!-- end: written by `make faults` -->"


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


def table(rows: list[Row]) -> str:
    """The rows in Markdown."""
    lines = ["| fault | load | seen |", "|---|---|---|"]
    lines += [f"| {row.fault} | {row.load} | {row.shown} |" for row in rows]
    return "\n".join(lines)


def write(rows: list[Row], path: Path = GUARANTEES) -> None:
    """Put the table between the markers of the document.

    Raises:
        ValueError: for a document without them.
    """
    put_between(path, BEGIN, END, table(rows))
