"""`make bench`: queue-run beside two programs that one would write instead, in one run.

Machines are noisy: read the ratios, and the CPU of server, workers and Redis per unit of work, not
the wall-clock rates.
"""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from benchmarks import floors, jobs, table
from benchmarks.load import LoadFailed
from benchmarks.loop import loop_works
from benchmarks.machine import facts
from benchmarks.measure import Programs, Work, run
from benchmarks.works import FULL, QUICK, Size, works

NAMES = ("ours", "straightforward", "socketio")
RESULTS = Path(__file__).parent / "results"
POOLS = {"fifo-prefork": "prefork", "fifo-solo": "solo"}


def every_name() -> list[str]:
    named = [work.name for work in (*works(QUICK), *loop_works(QUICK))]
    return [*named, *POOLS, "floors"]


def fifo(name: str, size: Size) -> dict[str, Any]:
    pool = POOLS[name]
    return {
        "name": name,
        "title": f"FIFO job beside a plain Celery task, {pool} worker",
        "unit": "ms per job",
        "shown": [],
        "rounds": jobs.measure(pool, jobs=size.jobs, rounds=size.rounds),
    }


def as_result(work: Work, names: Sequence[str], programs: Programs) -> dict[str, Any]:
    return {
        "name": work.name,
        "title": work.title,
        "unit": work.unit,
        "shown": work.shown,
        "rounds": run(work, list(names), programs),
    }


def results_of(size: Size, only: Sequence[str], names: Sequence[str]) -> Iterator[dict[str, Any]]:
    with ExitStack() as ending:
        programs = Programs(ending)
        for work in (*works(size), *loop_works(size)):
            if work.name in only and (not work.ours_alone or "ours" in names):
                yield as_result(work, names, programs)
    for name in POOLS:
        if name in only:
            yield fifo(name, size)


@click.command()
@click.option("--quick", is_flag=True, help="Less of everything: two minutes, not ten.")
@click.option("--only", multiple=True, metavar="WORK", help="May be repeated; commas separate.")
@click.option("--programs", default=",".join(NAMES), show_default=True)
@click.option("--json", "path", default=RESULTS / "latest.json", type=click.Path(path_type=Path))
def main(quick: bool, only: tuple[str, ...], programs: str, path: Path) -> None:
    """Measure queue-run beside other programs.

    Examples:
        python -m benchmarks --quick
        python -m benchmarks --only round-trip --programs ours
    """
    chosen = [name for each in only for name in each.split(",")] or every_name()
    if quick and not only:
        chosen.remove("fifo-solo")
    names = programs.split(",")
    for name in [*chosen, *names]:
        if name not in (*every_name(), *NAMES):
            raise click.BadParameter(f"{name}: there are {', '.join((*every_name(), *NAMES))}")
    size = QUICK if quick else FULL
    began = time.monotonic()
    results: dict[str, Any] = {"facts": facts(), "quick": quick, "works": [], "floors": {}}
    try:
        for result in results_of(size, chosen, names):
            results["works"].append(result)
            click.echo(f"{time.monotonic() - began:4.0f} s: {result['name']}", err=True)
        if "floors" in chosen:
            results["floors"] = floors.floors(size)
    except (LoadFailed, AssertionError) as error:
        raise click.ClickException(str(error)) from error
    results["seconds"] = round(time.monotonic() - began)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1))
    click.echo(table.text(results))
    click.echo()
    click.echo(table.roles(results))
    click.echo(f"\n{results['seconds']} s; {path}")


if __name__ == "__main__":
    sys.exit(main())
