"""Dead letters of a test."""

from collections.abc import Iterator
from importlib import import_module

import pytest

from queue_run import dead_letters, queues
from queue_run.errors import UnknownDeadLetter
from queue_run.process import runtime
from queue_run.testing import Application
from tests.conftest import WriteApp

FRAGILE = """
from queue_run import Config

config = Config(retries=0, fifo={fifo})
broken = True
ran = []

def handler(job, *, job_id, attempt, sequence_number):
    if broken:
        raise LookupError(job)
    ran.append((job, job_id, attempt, sequence_number))
"""


@pytest.fixture
def fragile(write_app: WriteApp) -> Iterator[Application]:
    files = {
        "queues/mail.py": FRAGILE.format(fifo=False),
        "queues/account.py": FRAGILE.format(fifo=True),
    }
    with Application(write_app(files)) as app:
        yield app


def repair(module: str) -> None:
    vars(import_module(module))["broken"] = False


def fail_all(app: Application) -> None:
    while True:
        try:
            app.run_jobs()
        except LookupError:
            continue
        return


def test_jobs_that_have_failed_for_good_are_listed(fragile: Application) -> None:
    mail = queues.get("mail").push("a", params={"b": "c"}).value
    account = queues.get("account").group("ann").push("d").value
    fail_all(fragile)
    assert [each.job.id for each in dead_letters.newest().value] == [account, mail]
    assert [each.job.id for each in dead_letters.newest(limit=1).value] == [account]
    assert [each.job.id for each in dead_letters.newest("mail").value] == [mail]
    letter = dead_letters.get(mail).value
    assert (letter.job.payload, letter.job.facts.params) == ("a", {"b": "c"})
    assert (letter.attempts, letter.sequence, letter.fifo) == (1, None, False)
    letter = dead_letters.get(account).value
    assert (letter.job.facts.group, letter.sequence, letter.fifo) == ("ann", 1, True)


def test_a_retry_lets_a_job_run_again_under_its_id(fragile: Application) -> None:
    mail = queues.get("mail").push("a").value
    fail_all(fragile)
    assert not queues.cancel(mail)
    repair("queues.mail")
    dead_letters.retry(mail)
    assert [each.id for each in fragile.run_jobs()] == [mail]
    assert import_module("queues.mail").ran == [("a", mail, 1, None)]
    assert len(fragile.pushed) == 1
    with pytest.raises(UnknownDeadLetter):
        dead_letters.retry(mail)


def test_a_letter_is_retried_once(fragile: Application) -> None:
    mail = queues.get("mail").push("a").value
    fail_all(fragile)
    letter, kept = dead_letters.get(mail).value, runtime.current().dead_letters
    assert kept.revive(letter, letter.job)
    assert not kept.revive(letter, letter.job)


def test_a_retry_comes_last_in_its_group(fragile: Application) -> None:
    group = queues.get("account").group("ann")
    first = group.push("a").value
    fail_all(fragile)
    repair("queues.account")
    second = group.push("b").value
    dead_letters.retry(first)
    fragile.run_jobs()
    assert import_module("queues.account").ran == [("b", second, 1, 2), ("a", first, 1, 3)]


def test_a_letter_that_was_retried_can_be_cancelled(fragile: Application) -> None:
    mail = queues.get("mail").push("a").value
    fail_all(fragile)
    dead_letters.retry(mail)
    assert queues.cancel(mail)
    assert fragile.run_jobs() == []
    assert [type(each) for each in fragile.errors] == [LookupError]


def test_a_letter_is_dropped_once(fragile: Application) -> None:
    mail = queues.get("mail").push("a").value
    fail_all(fragile)
    dead_letters.drop(mail)
    with pytest.raises(UnknownDeadLetter):
        dead_letters.drop(mail)
    with pytest.raises(UnknownDeadLetter):
        dead_letters.get(mail)


def test_clear_forgets_letters(fragile: Application) -> None:
    queues.get("mail").push("a")
    fail_all(fragile)
    assert dead_letters.newest().value
    fragile.clear()
    assert dead_letters.newest().value == []
