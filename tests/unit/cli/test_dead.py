"""How a dead letter is shown, whatever is in it."""

from datetime import datetime

from queue_run.cli.dead import described, facts
from queue_run.jobs.stored import DeadLetter, JobFacts, StoredJob

NOW = datetime(2026, 1, 7, 14, 5, 33).timestamp()


def letter() -> DeadLetter:
    facts = JobFacts(
        queued_at=NOW - 60, user={"id": "ann"}, params={"a": "b"}, group="g\x1b[2J", revived=2
    )
    return DeadLetter(
        job=StoredJob(id="1-2", queue="mail", payload={"to": ["\x1b]0;x\x07"]}, facts=facts),
        attempts=4,
        failed_at=NOW - 5,
        error="ValueError: no\n\x1b[31mmail",
        traceback='Traceback:\n\tFile "mail.py"\nValueError: no\n\x1b[31mmail\n',
        sequence=7,
        fifo=True,
    )


def test_people_are_shown_all_of_it_and_what_they_can_do() -> None:
    assert described(letter(), NOW).splitlines() == [
        "id        1-2",
        "queue     mail",
        'user      {"id": "ann"}',
        "group     g\\u001b[2J",
        'params    {"a": "b"}',
        "queued    1 minute ago (14:04:33)",
        "failed    5 seconds ago (14:05:28)",
        "attempts  4, since it was retried from here 2 times",
        "error     ValueError: no \\u001b[31mmail",
        "",
        "payload",
        "  {",
        '    "to": [',
        '      "\\u001b]0;x\\u0007"',
        "    ]",
        "  }",
        "",
        "traceback",
        "  Traceback:",
        '      File "mail.py"',
        "  ValueError: no",
        "  \\u001b[31mmail",
        "",
        "Retry: queue-run queue dead retry 1-2",
        "Drop:  queue-run queue dead drop 1-2",
    ]


def test_what_is_not_known_of_a_job_is_left_out() -> None:
    bare = DeadLetter(
        job=StoredJob(id="1-2", queue="mail", payload=None),
        attempts=1,
        failed_at=NOW,
        error="WorkerLost: gone",
    )
    shown = described(bare, NOW)
    assert "user      nobody's" in shown
    assert "queued    at an unknown time" in shown
    assert "attempts  1\n" in shown
    assert "payload\n  null\n" in shown
    for name in ("group", "params", "traceback"):
        assert name not in shown


def test_scripts_are_given_all_of_it() -> None:
    found = facts(letter())
    assert found == {
        "id": "1-2",
        "queue": "mail",
        "payload": {"to": ["\x1b]0;x\x07"]},
        "user": {"id": "ann"},
        "group": "g\x1b[2J",
        "sequence": 7,
        "params": {"a": "b"},
        "queued_at": NOW - 60,
        "failed_at": NOW - 5,
        "attempts": 4,
        "retried": 2,
        "error": letter().error,
        "traceback": letter().traceback,
    }
