"""`python -m tests.autobahn`: run the conformance suite, or some of its cases."""

import argparse
import itertools
import signal
import sys
import time
from pathlib import Path

from tests.autobahn import report, suite
from tests.autobahn.echo_server import DIRECT, QUEUED
from tests.autobahn.report import Case, Verdict
from tests.processes import Process, RedisServer, environment

WAYS = {"direct": DIRECT, "queued": QUEUED}

MIB = 1024 * 1024
#: The largest messages of the suite have 16 MiB, and come without a pause.
LIMITS = {
    "QUEUE_RUN_MAX_REQUEST_BYTES": str(20 * MIB),
    "QUEUE_RUN_MAX_MESSAGE_BYTES": str(20 * MIB),
    "QUEUE_RUN_MAX_OUTBOX_BYTES": str(64 * MIB),
    "QUEUE_RUN_MAX_MESSAGE_RATE": "1000000",
    # Low enough for lanes that fill: then a connection is not read for a while.
    "QUEUE_RUN_MAX_LANE_REQUESTS": "4",
}
#: Seconds that a section may take, and each of its cases beyond that.
SECTION_TIME, CASE_TIME = 60, 6
NO_PYTHON2 = (
    "not run: the suite needs Python 2.7, and none was found (name one with --python2 PATH)"
)


def main() -> int:
    """Exit code 1 when a case fails, 2 when the suite cannot run here."""
    parser = argparse.ArgumentParser(prog="python -m tests.autobahn", description=__doc__)
    parser.add_argument("--python2", metavar="PATH", help="a Python 2.7, which the suite needs")
    parser.add_argument(
        "--cases", nargs="+", default=["*"], metavar="PATTERN", help="for example 7.* 9.1.1"
    )
    parser.add_argument(
        "--ways",
        nargs="+",
        default=list(WAYS),
        choices=list(WAYS),
        help="answer at once, or through the lanes of connections; both without it",
    )
    parser.add_argument("--write", action="store_true", help="put the table into the docs")
    parser.add_argument("--show-logs", action="store_true", help="of the push server")
    options = parser.parse_args()
    python2 = suite.find_python2(options.python2)
    if python2 is None:
        print(NO_PYTHON2)
        return 2
    try:
        commands = suite.install(python2)
        wanted = suite.case_ids(commands, options.cases)
    except suite.CannotInstall as error:
        print(f"not run: {error}")
        return 2
    # A run that is told to end ends what it has started, as it does on Ctrl+C.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    cases = _run(commands, wanted, options.ways, show_logs=options.show_logs)
    failed = report.failures(cases)
    for case in (*report.of_verdict(Verdict.NON_STRICT, cases), *failed):
        print(case)
    print(report.table(cases))
    if options.write and options.cases == ["*"] and set(options.ways) == set(WAYS):
        report.write(cases)
    elif options.write:
        print("a part of the suite: the docs stay as they are")
    print(f"{len(cases)} cases, {len(failed)} failed")
    return 1 if failed or not cases else 0


def _run(commands: Path, wanted: list[str], ways: list[str], *, show_logs: bool) -> list[Case]:
    redis = RedisServer()
    server = None
    try:
        server = Process(
            [sys.executable, "-m", "tests.autobahn.echo_server"],
            environ=environment(REDIS_URL=redis.url, PORT="0", **LIMITS),
        )
        server.wait_for_output("listens on ")
        address = server.output.partition("listens on http")[2].split()[0]
        return [
            case
            for way in ways
            for section, cases in itertools.groupby(wanted, report.section_of)
            for case in _run_section(commands, section, list(cases), way, f"ws{address}")
        ]
    finally:
        if server is not None:
            server.end()
            if show_logs:
                print(server.output)
        redis.end()


def _run_section(
    commands: Path, section: int, wanted: list[str], way: str, address: str
) -> list[Case]:
    print(f"{way} {section} ({len(wanted)} cases) …", flush=True)
    started = time.monotonic()
    # The suite writes reports only at its end: a section that hangs costs its own, and no other.
    reports = suite.CACHE / "reports" / way / str(section)
    trouble = suite.run_cases(
        commands,
        wanted,
        way=way,
        url=address + WAYS[way],
        reports=reports,
        seconds=SECTION_TIME + CASE_TIME * len(wanted),
    )
    if trouble:
        print(f"     it did not end as it should:\n{trouble}")
    cases = report.read(reports, way, wanted)
    print(
        f"     {len(report.failures(cases))} failed ({time.monotonic() - started:.0f} s)",
        flush=True,
    )
    return cases


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.exit(code)
