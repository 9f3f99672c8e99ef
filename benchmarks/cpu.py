"""What the kernel says of processes: CPU time in nanoseconds, and memory."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process, ended ones too.

    From the process's CPU clock: /proc/PID/stat counts in ticks of 10 ms, too coarse for a round.
    """
    # What clock_getcpuclockid(3) makes of a pid on Linux: the inverted pid and CPUCLOCK_SCHED.
    return time.clock_gettime((~pid << 3) | 2)


def waited_seconds(pid: int) -> float:
    """How long the main thread of a process could have run and had no core to run on."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


def children(pid: int) -> list[int]:
    """The processes that a process has started, and theirs."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *children(child)]
    return found


def tree_cpu_seconds(pid: int) -> float:
    """CPU time of a process and of its children that still run."""
    return sum(map(cpu_seconds, [pid, *children(pid)]))


def resident_bytes(pid: int) -> int:
    """Memory that a process holds and shares with no other: RssAnon of proc(5)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"no RssAnon of process {pid}")


def by_role(pids: Mapping[str, Iterable[int]]) -> dict[str, float]:
    """CPU seconds of each role's processes so far."""
    return {role: sum(map(tree_cpu_seconds, each)) for role, each in pids.items()}


def difference(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    return {role: after[role] - before[role] for role in before}
