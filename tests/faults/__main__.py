"""`python -m tests.faults`: run the laboratory, or some of it."""

import argparse
import asyncio
import functools
import logging
import resource
import signal
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from tests.faults import report
from tests.faults.planted import KINDS
from tests.faults.report import Row
from tests.faults.scenarios import (
    clocks,
    crowds,
    failovers,
    full,
    links,
    pushes,
    requests,
    sessions,
    soak,
)
from tests.faults.scenarios.size import LONG, SHORT, Size
from tests.faults.stage import end_children

Scenario: TypeAlias = Callable[[Size], Awaitable[Row]]

SCENARIOS: dict[str, Scenario] = {
    "server_kills": pushes.server_kills,
    "client_cuts": pushes.client_cuts,
    "redis_links": pushes.redis_links,
    "redis_emptied": pushes.redis_emptied,
    "redis_frozen": pushes.redis_frozen,
    "silent_redis": links.silent_redis,
    "silent_rabbitmq": links.silent_rabbitmq,
    "redis_demoted": failovers.redis_demoted,
    "redis_failover": failovers.redis_failover,
    "full_redis": full.full_redis,
    "worker_kills": requests.worker_kills,
    "rolling_restart": requests.rolling_restart,
    "wrong_clocks": clocks.wrong_clocks,
    "reconnect_storm": crowds.reconnect_storm,
    "window_outlived": crowds.window_outlived,
    "presence": crowds.presence,
    "stalled_readers": crowds.stalled_readers,
    "rooms_left": sessions.rooms_left,
    "offsets_anew": sessions.offsets_anew,
    "soak": soak.soak,
}


def main() -> int:
    """Exit code 1 when a line fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a few minutes instead of an hour")
    parser.add_argument("--only", nargs="+", choices=sorted(SCENARIOS), help="these and no others")
    parser.add_argument(
        "--plant", nargs="+", choices=KINDS, help="plant faults in what was written down, too"
    )
    parser.add_argument(
        "--write", action="store_true", help="put the lines into the table of the docs"
    )
    parser.add_argument("--show-logs", action="store_true", help="of the clients and the pusher")
    options = parser.parse_args()
    if options.write and options.short:
        parser.error("--write is for the long run: the document shows no short one")
    logging.basicConfig(level=logging.INFO if options.show_logs else logging.CRITICAL)
    _allow_descriptors()
    size = SHORT if options.short else LONG
    chosen: dict[str, Scenario] = {
        name: scenario
        for name, scenario in SCENARIOS.items()
        if options.only is None or name in options.only
    }
    if options.plant:
        chosen["planted"] = functools.partial(pushes.planted, kinds=options.plant)
    # A run that is told to end ends what it has started, as it does on Ctrl+C.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        rows = {name: _run(name, scenario, size) for name, scenario in chosen.items()}
    finally:
        left = end_children()
        if left:
            print(f"{left} processes were left, and killed")
    if options.write:
        report.write(rows, list(SCENARIOS))
    failed = sum(not row.passed for row in rows.values())
    print(f"{len(rows)} lines, {failed} failed")
    return 1 if failed else 0


def _run(name: str, scenario: Scenario, size: Size) -> Row:
    started, here = time.monotonic(), _cpu(resource.RUSAGE_SELF)
    there = _cpu(resource.RUSAGE_CHILDREN)
    print(f"{name} …", flush=True)
    try:
        row = asyncio.run(_bounded(scenario, size))
    except Exception as error:
        traceback.print_exc()
        row = Row(fault=name, load="", shown=f"the run itself failed: {error}", passed=False)
    print(
        f"{row}\n     ({time.monotonic() - started:.0f} s; CPU: clients and pusher "
        f"{_cpu(resource.RUSAGE_SELF) - here:.0f} s, all others "
        f"{_cpu(resource.RUSAGE_CHILDREN) - there:.0f} s)",
        flush=True,
    )
    return row


def _cpu(who: int) -> float:
    """Seconds of this process, or of those that it has started and that have ended."""
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


async def _bounded(scenario: Scenario, size: Size) -> Row:
    async with asyncio.timeout(max(900, 2 * size.soak)):
        return await scenario(size)


def _allow_descriptors() -> None:
    """Thousands of clients, and the same through a proxy, are in this process."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.exit(code)
