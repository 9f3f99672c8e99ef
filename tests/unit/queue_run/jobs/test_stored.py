"""Jobs and dead letters as they lie in Redis."""

from typing import Any

import msgspec
import pytest

from queue_run.errors import InvalidEnvelope
from queue_run.jobs.stored import (
    VERSION,
    DeadLetter,
    JobFacts,
    StoredJob,
    decode_dead_letter,
    decode_job,
    encode,
)

FACTS = JobFacts(queued_at=1.5, user={"id": "ann"}, params={"a": "b"}, group="g", revived=2)
JOB = StoredJob(id="a-job", queue="mail", payload={"n": 1}, facts=FACTS)
LETTER = DeadLetter(job=JOB, attempts=4, failed_at=2.5, error="ValueError: no", sequence=7)


def test_a_job_has_this_form_in_redis() -> None:
    data = encode(JOB)
    assert data[0] == VERSION
    assert msgspec.msgpack.decode(data[1:]) == {
        "id": "a-job",
        "queue": "mail",
        "payload": {"n": 1},
        "facts": {
            "queued_at": 1.5,
            "user": {"id": "ann"},
            "params": {"a": "b"},
            "group": "g",
            "revived": 2,
        },
    }


def test_what_is_not_said_takes_no_room() -> None:
    bare = encode(StoredJob(id="a", queue="q", payload=None))
    assert msgspec.msgpack.decode(bare[1:]) == {"id": "a", "queue": "q", "payload": None}


def test_what_was_written_comes_back() -> None:
    assert decode_job(encode(JOB)) == JOB
    assert decode_dead_letter(encode(LETTER)) == LETTER


@pytest.mark.parametrize(
    "payload",
    ["", "ü", b"", b"\x00\xff", None, [], {}, 2**63 - 1, 2**64 - 1, -(2**63), 1e300],
    ids=repr,
)
def test_a_payload_keeps_its_type(payload: object) -> None:
    found = decode_job(encode(StoredJob(id="a", queue="q", payload=payload))).payload
    assert found == payload
    assert type(found) is type(payload)


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**100])
def test_integers_of_any_size_come_back(number: int) -> None:
    # JSON has them, so a payload may, and so may a user.
    job = StoredJob(
        id="a", queue="q", payload={"a": [number, b"raw", True]}, facts=JobFacts(user=number)
    )
    assert decode_job(encode(job)) == job
    letter = DeadLetter(job=job, attempts=1, failed_at=0.0, error="no")
    assert decode_dead_letter(encode(letter)) == letter


def test_what_is_no_unicode_does_not_keep_a_job_from_its_end() -> None:
    # A file name that Python could not decode, in an error or from a plain Celery task.
    job = StoredJob(id="a", queue="q", payload={"\udcff": ["a\udcff", 2**64]})
    letter = DeadLetter(job=job, attempts=1, failed_at=0.0, error="no \udcff")
    found = decode_dead_letter(encode(letter))
    assert found.error == "no ?"
    assert found.job.payload == job.payload


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x02" + encode(JOB)[1:],
        encode(JOB)[:-1],
        encode(JOB)[1:],
        bytes([VERSION]) + msgspec.msgpack.encode({"id": "a"}),
        bytes([VERSION]) + msgspec.msgpack.encode({"id": 7, "queue": "q", "payload": 1}),
        bytes([VERSION]) + msgspec.msgpack.encode([1]),
        bytes([VERSION]) + b"\x91" * 5000,
        bytes([VERSION]) + encode(JOB)[1:].replace(b"a-job", b"\xff\xff\xff\xff\xff"),
        bytes([VERSION])
        + msgspec.msgpack.encode(
            {"id": "a", "queue": "q", "payload": msgspec.msgpack.Ext(1, b"not digits")}
        ),
    ],
    ids=lambda data: repr(data[:12]),
)
def test_bytes_that_are_no_envelope_are_refused(data: bytes) -> None:
    for decode in (decode_job, decode_dead_letter):
        with pytest.raises(InvalidEnvelope):
            decode(data)


def test_fields_of_a_later_release_are_passed_over() -> None:
    fields: dict[str, Any] = {"id": "a", "queue": "q", "payload": 1, "priority": 9}
    data = bytes([VERSION]) + msgspec.msgpack.encode(fields)
    assert decode_job(data) == StoredJob(id="a", queue="q", payload=1)


def test_a_kind_of_value_from_elsewhere_is_kept_as_it_is() -> None:
    extension = msgspec.msgpack.Ext(9, b"x")
    job = StoredJob(id="a", queue="q", payload=extension)
    assert decode_job(encode(job)).payload == extension
