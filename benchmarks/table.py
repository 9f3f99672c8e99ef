"""The figures as a table for a terminal, and for a page."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.spread import Spread, ratios, spread
from benchmarks.targets import TARGETS, Target, target_of

OURS = "ours"
BASE = "straightforward"
OTHERS = ("straightforward", "socketio")
UNITS = {
    "rate": "per second",
    "p50": "ms p50",
    "p99": "ms p99",
    "max": "ms max",
    "waited": "% of the time waiting for a core",
    "memory": "KiB",
}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One figure of one work, on all programs."""

    work: str
    title: str
    unit: str
    values: dict[str, Spread]
    #: Ours to the straightforward program's.
    ratio: Spread | None
    target: Target | None

    @property
    def compared(self) -> float | None:
        """What the target is for."""
        if self.target is not None and self.target.absolute:
            return self.values[OURS].median if OURS in self.values else None
        return None if self.ratio is None else self.ratio.median

    @property
    def verdict(self) -> str:
        if self.target is None:
            return ""
        if self.compared is None:
            return "not measured"
        if not self.target.met(self.compared):
            return "missed"
        return "met, stretch" if self.target.stretched(self.compared) else "met"


def lines(results: dict[str, Any]) -> Iterator[Line]:
    """From the JSON of a run: CPU first, then the other figures that a work shows."""
    for work in results["works"]:
        figures = dict.fromkeys(("cpu", *work["shown"]))
        targets = [target.figure for target in TARGETS if target.work == work["name"]]
        for figure in (*figures, *(each for each in targets if each not in figures)):
            line = _line(work, figure)
            if line is not None:
                yield line


def _line(work: dict[str, Any], figure: str) -> Line | None:
    found = {
        name: [each[figure] for each in rounds if figure in each]
        for name, rounds in work["rounds"].items()
    }
    found = {name: values for name, values in found.items() if values}
    target = target_of(work["name"], figure)
    if not found and target is None:
        return None
    ratio = None
    if {OURS, BASE} <= found.keys() and all(found[BASE]):
        ratio = ratios(found[OURS], found[BASE])
    return Line(
        work=work["name"],
        title=work["title"],
        unit=_unit(work["unit"], figure),
        values={name: spread(values) for name, values in found.items()},
        ratio=ratio,
        target=target,
    )


def _unit(unit: str, figure: str) -> str:
    if figure.startswith("cpu"):
        return f"CPU {unit}" + figure.removeprefix("cpu")
    name = figure.removeprefix("ping ")
    return UNITS[name] + (" of a ping" if figure.startswith("ping ") else "")


def number(value: float) -> str:
    """With three digits that say something."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def text(results: dict[str, Any]) -> str:
    """For the terminal: medians; in brackets the lowest and highest ratio of a round."""
    head = f"{'':49}{'ours':>9}{'straightf.':>11}{'socketio':>9}{'ratio':>7} {'low-high':12}"
    rows = [head + "target"]
    title = ""
    for line in lines(results):
        if line.title != title:
            title = line.title
            rows.append(title)
        rows.append(_row(line))
    if results.get("floors"):
        rows.append("floors")
        rows += [
            f"  {name:47}{number(spread(each['cpu'] for each in rounds).median):>9}"
            for name, rounds in results["floors"].items()
        ]
    return "\n".join(rows)


def _row(line: Line) -> str:
    cells = [
        number(line.values[name].median) if name in line.values else "-" for name in (OURS, *OTHERS)
    ]
    ratio, around = "", ""
    if line.ratio is not None:
        ratio = number(line.ratio.median)
        around = f"{number(line.ratio.low)}-{number(line.ratio.high)}"
    target = "" if line.target is None else f"{line.target.text} {line.verdict}"
    return (
        f"  {line.unit:47}{cells[0]:>9}{cells[1]:>11}{cells[2]:>9}{ratio:>7} {around:12}{target}"
    ).rstrip()


def roles(results: dict[str, Any]) -> str:
    """CPU of each work by process role, and how much of all CPU the load was."""
    names = ("server", "worker", "redis", "publisher", "load")
    rows = [f"{'CPU by role':49}" + "".join(f"{name:>11}" for name in names) + f"{'load':>7}"]
    for work in results["works"]:
        for program, rounds in work["rounds"].items():
            if not any(f"cpu {name}" in rounds[0] for name in names):
                continue
            cells = "".join(f"{_median(rounds, f'cpu {name}'):>11}" for name in names)
            share = spread(each.get("load's share", 0) for each in rounds).median
            label = f"{work['name']}, {program}"
            rows.append(f"  {label:47}{cells}{share:>7.0%}")
    return "\n".join(rows)


def _median(rounds: list[dict[str, float]], figure: str) -> str:
    values = [each[figure] for each in rounds if figure in each]
    return number(spread(values).median) if values else "-"


def markdown(results: dict[str, Any]) -> str:
    """For the docs: the lines that have a target or stand beside another program."""
    rows = [
        "| work | figure | queue-run | straightforward | python-socketio | ratio | target |",
        "|---|---|---|---|---|---|---|",
    ]
    for line in lines(results):
        cells = [
            number(line.values[name].median) if name in line.values else "–"
            for name in (OURS, *OTHERS)
        ]
        ratio = "–"
        if line.ratio is not None:
            low, high = number(line.ratio.low), number(line.ratio.high)
            ratio = f"**{number(line.ratio.median)}** ({low}–{high})"
        target = "" if line.target is None else f"{line.target.text}: {line.verdict}"
        rows.append(f"| {line.title} | {line.unit} | {' | '.join(cells)} | {ratio} | {target} |")
    return "\n".join(rows)
