"""The checker finds every fault that is put into a log, and none where there is none."""

from collections.abc import Callable

import pytest

from tests.faults.checker import (
    GAP,
    Event,
    Push,
    Received,
    Requests,
    as_received,
    judge,
    judge_requests,
    seal,
    still_due,
)
from tests.faults.planted import KINDS, plant

USERS = ("ann", "bob", "eve")


def pushes(count: int = 10) -> list[Push]:
    """Every third one is for all, the others for one user."""
    return [
        Push(n, USERS if n % 3 == 0 else (USERS[n % 3],), seal(content(n)), confirmed=True)
        for n in range(count)
    ]


def content(number: int) -> dict[str, object]:
    return {"n": number, "text": f"message {number}"}


def received(push: Push) -> Received:
    return as_received(content(push.number))


def complete(sent: list[Push]) -> dict[str, list[Event]]:
    return {user: [received(push) for push in sent if user in push.users] for user in USERS}


def test_a_complete_log_is_clean() -> None:
    sent = pushes()
    verdict = judge(sent, complete(sent))
    assert verdict.clean
    assert verdict.delivered == sum(len(push.users) for push in sent)
    assert str(verdict) == (
        "10 pushes, 18 deliveries: lost 0, doubled 0, out of order 0, misdelivered 0"
    )


@pytest.mark.parametrize(
    ("kind", "figure"),
    [
        ("dropped", "lost"),
        ("doubled", "doubled"),
        ("reordered", "out_of_order"),
        ("misdelivered", "misdelivered"),
    ],
)
def test_a_planted_fault_is_found_under_its_name(kind: str, figure: str) -> None:
    sent = pushes(30)
    logs = complete(sent)
    plant(kind, logs)
    verdict = judge(sent, logs)
    assert not verdict.clean
    figures = {
        name: getattr(verdict, name) for name in ("lost", "doubled", "out_of_order", "misdelivered")
    }
    assert figures == {name: int(name == figure) for name in figures}
    assert verdict.examples[0].startswith(figure)


def test_every_kind_of_planted_fault_is_tested() -> None:
    assert set(KINDS) == {"dropped", "doubled", "reordered", "misdelivered"}


def test_an_unknown_fault_cannot_be_planted() -> None:
    with pytest.raises(ValueError, match="no such fault"):
        plant("burnt", complete(pushes(30)))


def test_an_altered_message_is_misdelivered() -> None:
    sent = pushes()
    logs = complete(sent)
    logs["ann"][0] = as_received({**content(0), "text": "another"})
    verdict = judge(sent, logs)
    assert verdict.misdelivered == 1
    assert verdict.lost == 1


@pytest.mark.parametrize("alien", [content(99), {"n": "1"}, {}, "text", b"bytes", None, [1]])
def test_what_was_never_sent_is_misdelivered(alien: object) -> None:
    sent = pushes()
    logs = complete(sent)
    logs["ann"].append(as_received(alien))
    assert judge(sent, logs).misdelivered == 1


def test_a_gap_excuses_what_is_missing_at_its_place() -> None:
    sent = pushes()
    logs = complete(sent)
    logs["ann"][1:3] = [GAP]
    verdict = judge(sent, logs)
    assert verdict.clean
    assert (verdict.gaps, verdict.excused) == (1, 2)


def test_a_gap_excuses_nothing_elsewhere() -> None:
    sent = pushes()
    logs = complete(sent)
    del logs["ann"][3]
    logs["ann"].insert(1, GAP)
    verdict = judge(sent, logs)
    assert verdict.lost == 1


def test_a_gap_at_the_end_excuses_what_follows() -> None:
    sent = pushes()
    logs = complete(sent)
    logs["ann"][2:] = [GAP]
    verdict = judge(sent, logs)
    assert verdict.clean
    assert verdict.excused == 2


def test_two_gaps_without_a_message_between_are_one() -> None:
    sent = pushes()
    logs = complete(sent)
    logs["ann"][1:3] = [GAP, GAP]
    assert judge(sent, logs).clean


def test_an_unconfirmed_push_may_be_missing_but_not_come_twice() -> None:
    sent = pushes()
    sent[3].confirmed = False
    logs = complete(sent)
    logs["ann"].remove(received(sent[3]))
    assert judge(sent, logs).clean
    logs["bob"].append(received(sent[3]))
    assert judge(sent, logs).doubled == 1


def test_what_is_still_due_can_be_waited_for() -> None:
    sent = pushes()
    logs = complete(sent)
    missing = logs["bob"].pop()
    assert still_due(sent, logs) == 1
    logs["bob"].append(missing)
    assert still_due(sent, logs) == 0


def asked() -> Requests:
    requests = Requests()
    for number in range(3):
        requests.asked("ann", number)
    return requests


def all_answered(requests: Requests) -> None:
    for number in range(3):
        requests.answered("ann", number, {"number": number, "user": "ann"})


def test_requests_with_one_outcome_each_are_clean() -> None:
    requests = asked()
    all_answered(requests)
    verdict = judge_requests(requests, {"ann 1": 1})
    assert verdict.clean
    assert verdict.ends == {"reply": 3}


def a_second_outcome(requests: Requests) -> None:
    requests.ended("ann", 1, "error")


def no_outcome(requests: Requests) -> None:
    requests.outcomes["ann", 1].clear()


def a_foreign_reply(requests: Requests) -> None:
    requests.outcomes["ann", 1].clear()
    requests.answered("ann", 1, {"number": 2, "user": "ann"})


def one_told_again(requests: Requests) -> None:
    requests.told_again += 1


@pytest.mark.parametrize("fault", [a_second_outcome, no_outcome, a_foreign_reply, one_told_again])
def test_a_planted_fault_of_a_request_is_found(fault: Callable[[Requests], None]) -> None:
    requests = asked()
    all_answered(requests)
    fault(requests)
    assert not judge_requests(requests, {}).clean


def test_a_handler_that_ran_again_is_found() -> None:
    requests = asked()
    all_answered(requests)
    verdict = judge_requests(requests, {"ann 1": 2, "ann 2": 1})
    assert verdict.run_again == 1
    assert not verdict.clean
