"""The checker of jobs: it finds what is lost, shown twice, untold or out of order."""

from typing import Any

import pytest

from tests.faults.scenarios.full import said_too_often
from tests.faults.work import Pushed, WorkVerdict, judge_work

PLAIN = Pushed("counted", 0, "id-0", "")
FIRST, SECOND = Pushed("grouped", 1, "id-1", "group-0"), Pushed("grouped", 2, "id-2", "group-0")
FAILING = Pushed("failing", 3, "id-3", "")
PUSHED = [PLAIN, FIRST, SECOND, FAILING]
ENDED = [job.note for job in PUSHED]
MESSAGES: list[dict[str, Any]] = [
    *({"event": "finished", "job": job.id, "queue": job.kind} for job in PUSHED),
    {"shown": 3},
]


def judged(ended: list[str], messages: list[dict[str, Any]]) -> WorkVerdict:
    return judge_work(PUSHED, ended, messages)


def test_a_run_without_faults_is_clean() -> None:
    verdict = judged(ENDED, MESSAGES)
    assert verdict.clean
    assert (verdict.pushed, verdict.run_again) == (4, 0)
    assert judged([*ENDED, PLAIN.note], MESSAGES).run_again == 1


@pytest.mark.parametrize("job", PUSHED, ids=lambda job: job.kind)
def test_a_job_that_never_ended_is_lost(job: Pushed) -> None:
    verdict = judged([note for note in ENDED if note != job.note], MESSAGES)
    assert (verdict.lost, verdict.clean) == (1, False)


@pytest.mark.parametrize("message", MESSAGES, ids=str)
def test_what_is_told_twice_is_found(message: dict[str, Any]) -> None:
    verdict = judged(ENDED, [*MESSAGES, message])
    assert (verdict.shown_twice, verdict.clean) == (1, False)


def test_an_end_that_was_not_told_is_found() -> None:
    verdict = judged(ENDED, MESSAGES[1:])
    assert (verdict.untold, verdict.clean) == (1, False)


def test_jobs_of_a_group_that_change_places_are_found() -> None:
    assert judged([PLAIN.note, SECOND.note, FIRST.note, FAILING.note], MESSAGES).out_of_order == 1
    # One that runs again after a kill is in its place.
    assert judged([PLAIN.note, FIRST.note, FIRST.note, *ENDED[2:]], MESSAGES).clean


def test_what_a_log_repeats_is_found() -> None:
    line = (
        "2026-01-01 00:00:0{} WARNING queue_run.broker.dispatch: Redis is full: raise its maxmemory"
    )
    output = "\n".join(line.format(number) for number in range(3))
    assert said_too_often([output], minutes=2) == []
    assert len(said_too_often([output], minutes=1)) == 1
    assert said_too_often([line, line, line], minutes=0) == []
    assert len(said_too_often(["Traceback (most recent call last):"], minutes=1)) == 1
