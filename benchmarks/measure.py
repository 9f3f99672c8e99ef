"""A work, run on several programs in turn, so that noise hits all alike."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from benchmarks import cpu
from benchmarks.programs import PAID, PROGRAMS, Program

T = TypeVar("T")


@dataclass(kw_only=True)
class Round:
    """What one round of a work on one program has given."""

    #: What was done: requests, deliveries, handshakes.
    units: float = 1
    #: CPU seconds by role.
    cpu: dict[str, float] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)

    def per_unit(self, scale: float) -> dict[str, float]:
        """All figures, CPU per unit among them."""
        roles = {role: seconds / self.units * scale for role, seconds in self.cpu.items()}
        figures = {f"cpu {role}": value for role, value in roles.items()}
        if roles:
            paid = sum(roles.get(role, 0) for role in PAID)
            figures["cpu"] = paid
            if "publisher" in roles:
                figures["cpu with publisher"] = paid + roles["publisher"]
            total = sum(self.cpu.values())
            figures["load's share"] = self.cpu.get("load", 0) / total if total else 0
        return {**figures, **self.figures}


@dataclass(frozen=True, kw_only=True)
class Work:
    """Something that every program does in its own way."""

    name: str
    title: str
    #: What CPU is given in, and how many of it a CPU second per unit is.
    unit: str
    scale: float
    rounds: int
    measure: Callable[[Program], Round]
    prepare: Callable[[Program], None] = lambda program: None
    #: Called at the end, also of a failure.
    clean: Callable[[Program], None] = lambda program: None
    #: Which of PROGRAMS runs it in the place of the one named.
    instead: dict[str, str] = field(default_factory=dict)
    #: Nobody else does this.
    ours_alone: bool = False
    #: Figures beside CPU that the table shows.
    shown: tuple[str, ...] = ()


#: The figures of each round, by program.
Rounds = dict[str, list[dict[str, float]]]


class Programs:
    """The programs that run; each is started when it is first needed."""

    def __init__(self, ending: ExitStack) -> None:
        self._ending = ending
        self._running: dict[str, Program] = {}

    def get(self, names: Iterable[str]) -> list[Program]:
        wanted = list(names)
        new = {name: PROGRAMS[name]() for name in wanted if name not in self._running}
        self._running |= start_together(new, self._ending)
        return [self._running[name] for name in wanted]


def start_together(
    programs: Mapping[str, AbstractContextManager[T]], ending: ExitStack
) -> dict[str, T]:
    """Enter all at once, since each waits for its processes most of the time."""
    started: dict[str, T] = {}
    failures: list[BaseException] = []
    with ThreadPoolExecutor(max_workers=max(1, len(programs))) as pool:
        futures = {name: pool.submit(program.__enter__) for name, program in programs.items()}
    for name, future in futures.items():
        error = future.exception()
        if error is None:
            ending.push(programs[name])
            started[name] = future.result()
        else:
            failures.append(error)
    if failures:
        raise failures[0]
    return started


def run(work: Work, names: list[str], programs: Programs) -> Rounds:
    """Prepare all, then a round of each in turn."""
    chosen = ["ours"] if work.ours_alone else names
    found = programs.get(work.instead.get(name, name) for name in chosen)
    running = dict(zip(chosen, found, strict=True))
    rounds: Rounds = {name: [] for name in running}
    try:
        for program in running.values():
            work.prepare(program)
        for _ in range(work.rounds):
            for name, program in running.items():
                rounds[name].append(work.measure(program).per_unit(work.scale))
    finally:
        for program in running.values():
            work.clean(program)
    return rounds


@contextmanager
def measured(program: Program, *, settle: float = 0.1) -> Iterator[Round]:
    """CPU of what is done meanwhile.

    Args:
        settle: seconds in which what was done last comes to its end.
    """
    given = Round()
    before = program.cpu()
    yield given
    time.sleep(settle)
    given.cpu = cpu.difference(before, program.cpu())
