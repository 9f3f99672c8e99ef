"""Ours alone: what a resume costs the push server, and whether its event loop ever stalls."""

import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import cpu
from benchmarks.load import Crowd, LoadFailed
from benchmarks.measure import Round, Work, measured
from benchmarks.programs import Program
from benchmarks.publisher_process import EVERYONE
from benchmarks.works import PATIENCE, USERS, Size

#: Clients that resume, and how many users the entries of the window are for.
RESUMING = 100
OTHERS = 500
#: Entries of the window.
ENTRIES = 5000
STORM = 2000
#: Seconds between the pings that feel for the loop's lag from outside.
PROBE_INTERVAL = 0.005


def loop_works(size: Size) -> list[Work]:
    return [
        Work(
            name="resume",
            title=f"resume of one client, {ENTRIES:,} entries in the window",
            unit="ms of the push server per resume",
            scale=1e3,
            rounds=size.rounds,
            measure=resume,
            ours_alone=True,
            shown=("cpu of nothing missed",),
        ),
        Work(
            name="loop-lag-broadcast",
            title=f"loop lag, broadcasts to {size.lag_connections:,} connections",
            unit="ms per delivery",
            scale=1e3,
            rounds=1,
            measure=lambda program: broadcasts(program, size.lag_connections, size.lag_seconds),
            ours_alone=True,
            shown=("p99", "max", "waited", "ping p99", "ping max"),
        ),
        Work(
            name="loop-lag-resume",
            title=f"loop lag, {STORM:,} clients resume at once",
            unit="ms per connect and resume",
            scale=1e3,
            rounds=1,
            measure=resume_storm,
            ours_alone=True,
            shown=("p99", "max", "waited", "ping p99", "ping max"),
        ),
    ]


def resume(program: Program) -> Round:
    """Clients that missed a few entries of a full window; without the cost of their handshakes."""
    with _envelopes(program) as crowd:
        crowd.connect(RESUMING, users=USERS)
        crowd.disconnect()
        sent = program.publisher.ask(
            "publish", run=program.next_run(), messages=ENTRIES, users=OTHERS, deadline=PATIENCE
        )["sent"]
        time.sleep(0.5)
        some = _resumed(program, crowd, sent)
        none = _resumed(program, crowd, {})
    return Round(figures={"cpu": some, "cpu of nothing missed": none})


def _resumed(program: Program, crowd: Crowd, sent: dict[str, int]) -> float:
    """Milliseconds of the push server's CPU per resume."""
    crowd.connect(RESUMING, users=USERS)
    before = cpu.cpu_seconds(program.server)
    missed = crowd.ask("resume")["missed"]
    used = cpu.cpu_seconds(program.server) - before
    expected = {user: sent.get(user, 0) for user in missed}
    if missed != expected:
        wrong = sum(missed[user] != expected[user] for user in missed)
        raise LoadFailed(f"{wrong} of {RESUMING} clients got other messages than they had missed")
    crowd.disconnect()
    return used / RESUMING * 1000


def broadcasts(program: Program, connections: int, seconds: float) -> Round:
    """Two a second; the lag is the loop's own word for it, and a ping's from outside."""
    program.crowd.connect(connections, users=EVERYONE)
    messages = round(2 * seconds)
    with _probe(program) as probe, measured(program) as given, _waiting(program, given):
        number = program.next_run()
        program.crowd.ask("listen", run=number, messages=messages)
        probe.tell("probe", seconds=seconds, interval=PROBE_INTERVAL)
        program.publisher.ask(
            "publish", run=number, messages=messages, rate=2, deadline=PATIENCE + seconds
        )
        answer = program.crowd.ask("heard", deadline=PATIENCE)
        given.figures = _lag(program, probe, seconds)
    given.units = answer["count"]
    program.crowd.disconnect()
    return given


def resume_storm(program: Program) -> Round:
    """All connect, and resume, at once."""
    with _envelopes(program) as crowd:
        crowd.connect(STORM, users=USERS)
        crowd.disconnect()
        program.publisher.ask(
            "publish", run=program.next_run(), messages=ENTRIES, users=STORM, deadline=PATIENCE
        )
        with _probe(program) as probe, measured(program) as given, _waiting(program, given):
            seconds = 3.0
            probe.tell("probe", seconds=seconds, interval=PROBE_INTERVAL)
            crowd.connect(STORM, users=USERS, batch=STORM, resume=True)
            given.figures = _lag(program, probe, seconds)
        given.units = STORM
    return given


@contextmanager
def _envelopes(program: Program) -> Iterator[Crowd]:
    crowd = Crowd("envelopes", program.url)
    try:
        yield crowd
    finally:
        crowd.end()


@contextmanager
def _probe(program: Program) -> Iterator[Crowd]:
    """A client of its own process, which the others' messages do not delay."""
    crowd = Crowd("plain", program.url)
    try:
        crowd.connect(1, users="probe")
        yield crowd
    finally:
        crowd.end()


@contextmanager
def _waiting(program: Program, given: Round) -> Iterator[None]:
    """The part of the time for which the push server's loop had to wait for a core."""
    began, before = time.monotonic(), cpu.waited_seconds(program.server)
    yield
    waited = cpu.waited_seconds(program.server) - before
    given.figures["waited"] = 100 * waited / (time.monotonic() - began)


def _lag(program: Program, probe: Crowd, seconds: float) -> dict[str, float]:
    """What the push server says of its loop's last ten seconds, if it does: what came before, the
    connecting among it, is a part of them. And the pings' times."""
    pings = probe.answer(seconds + PATIENCE)
    figures = {f"ping {name}": value for name, value in pings.items()}
    assert program.stack is not None
    with urllib.request.urlopen(f"{program.stack.url}/healthz", timeout=10) as response:
        try:
            lag = json.load(response).get("loop_lag")
        except (ValueError, AttributeError):
            lag = None
    if lag:
        figures |= {name: float(lag[name]) for name in ("p50", "p99", "max")}
    return figures
