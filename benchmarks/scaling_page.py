"""The part of docs/scaling.md that `make scaling` writes: plots, tables, arithmetic."""

import math
from collections.abc import Callable
from typing import Any

from benchmarks import arithmetic, page, plots, table
from benchmarks.arithmetic import MILLION, Costs
from tests.processes import ROOT

PAGE = ROOT / "docs" / "scaling.md"
#: Connections of one push server: the most that were measured.
PER_SERVER = 15_000
TITLES = {
    "connections": "Connections",
    "users-per-push": "Users per push",
    "push-servers": "Push servers on one stream",
    "workers": "Worker processes",
    "message-size": "Message size",
    "slow-handlers": "Slow handlers among fast ones",
}
Point = dict[str, Any]
#: Panels of each part's plot: their unit, and the figures in them.
PANELS: dict[str, list[tuple[str, list[str]]]] = {
    "connections": [
        ("KiB per idle connection", ["memory KiB per connection"]),
        ("CPU s per 100,000 deliveries, 2/s", ["fan-out CPU s per 100,000"]),
        ("CPU ms per push to one user, 200/s", ["push CPU ms"]),
    ],
    "users-per-push": [("CPU ms per push", ["server CPU ms", "redis CPU ms", "publisher CPU ms"])],
    "push-servers": [
        (
            "CPU ms per push, 200/s",
            ["redis CPU ms", "receiving server CPU ms", "other server CPU ms"],
        ),
        (
            "CPU ms per push, as fast as it goes",
            [
                "redis CPU ms, flood",
                "receiving server CPU ms, flood",
                "other server CPU ms, flood",
            ],
        ),
    ],
    "workers": [
        ("requests per second", ["rate"]),
        ("CPU ms per request", ["server CPU ms", "worker CPU ms", "redis CPU ms"]),
    ],
    "message-size": [
        ("CPU ms per round trip", ["round trip CPU ms"]),
        ("CPU s per 100,000 deliveries", ["fan-out CPU s per 100,000"]),
    ],
    "slow-handlers": [
        ("p99 of fast messages, ms", ["p99 ms, slow: none", "p99 ms, slow: await"]),
        ("the same in plain functions, ms", ["p99 ms, slow: block"]),
    ],
}
LOGARITHMIC = {"users-per-push", "message-size"}


def write_page(results: dict[str, Any]) -> None:
    parts = results["parts"]
    text = [page.measured_on(results["facts"])]
    for name in TITLES:
        if name not in parts:
            continue
        points = parts[name]
        _plot(name, points)
        text += [f"## {TITLES[name]}", f"![{TITLES[name]}](benchmarks/scaling-{name}.svg)"]
        text.append(_table(points))
    if {"connections", "push-servers"} <= parts.keys():
        text += ["## A million connections", _million(_costs(parts))]
    page.put(PAGE, "make scaling", "\n\n".join(text))


def _plot(name: str, points: list[Point]) -> None:
    varied = next(iter(points[0]))
    panels = []
    for unit, figures in PANELS[name]:
        lines = {
            figure: [point[figure] for point in points if figure in point] for figure in figures
        }
        panels.append((unit, lines))
    plots.growth(
        f"scaling-{name}",
        panels,
        x=[point[varied] for point in points],
        label=varied,
        logarithmic=name in LOGARITHMIC,
    )


def _table(points: list[Point]) -> str:
    heads = list(dict.fromkeys(head for point in points for head in point))
    varied = heads[0]
    rows = [
        [f"{point[head]:,}" if head == varied else _cell(point.get(head)) for head in heads]
        for point in points
    ]
    return page.table(heads, rows)


def _cell(value: float | None) -> str:
    return "" if value is None else table.number(value)


def _costs(parts: dict[str, list[Point]]) -> Costs:
    most = parts["connections"][-1]
    servers = parts["push-servers"]
    begin, slope = arithmetic.line(
        [point["push servers"] for point in servers],
        [point["redis CPU ms, flood"] for point in servers],
    )
    return Costs(
        memory=most["memory KiB per connection"] * 1024,
        push=servers[0]["receiving server CPU ms, flood"] / 1e3,
        delivery=most["fan-out CPU s per 100,000"] / 1e5,
        idle_entry=servers[-1]["other server CPU ms, flood"] / 1e3,
        redis_entry=max(0.0, begin) / 1e3,
        redis_reader=max(0.0, slope) / 1e3,
    )


def _million(costs: Costs) -> str:
    micro: Callable[[float], str] = lambda seconds: f"{table.number(seconds * 1e6)} µs"  # noqa: E731
    measured = page.table(
        ["what", "cost", ""],
        [
            [
                "memory of an idle connection",
                f"{table.number(costs.memory / 1024)} KiB",
                "measured",
            ],
            ["push server, a push to one connection", micro(costs.push), "measured"],
            ["push server, a delivery of a fan-out", micro(costs.delivery), "measured"],
            ["push server, an entry for nobody there", micro(costs.idle_entry), "measured"],
            ["Redis, a push", micro(costs.redis_entry), "measured (line over the readers)"],
            ["Redis, a push, for each reader", micro(costs.redis_reader), "measured (the same)"],
        ],
    )
    rows = []
    for connections, rate in (
        (PER_SERVER, 60),
        (100_000, 6),
        (100_000, 60),
        (MILLION, 1),
        (MILLION, 6),
        (MILLION, 60),
    ):
        found = arithmetic.plan(
            costs, connections=connections, per_server=PER_SERVER, per_user_hour=rate
        )
        rows.append(
            [
                f"{connections:,}",
                f"{rate}",
                f"{found.pushes:,.0f}",
                f"{found.instances}",
                f"{found.servers}",
                f"{found.memory / 1024**3:,.1f} GiB",
                table.number(found.redis_cores),
                table.number(found.server_cores),
                "within what was measured" if connections <= PER_SERVER else "extrapolated",
            ]
        )
    plan = page.table(
        [
            "connections",
            "pushes per user and hour",
            "pushes/s",
            "Redis instances",
            "push server processes",
            "their memory for connections",
            "Redis cores",
            "push server cores",
            "",
        ],
        rows,
    )
    servers = math.ceil(MILLION / PER_SERVER)
    seconds = MILLION * costs.delivery
    conditions = (
        f"With at most {PER_SERVER:,} connections a process, the most that were measured, no core "
        f"more than {arithmetic.BUSY:.0%} busy, and each user with one connection:"
    )
    rest = (
        f"One message to all of a million connections takes {seconds:,.0f} CPU-seconds in all, "
        f"which {servers} processes with a core each have done in {seconds / servers:.1f} s "
        "(extrapolated). Memory of sockets in the kernel comes on top: a few KiB each while "
        "nothing is queued. Requests to workers are carried by as many workers as their rate "
        "needs, whatever the number of connections."
    )
    return "\n\n".join([measured, conditions, plan, rest])
