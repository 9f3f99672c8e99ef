"""What is measured on every program."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import cpu
from benchmarks.measure import Round, Work, measured
from benchmarks.programs import Program
from benchmarks.publisher_process import EVERYONE

#: Beyond the time that a round takes: whatever has not come then, is lost.
PATIENCE = 60.0
#: Users of their own: `%d` is the number of the client.
USERS = "u%d"


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is done: enough for a figure, or for a glance at it."""

    rounds: int
    seconds: float
    burst_1000: int
    burst_5000: int
    paced_seconds: float
    push_seconds: float
    idle: int
    jobs: int
    lag_connections: int
    lag_seconds: float


FULL = Size(
    rounds=3,
    seconds=3,
    burst_1000=40,
    burst_5000=12,
    paced_seconds=4,
    push_seconds=5,
    idle=5000,
    jobs=2000,
    lag_connections=10_000,
    lag_seconds=20,
)
QUICK = Size(
    rounds=2,
    seconds=1,
    burst_1000=20,
    burst_5000=5,
    paced_seconds=1.5,
    push_seconds=1.5,
    idle=2000,
    jobs=500,
    lag_connections=5000,
    lag_seconds=4,
)


def works(size: Size) -> list[Work]:
    """In the order in which they disturb each other least: memory of fresh processes first."""
    return [
        Work(
            name="memory",
            title=f"memory per idle connection ({size.idle:,})",
            unit="ms CPU to connect",
            scale=1e3,
            rounds=1,
            prepare=warm_up,
            measure=lambda program: memory(program, size.idle),
            shown=("memory",),
        ),
        Work(
            name="round-trip",
            title="round trip through a worker, 100 connections",
            unit="ms per request",
            scale=1e3,
            rounds=size.rounds,
            prepare=lambda program: ask_and_wait(program, 100, 1.0),
            measure=lambda program: round_trips(program, 100, size.seconds),
            shown=("rate", "p50", "p99"),
        ),
        Work(
            name="round-trip-1",
            title="round trip through a worker, 1 connection",
            unit="ms per request",
            scale=1e3,
            # One request at a time feels every neighbour of the machine: many short rounds.
            rounds=2 * size.rounds + 1,
            prepare=lambda program: ask_and_wait(program, 1, 0.5),
            measure=lambda program: round_trips(program, 1, size.seconds / 2),
            shown=("p50", "p99"),
        ),
        _handshakes("handshake", "without authentication", {"ours": "ours-open"}, size.rounds),
        _handshakes("handshake-authenticated", "with authentication", {}, size.rounds),
        Work(
            name="push",
            title="push to one of 1,000 users, 200/s",
            unit="ms per push",
            scale=1e3,
            rounds=size.rounds,
            prepare=lambda program: _uncounted(pushes(program, 0.5)),
            measure=lambda program: pushes(program, size.push_seconds),
            shown=("p50", "p99", "cpu with publisher"),
        ),
        _fan_out("fan-out-paced", "2/s to 1,000", 1000, round(2 * size.paced_seconds), size, 2.0),
        _fan_out("fan-out-1000", "burst to 1,000", 1000, size.burst_1000, size),
        _fan_out("fan-out-5000", "burst to 5,000", 5000, size.burst_5000, size),
    ]


def _fan_out(
    name: str, title: str, connections: int, messages: int, size: Size, rate: float = 0
) -> Work:
    return Work(
        name=name,
        title=f"fan-out, {title}",
        unit="s per 100,000 deliveries",
        scale=1e5,
        rounds=size.rounds,
        prepare=lambda program: _uncounted(fan_out(program, connections, 2, 0)),
        measure=lambda program: fan_out(program, connections, messages, rate),
        shown=() if rate else ("rate",),
    )


def _handshakes(name: str, title: str, instead: dict[str, str], rounds: int) -> Work:
    return Work(
        name=name,
        title=f"handshake, 500 at once, {title}",
        unit="ms per handshake",
        scale=1e3,
        rounds=rounds,
        prepare=warm_up,
        measure=lambda program: handshakes(program, 500),
        instead=instead,
    )


def _uncounted(_: Round) -> None:
    """A round that is only to warm up."""


def warm_up(program: Program) -> None:
    """Let the server load and allocate what its first connections need."""
    program.crowd.connect(100, users=USERS)
    program.crowd.disconnect()
    time.sleep(0.5)


def memory(program: Program, connections: int) -> Round:
    before = cpu.resident_bytes(program.server)
    with measured(program, settle=1.0) as given:
        program.crowd.connect(connections, users=USERS)
    given.units = connections
    grown = cpu.resident_bytes(program.server) - before
    given.figures["memory"] = grown / 1024 / connections
    program.crowd.disconnect()
    time.sleep(1)
    return given


def ask_and_wait(program: Program, connections: int, seconds: float) -> None:
    """A round that is not counted."""
    program.crowd.connect(connections, users=USERS)
    _ask(program, seconds)


def _ask(program: Program, seconds: float) -> dict[str, float]:
    return program.crowd.ask("round_trips", seconds=seconds, deadline=seconds + PATIENCE)


def round_trips(program: Program, connections: int, seconds: float) -> Round:
    program.crowd.connect(connections, users=USERS)
    with measured(program) as given:
        answer = _ask(program, seconds)
    given.units = answer["count"]
    given.figures = {
        "rate": answer["count"] / answer["seconds"],
        "p50": answer["p50"],
        "p99": answer["p99"],
    }
    return given


def fan_out(program: Program, connections: int, messages: int, rate: float) -> Round:
    program.crowd.connect(connections, users=EVERYONE)
    return published(
        program,
        lambda number: program.crowd.ask("listen", run=number, messages=messages),
        messages=messages,
        rate=rate,
    )


def pushes(program: Program, seconds: float, *, users: int = 1000, rate: float = 200) -> Round:
    """To one user at random, on a schedule that waits for nothing."""
    program.crowd.connect(users, users=USERS)
    count = round(seconds * rate)
    return published(
        program,
        lambda number: program.crowd.ask("listen_for_pushes", run=number, pushes=count),
        messages=count,
        rate=rate,
        users=users,
    )


def published(
    program: Program,
    listen: Callable[[int], object],
    *,
    messages: int,
    rate: float = 0,
    users: int = 0,
    text: str = "",
) -> Round:
    """Publish while the crowd listens, until it has heard everything."""
    number = program.next_run()
    patience = PATIENCE + (messages / rate if rate else 0)
    listen(number)
    with measured(program) as given:
        program.publisher.ask(
            "publish",
            run=number,
            messages=messages,
            rate=rate,
            users=users,
            text=text,
            deadline=patience,
        )
        answer = program.crowd.ask("heard", deadline=PATIENCE)
    given.units = answer.pop("count")
    if "seconds" in answer:
        answer["rate"] = given.units / answer.pop("seconds")
    given.figures = answer
    return given


def handshakes(program: Program, count: int) -> Round:
    program.crowd.disconnect()
    time.sleep(0.3)
    with measured(program, settle=0.3) as given:
        program.crowd.connect(count, users=USERS, batch=count)
    given.units = count
    program.crowd.disconnect()
    return given
