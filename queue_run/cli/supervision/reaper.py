"""Ends the supervisor's process groups when the supervisor is gone, however it went.

A program of its own, run by an isolated interpreter (`python -I -S -c`): it imports nothing but a
few modules of the standard library and is ready within milliseconds. Its standard input is a pipe
whose other end only the supervisor holds. Lines `+<group>` and `-<group>` say which process groups
run; the end of the pipe says that the supervisor has ended. That needs nothing but POSIX, so it
works where a parent-death signal (Linux only, and lost when a thread ends) does not.

Arguments: GRACE_SECONDS [FOLDER_TO_REMOVE]
"""

import os
import shutil
import signal
import sys
import time

POLL = 0.02


def main(arguments: list[str]) -> None:
    # The pipe is its only reason to end: Ctrl+C or a closed terminal are for the supervisor.
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    end_groups(read_groups(), grace=float(arguments[0]))
    if len(arguments) > 1:
        shutil.rmtree(arguments[1], ignore_errors=True)


def read_groups() -> set[int]:
    """The groups that still run when the pipe ends."""
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line.startswith("+"):
            groups.add(group)
        else:
            groups.discard(group)
    return groups


def end_groups(groups: set[int], *, grace: float) -> None:
    """SIGTERM to all of them, and SIGKILL to those that are left after the grace."""
    groups = {group for group in groups if send(group, signal.SIGTERM)}
    deadline = time.monotonic() + grace
    while groups and time.monotonic() < deadline:
        time.sleep(POLL)
        groups = {group for group in groups if send(group, 0)}
    for group in groups:
        send(group, signal.SIGKILL)


def send(process_group: int, number: int) -> bool:
    """Signal a group; False if it is gone. macOS answers EPERM where only zombies are left."""
    try:
        os.killpg(process_group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    main(sys.argv[1:])
