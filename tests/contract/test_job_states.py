"""The tables of docs/jobs.md, state and event to state, held against the scripts of every Redis."""

import itertools
from collections.abc import Callable
from typing import ClassVar, TypeAlias

import pytest

from queue_run.jobs.groups import Group
from tests.contract.jobs import LONG, MOST, SHORT, Jobs, a_job, letter_of
from tests.documents import between
from tests.processes import ROOT
from tests.waiting import eventually

PAGE = ROOT / "docs" / "jobs.md"
#: In a table: nothing changes.
SAME = "·"
#: What only a worker says that runs the job.
OF_ATTEMPTS = {"ends well", "fails", "fails for the last time", "loses its worker"}
AT_WORK = {"running", "stopping"}

#: Event, state, and the state after it.
Case: TypeAlias = tuple[str, str, str]


def cases(of: str) -> list[Case]:
    """What a table of the page says; also the empty places."""
    text = between(PAGE, f"<!-- begin: the states of {of} -->", f"<!-- end: the states of {of} -->")
    head, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()
    ]
    return [
        (event, state, state if after == SAME else after)
        for event, *afters in rows
        for state, after in zip(head[1:], afters, strict=True)
    ]


def named(of: str) -> list[object]:
    return [pytest.param(*case, id=f"{case[1]} {case[0]}") for case in cases(of) if case[2]]


class PlainJob:
    """A job with the broker, and whoever says something of it."""

    #: How a new job gets into each state.
    HISTORIES: ClassVar[dict[str, list[str]]] = {
        "waiting": [],
        "delayed": ["is taken", "fails"],
        "running": ["is taken"],
        "stopping": ["is taken", "is cancelled"],
        "called off": ["is cancelled"],
        "finished": ["is taken", "ends well"],
        "failed": ["is taken", "fails for the last time"],
        "cancelled": ["is cancelled", "is taken"],
        "withdrawn": ["could not be pushed"],
    }

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs
        self.job = a_job()
        self.letter = letter_of(self.job)
        self.tokens = map(str, itertools.count(1))
        self.token = ""
        #: Seconds after which a failed attempt is followed by the next one.
        self.after = LONG
        self.events: dict[str, Callable[[], object]] = {
            "is taken": self.take,
            "is taken, its attempts used up": lambda: self.take(most=0),
            "ends well": lambda: self.end("finished"),
            "fails": lambda: self.fail(again=True),
            "fails for the last time": lambda: self.fail(again=False),
            "loses its worker": self.lose,
            "is due": self.become_due,
            "is cancelled": lambda: jobs.attempts.cancel(self.job.id),
            "is retried by somebody": lambda: jobs.dead.revive(self.letter, self.job),
            "is dropped by somebody": lambda: jobs.dead.drop(self.job.id),
            "could not be pushed": lambda: jobs.attempts.withdraw(self.job.id),
            "ends well where it was lost": lambda: jobs.attempts.end(
                self.job.id, "lost", "finished"
            ),
            "fails where it was lost": lambda: jobs.attempts.retry(self.job, "lost", after=LONG),
            "fails there for the last time": lambda: jobs.attempts.park(self.letter, "lost"),
        }

    @property
    def state(self) -> str:
        record = self.jobs.record(self.job)
        if "dropped" in record:
            return "forgotten"
        is_letter = self.jobs.client.hexists(self.jobs.keys.dead, self.job.id)
        assert bool(is_letter) == (record.get("ended") == "failed")
        if "ended" in record:
            return record["ended"]
        if "owner" in record and float(record["until"]) / 1000 > self.jobs.now():
            return "stopping" if "cancelled" in record else "running"
        if "cancelled" in record:
            return "called off"
        if self.job.id in self.jobs.waiting():
            return "delayed"
        return "waiting"

    def take(self, most: int = MOST) -> None:
        """A worker gets a message of the job, as in `worker.jobs.attempts`."""
        token = next(self.tokens)
        beginning = self.jobs.attempts.begin(self.job.id, token, most=most)
        match beginning.verdict:
            case "run":
                self.token = token
            case "busy":
                self.jobs.delays.add(self.job, beginning.after)
            case "cancelled":
                self.jobs.attempts.end(self.job.id, token, "cancelled")
            case "exhausted":
                self.jobs.attempts.park(self.letter, token)

    def end(self, end: str) -> None:
        """The attempt that runs is over. Its worker has learned whether the job was cancelled."""
        [was_cancelled] = self.jobs.attempts.renew([(self.job.id, self.token)])
        if was_cancelled:
            assert self.jobs.attempts.end(self.job.id, self.token, "cancelled")
        elif end == "finished":
            assert self.jobs.attempts.end(self.job.id, self.token, "finished")
        elif end == "delayed":
            assert self.jobs.attempts.retry(self.job, self.token, after=self.after)
        else:
            assert self.jobs.attempts.park(self.letter, self.token)

    def fail(self, *, again: bool) -> None:
        self.end("delayed" if again else "failed")

    def lose(self) -> None:
        """Nobody renews the lease any more."""
        self.jobs.attempts_with(SHORT).renew([(self.job.id, self.token)])
        eventually(lambda: self.state not in AT_WORK, what="the end of the lease")

    def become_due(self) -> None:
        [due_job] = self.jobs.due()
        assert due_job.job == self.job
        self.jobs.delays.done(due_job)


class FifoJob(PlainJob):
    """A job in its group, and whoever drains it."""

    HISTORIES: ClassVar[dict[str, list[str]]] = {
        "waiting": [],
        "delayed": ["is taken", "fails"],
        "running": ["is taken"],
        "stopping": ["is taken", "is cancelled"],
        "called off": ["is cancelled"],
        "forgotten": ["is taken", "ends well"],
        "failed": ["is taken", "fails for the last time"],
    }

    def __init__(self, jobs: Jobs) -> None:
        super().__init__(jobs)
        self.job = a_job("fifo", group="g")
        self.letter = letter_of(self.job)
        self.group = Group("fifo", "g")
        jobs.groups.push(self.job, "once")
        del self.events["could not be pushed"], self.events["fails there for the last time"]
        self.events |= {
            "ends well where it was lost": lambda: self.advance("lost", done=self.job.id),
            "fails where it was lost": lambda: jobs.groups.postpone(
                self.group, "lost", self.job.id, LONG
            ),
        }

    @property
    def state(self) -> str:
        keys, client = self.jobs.keys, self.jobs.client
        if client.hexists(keys.dead, self.job.id):
            return "failed"
        if not client.exists(keys.group(self.group.name)):
            return "forgotten"
        record = self.jobs.record(self.job)
        if "owner" in record and float(record["until"]) / 1000 > self.jobs.now():
            return "stopping" if "cancelled" in record else "running"
        if "cancelled" in record:
            return "called off"
        is_postponed = client.get(keys.group_lease(self.group.name)) == b"postponed"
        return "delayed" if is_postponed else "waiting"

    def advance(self, token: str, *, most: int = MOST, done: str = "") -> str:
        return self.jobs.groups.drain(self.group, token, most=most).advance(done=done).step

    def take(self, most: int = MOST) -> None:
        """A drain begins, as in `worker.jobs.attempts`."""
        token = next(self.tokens)
        step = self.advance(token, most=most)
        if step == "refused" or step == "empty":
            return
        self.token = token
        if step == "exhausted":
            assert self.jobs.attempts.park(self.letter, token)
        if step != "run":
            assert self.advance(token, done=self.job.id) == "empty"

    def end(self, end: str) -> None:
        [was_cancelled] = self.jobs.groups.renew([(self.group, self.token, self.job.id)])
        if end == "delayed" and not was_cancelled:
            self.jobs.groups.postpone(self.group, self.token, self.job.id, self.after)
            return
        if end == "failed" and not was_cancelled:
            assert self.jobs.attempts.park(self.letter, self.token)
        assert self.advance(self.token, done=self.job.id) == "empty"

    def lose(self) -> None:
        self.jobs.groups_with(SHORT).renew([(self.group, self.token, self.job.id)])
        eventually(lambda: self.state not in AT_WORK, what="the end of the lease")
        assert self.jobs.due_groups() == [self.group]

    def become_due(self) -> None:
        assert self.jobs.due_groups() == [self.group]
        # The lease that kept early drains away ends a moment later.
        eventually(lambda: self.state != "delayed", what="the end of the pause")


@pytest.mark.parametrize(("event", "state", "after"), named("a plain job"))
def test_of_a_plain_job_the_page_says_what_is(
    jobs: Jobs, event: str, state: str, after: str
) -> None:
    check(PlainJob(jobs), event, state, after)


@pytest.mark.parametrize(("event", "state", "after"), named("a job of a FIFO group"))
def test_of_a_job_of_a_group_the_page_says_what_is(
    jobs: Jobs, event: str, state: str, after: str
) -> None:
    check(FifoJob(jobs), event, state, after)


def check(job: PlainJob, event: str, state: str, after: str) -> None:
    will_be_due = event == "is due"
    if will_be_due:
        job.after = SHORT
    for before in job.HISTORIES[state]:
        job.events[before]()
    # It may be due already.
    assert job.state == state or will_be_due
    job.events[event]()
    assert job.state == after


@pytest.mark.parametrize(
    ("of", "kind"), [("a plain job", PlainJob), ("a job of a FIFO group", FifoJob)]
)
def test_the_page_has_all_states_and_events(jobs: Jobs, of: str, kind: type[PlainJob]) -> None:
    found = cases(of)
    pairs = {(event, state) for event, state, _ in found}
    assert pairs == set(itertools.product(kind(jobs).events, kind.HISTORIES))
    empty = {(event, state) for event, state, after in found if not after}
    assert empty == {
        (event, state)
        for event, state in pairs
        if (event in OF_ATTEMPTS and state not in AT_WORK)
        or (event == "is due" and state != "delayed")
    }
