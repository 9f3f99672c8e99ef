"""`python -m benchmarks.report [JSON]`: the plots and the table of docs/benchmarks.md."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from benchmarks import page, plots, table
from benchmarks.spread import ratios, spread
from tests.processes import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
RESULTS = Path(__file__).parent / "results" / "latest.json"
#: What the plot of ratios shows: the work, its figure, and what to call them.
RATIOS = (
    ("round-trip", "cpu", "round trip, 100 connections: CPU"),
    ("round-trip-1", "p50", "round trip, 1 connection: p50"),
    ("fan-out-1000", "cpu", "burst to 1,000 clients: CPU"),
    ("fan-out-5000", "cpu", "burst to 5,000 clients: CPU"),
    ("fan-out-paced", "cpu", "2/s to 1,000 clients: CPU"),
    ("push", "cpu", "push to one of 1,000 users: CPU"),
    ("push", "p50", "push to one of 1,000 users: p50"),
    ("memory", "memory", "memory per idle connection"),
    ("handshake", "cpu", "handshake: CPU"),
    ("handshake-authenticated", "cpu", "authenticated handshake: CPU"),
)
ROLES = ("round-trip", "fan-out-1000", "fan-out-paced", "push")


def ratio_rows(results: dict[str, Any]) -> list[tuple[str, dict[str, float], float | None]]:
    """Each program's ratio to the straightforward one, and the target."""
    lines = {(line.work, _figure(line)): line for line in table.lines(results)}
    works = {work["name"]: work["rounds"] for work in results["works"]}
    rows: list[tuple[str, dict[str, float], float | None]] = []
    for work, figure, label in RATIOS:
        rounds = works.get(work, {})
        base = [each[figure] for each in rounds.get(table.BASE, [])]
        if not base:
            continue
        values = {
            name: ratios([each[figure] for each in rounds[name]], base).median
            for name in (table.OURS, "socketio")
            if name in rounds
        }
        line = lines.get((work, figure))
        target = line.target.target if line is not None and line.target is not None else None
        rows.append((label, values, target))
    return rows


def _figure(line: table.Line) -> str:
    return line.target.figure if line.target is not None else ""


def by_role(results: dict[str, Any]) -> list[tuple[str, dict[str, dict[str, float]]]]:
    """CPU of the roles of each program, for the works whose plot shows it."""
    groups = []
    for work in results["works"]:
        if work["name"] not in ROLES or len(work["rounds"]) < 2:
            continue
        programs = {
            program: {
                role: spread(each[f"cpu {role}"] for each in rounds).median
                for role in ("server", "worker", "redis")
            }
            for program, rounds in work["rounds"].items()
        }
        title = work["title"].replace(", ", ",\n", 1)
        groups.append((f"{title}\nCPU {work['unit']}", programs))
    return groups


def floors_table(results: dict[str, Any]) -> str:
    rows = [
        [name, table.number(spread(each["cpu"] for each in rounds).median)]
        for name, rounds in results["floors"].items()
    ]
    return page.table(["floor", "CPU"], rows)


@click.command()
@click.argument("path", default=RESULTS, type=click.Path(exists=True, path_type=Path))
def main(path: Path) -> None:
    """Draw the plots and write the tables of a run into the docs."""
    results = json.loads(path.read_text())
    rows = ratio_rows(results)
    if rows:
        plots.relative(
            "ratios", rows, title="relative to the straightforward program (less is better)"
        )
    groups = by_role(results)
    if len(groups) > 1:
        plots.stacked("cpu-by-role", groups)
    parts = [page.measured_on(results["facts"]), table.markdown(results)]
    if results["floors"]:
        parts.append(floors_table(results))
    page.put(PAGE, "python -m benchmarks.report", "\n\n".join(parts))
    click.echo(table.markdown(results))


if __name__ == "__main__":
    sys.exit(main())
