"""What benchmarks know of processes."""

from pathlib import Path


def cpu_seconds(pid: int) -> float:
    """User and system time of a process (proc(5), fields 14 and 15, in clock ticks)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def tree_cpu_seconds(pid: int) -> float:
    """The same for a process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return cpu_seconds(pid) + sum(cpu_seconds(int(child)) for child in children)
