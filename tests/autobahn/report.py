"""What the suite has seen: its JSON reports as cases, and cases as tables."""

import enum
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.documents import put_between
from tests.processes import ROOT

GUARANTEES = ROOT / "docs" / "guarantees.md"
BEGIN = "<!-- begin: written by `make autobahn` -->"
END = "<!-- end: written by `make autobahn` -->"

#: The suite's sections, by the first part of a case's id.
SECTIONS = {
    1: "framing",
    2: "pings and pongs",
    3: "reserved bits",
    4: "opcodes",
    5: "fragmentation",
    6: "UTF-8",
    7: "closing handshake",
    9: "limits and performance",
    10: "automatic fragmentation",
    12: "compression",
    13: "compression, with parameters",
}


class Verdict(enum.Enum):
    """How a case ended."""

    OK = "OK"
    #: Within the protocol, but later or laxer than the suite would have it.
    NON_STRICT = "non-strict"
    #: The protocol leaves it open.
    INFORMATIONAL = "informational"
    #: The case needs an extension that was not negotiated.
    UNIMPLEMENTED = "unimplemented"
    FAILED = "failed"


#: The suite's words; all others are failures.
_BEHAVIORS = {
    "OK": Verdict.OK,
    "NON-STRICT": Verdict.NON_STRICT,
    "INFORMATIONAL": Verdict.INFORMATIONAL,
    "UNIMPLEMENTED": Verdict.UNIMPLEMENTED,
}
_CLOSED_WELL = ("OK", "INFORMATIONAL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case, and what it has shown."""

    id: str
    #: How the server answered: see `tests.autobahn.echo_server`.
    way: str
    verdict: Verdict
    #: Of a failure: what was expected, and what came.
    detail: str = ""

    @property
    def section(self) -> int:
        return section_of(self.id)

    def __str__(self) -> str:
        return f"{self.way} {self.id}: {self.verdict.value}" + f"\n{self.detail}".rstrip()


def section_of(case_id: str) -> int:
    return int(case_id.partition(".")[0])


def read(folder: Path, way: str, wanted: Iterable[str]) -> list[Case]:
    """The cases of a run, from the reports that the suite has left in a folder.

    Args:
        wanted: the ids that were to run: each of which there is no report has failed.
    """
    index = folder / "index.json"
    found: dict[str, Any] = json.loads(index.read_text()).get(way, {}) if index.is_file() else {}
    return [_case(folder, way, case_id, found.get(case_id)) for case_id in wanted]


def _case(folder: Path, way: str, case_id: str, entry: dict[str, str] | None) -> Case:
    if entry is None:
        return Case(id=case_id, way=way, verdict=Verdict.FAILED, detail="  it did not end")
    verdict = verdict_of(entry["behavior"], entry["behaviorClose"])
    detail = ""
    if verdict is Verdict.FAILED:
        detail = explain(entry, json.loads((folder / entry["reportfile"]).read_text()))
    return Case(id=case_id, way=way, verdict=verdict, detail=detail)


def verdict_of(behavior: str, behavior_close: str) -> Verdict:
    """A case passes when both what was exchanged and how it was closed were in order."""
    verdict = _BEHAVIORS.get(behavior, Verdict.FAILED)
    if verdict is Verdict.UNIMPLEMENTED or behavior_close in _CLOSED_WELL:
        return verdict
    return Verdict.FAILED


def explain(entry: dict[str, str], report: dict[str, Any]) -> str:
    """Why a case has failed, in lines."""
    lines = [
        f"what: {_plain(report['description'])}",
        f"expectation: {_plain(report['expectation'])}",
        f"behavior: {entry['behavior']}: {report['result']}",
        f"expected: {json.dumps(report['expected'])[:500]}",
        f"received: {json.dumps(report['received'])[:500]}",
        f"close: {entry['behaviorClose']}: {report['resultClose']}",
        f"expected: {json.dumps(report['expectedClose'])}",
        f"received: code {report['remoteCloseCode']}, reason {report['remoteCloseReason']!r}, "
        f"clean: {report['wasClean']} {report['wasNotCleanReason'] or ''}".rstrip(),
    ]
    return "\n".join(f"  {line}" for line in lines)


def _plain(text: str) -> str:
    """Without the markup that the suite's texts have."""
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())


def of_verdict(verdict: Verdict, cases: Iterable[Case]) -> list[Case]:
    return [case for case in cases if case.verdict is verdict]


def failures(cases: Iterable[Case]) -> list[Case]:
    return of_verdict(Verdict.FAILED, cases)


def table(cases: Sequence[Case]) -> str:
    """Counts by section in Markdown; failures by their ids."""
    heads = ["section", "cases", *(verdict.value for verdict in Verdict)]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for section in sorted({case.section for case in cases}):
        here = [case for case in cases if case.section == section]
        lines.append(_row(f"{section} {SECTIONS.get(section, '')}".rstrip(), here))
    return "\n".join([*lines, _row("all", cases)])


def _row(name: str, cases: Sequence[Case]) -> str:
    counts = [len(of_verdict(verdict, cases)) for verdict in Verdict]
    failed = " ".join(sorted({case.id for case in failures(cases)}, key=_in_order))
    cells = [name, len(cases), *counts[:-1], f"{counts[-1]} ({failed})" if failed else 0]
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _in_order(case_id: str) -> list[int]:
    return [int(part) for part in case_id.split(".")]


def write(cases: Sequence[Case], path: Path = GUARANTEES) -> None:
    """Put the table into the docs.

    Raises:
        ValueError: for a document without its markers.
    """
    put_between(path, BEGIN, END, table(cases))
