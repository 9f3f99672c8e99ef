"""`make scaling`: how the cost of queue-run grows, one thing at a time.

Each part makes points: what was varied, and the figures there.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from benchmarks import cpu
from benchmarks.load import Crowd, LoadFailed
from benchmarks.machine import facts
from benchmarks.measure import Round, measured
from benchmarks.programs import Program, allow_many_files, ours
from benchmarks.scaling_page import write_page
from benchmarks.works import PATIENCE, USERS, fan_out, published, pushes, round_trips

RESULTS = Path(__file__).parent / "results" / "scaling.json"
CONNECTIONS = (1_000, 2_000, 5_000, 10_000, 15_000)
USERS_PER_PUSH = (1, 10, 100, 1_000, 10_000)
#: How many of those users are connected, at most.
CONNECTED = 1_000
PUSH_SERVERS = (1, 2, 4, 8)
WORKERS = (1, 2, 4)
#: Bytes; the last fits, with its JSON around it, into the largest request.
SIZES = (100, 1024, 16 * 1024, 64 * 1024 - 512)
#: Path and share of the messages that take two seconds.
SLOW = {"none": ("slow", 0.0), "await": ("slow", 0.05), "block": ("blocking", 0.05)}
SLOW_RATES = (100, 200, 400)

Point = dict[str, Any]


def connections() -> list[Point]:
    """Memory and the cost of a push, then of a fan-out, while the crowd grows."""
    points: dict[int, Point] = {count: {"connections": count} for count in CONNECTIONS}
    with ours() as program:
        program.crowd.connect(100, users=USERS)
        program.crowd.disconnect()
        time.sleep(0.5)
        empty = cpu.resident_bytes(program.server)
        for count, point in points.items():
            program.crowd.connect(count, users=USERS)
            time.sleep(1)
            grown = cpu.resident_bytes(program.server) - empty
            point["memory KiB per connection"] = grown / 1024 / count
            given = pushes(program, 3, users=count)
            point["push CPU ms"] = _paid(given, 1e3)
            point["push p50 ms"] = given.figures["p50"]
            point["push p99 ms"] = given.figures["p99"]
        for count, point in points.items():
            fan_out(program, count, 2, 0)
            point["fan-out CPU s per 100,000"] = _paid(fan_out(program, count, 6, 2), 1e5)
    return list(points.values())


def users_per_push() -> list[Point]:
    """One `to()` of so many users, of whom a thousand are connected."""
    points = []
    with ours() as program:
        for users in USERS_PER_PUSH:
            program.crowd.connect(min(users, CONNECTED), users=USERS)
            _to_many(program, users, 3)
            given = _to_many(program, users, 20)
            points.append({"users": users, **_by_role(given, 1e3)})
            program.crowd.disconnect()
    return points


def _to_many(program: Program, users: int, messages: int) -> Round:
    number = program.next_run()
    program.crowd.ask("listen", run=number, messages=messages)
    with measured(program) as given:
        program.publisher.ask("publish_to_many", run=number, messages=messages, users=users)
        program.crowd.ask("heard", deadline=PATIENCE)
    given.units = messages
    return given


def push_servers() -> list[Point]:
    """All read one stream; the users who are pushed to are all on the first."""
    points = []
    for servers in PUSH_SERVERS:
        with ours(servers=servers, workers=1) as program:
            pushes(program, 0.5, users=100)
            slow = _servers_point(program, lambda p=program: pushes(p, 4, users=100))  # type: ignore[misc]
            fast = _servers_point(program, lambda p=program: _flood(p, 5000))  # type: ignore[misc]
        named = {f"{name}, flood": value for name, value in fast.items()}
        points.append({"push servers": servers, **slow, **named})
    return points


def _flood(program: Program, messages: int) -> Round:
    return published(
        program,
        lambda number: program.crowd.ask("listen_for_pushes", run=number, pushes=messages),
        messages=messages,
        users=100,
    )


def _servers_point(program: Program, act: Callable[[], Round]) -> Point:
    before = [cpu.cpu_seconds(pid) for pid in program.pids["server"]]
    given = act()
    used = [
        cpu.cpu_seconds(pid) - past
        for pid, past in zip(program.pids["server"], before, strict=True)
    ]
    point = {
        "redis CPU ms": given.cpu["redis"] / given.units * 1e3,
        "receiving server CPU ms": used[0] / given.units * 1e3,
    }
    if len(used) > 1:
        others = sum(used[1:]) / (len(used) - 1)
        point["other server CPU ms"] = others / given.units * 1e3
    return point


def workers() -> list[Point]:
    points = []
    for count in WORKERS:
        with ours(workers=count) as program:
            round_trips(program, 100, 1)
            given = round_trips(program, 100, 4)
            points.append({"workers": count, **given.figures, **_by_role(given, 1e3)})
    return points


def message_size() -> list[Point]:
    """A round trip of so many bytes both ways, and a fan-out of them to a thousand."""
    points = []
    with ours() as program:
        for size in SIZES:
            text = "x" * size
            program.crowd.connect(20, users=USERS)
            program.crowd.ask("round_trips", seconds=0.5, text=text, deadline=PATIENCE)
            with measured(program) as asked:
                answer = program.crowd.ask("round_trips", seconds=3, text=text, deadline=PATIENCE)
            asked.units = answer["count"]
            program.crowd.connect(1000, users="one")
            sent = published(
                program,
                lambda number: program.crowd.ask("listen", run=number, messages=8),
                messages=8,
                rate=4,
                text=text,
            )
            points.append(
                {
                    "bytes": size,
                    "round trip CPU ms": _paid(asked, 1e3),
                    "fan-out CPU s per 100,000": _paid(sent, 1e5),
                }
            )
            program.crowd.disconnect()
    return points


def slow_handlers() -> list[Point]:
    """Fast messages on a schedule, some slow ones among them; how long the fast ones take."""
    points: list[Point] = []
    with ours() as program:
        for rate in SLOW_RATES:
            point: Point = {"messages per second": rate}
            for name, (path, share) in SLOW.items():
                answer = _among_slow(f"{program.url}{path}", rate, share)
                point[f"p50 ms, slow: {name}"] = answer["p50"]
                point[f"p99 ms, slow: {name}"] = answer["p99"]
            points.append(point)
    return points


def _among_slow(url: str, rate: int, share: float) -> dict[str, float]:
    crowd = Crowd("plain", url)
    try:
        crowd.connect(200, users=USERS)
        return crowd.ask("round_trips", seconds=6, rate=rate, slow_share=share, deadline=PATIENCE)
    finally:
        crowd.end()


def _paid(given: Round, scale: float) -> float:
    return given.per_unit(scale)["cpu"]


def _by_role(given: Round, scale: float) -> Point:
    figures = given.per_unit(scale)
    return {f"{role} CPU ms": figures[f"cpu {role}"] for role in given.cpu if role != "load"}


PARTS: dict[str, Callable[[], list[Point]]] = {
    "connections": connections,
    "users-per-push": users_per_push,
    "push-servers": push_servers,
    "workers": workers,
    "message-size": message_size,
    "slow-handlers": slow_handlers,
}


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(PARTS)))
@click.option("--json", "path", default=RESULTS, type=click.Path(path_type=Path))
@click.option("--write", is_flag=True, help="Put tables and plots into docs/scaling.md.")
def main(only: tuple[str, ...], path: Path, write: bool) -> None:
    """Measure how cost grows; parts that are not run keep what an earlier run has found."""
    allow_many_files()
    results: dict[str, Any] = {"parts": {}}
    if path.is_file():
        results = json.loads(path.read_text())
    results["facts"] = facts()
    path.parent.mkdir(parents=True, exist_ok=True)
    for name in only or PARTS:
        began = time.monotonic()
        try:
            results["parts"][name] = PARTS[name]()
        except (LoadFailed, AssertionError) as error:
            raise click.ClickException(f"{name}: {error}") from error
        path.write_text(json.dumps(results, indent=1))
        click.echo(f"{name} ({time.monotonic() - began:.0f} s)")
        for point in results["parts"][name]:
            click.echo("  " + ", ".join(f"{key} {_short(value)}" for key, value in point.items()))
    if write:
        write_page(results)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
