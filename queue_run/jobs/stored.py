"""A job on its way, and one that has failed for good.

Pure: frozen structs, and their bytes in Redis.
"""

import json
from typing import Any, TypeVar

import msgspec

from queue_run.contracts import json_values
from queue_run.errors import InvalidEnvelope

VERSION = 1
#: Kind of msgpack extension: an integer that msgpack has no form for, in digits.
BIG_INTEGER = 1
#: The same of a payload with half characters, which JSON has and UTF-8 has not: as JSON.
DOCUMENT = 2
_VERSION_BYTE = bytes([VERSION])

#: Header of the Celery message that carries a job's facts.
HEADER = "queue_run"


class JobFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The facts that travel with a job beside its payload."""

    #: Unix time, by Redis' clock; None for a job that was not pushed through `queue_run.queues`.
    queued_at: float | None = None
    #: The user whose request or job pushed it.
    user: Any = None
    #: Given beside the payload; for a job that came by HTTP, the query of its URL.
    params: dict[str, str] = {}
    #: FIFO queues: jobs of one group run in order, one at a time.
    group: str | None = None
    #: How often it was taken back from the dead letters.
    revived: int = 0


class StoredJob(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A job: where it goes, and what it carries."""

    id: str
    queue: str
    #: JSON value, text or bytes.
    payload: Any
    facts: JobFacts = JobFacts()


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A job that has failed for good, kept until it is retried or dropped."""

    job: StoredJob
    #: Attempts that were made.
    attempts: int
    #: Unix time, by Redis' clock.
    failed_at: float
    #: The last attempt's error: its type and text.
    error: str
    #: Empty where there is none: an invalid payload, a lost worker.
    traceback: str = ""
    #: Position within a FIFO queue.
    sequence: int | None = None
    #: Whether its queue is a FIFO queue: a retry puts it at the end of its group.
    fifo: bool = False


T = TypeVar("T")


def encode(value: StoredJob | DeadLetter) -> bytes:
    """The value as it lies in Redis."""
    try:
        return _VERSION_BYTE + _encoder.encode(value)
    except (OverflowError, UnicodeEncodeError):
        return _VERSION_BYTE + _encoder.encode(_in_msgpack(value))


def decode_job(data: bytes) -> StoredJob:
    """
    Raises:
        InvalidEnvelope: for another version, or fields that do not fit.
    """
    return _decode(data, _job_decoder)


def decode_dead_letter(data: bytes) -> DeadLetter:
    """
    Raises:
        InvalidEnvelope: for another version, or fields that do not fit.
    """
    return _decode(data, _dead_decoder)


def _in_msgpack(value: Any) -> Any:
    """Convert a value of JSON, or an error's text, into values that msgpack can encode.

    A job must come to its end also with integers beyond 64 bits, and with invalid Unicode.
    """
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, int) and value.bit_length() > 63:
        return msgspec.msgpack.Ext(BIG_INTEGER, str(value).encode())
    if isinstance(value, StoredJob):
        fields = msgspec.structs.asdict(msgspec.structs.replace(value, payload=None))
        return {**_in_msgpack(fields), "payload": _payload_in_msgpack(value.payload)}
    if isinstance(value, msgspec.Struct):
        return _in_msgpack(msgspec.structs.asdict(value))
    if isinstance(value, dict):
        return {_in_msgpack(name): _in_msgpack(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_in_msgpack(each) for each in value]
    return value


def _payload_in_msgpack(payload: Any) -> Any:
    """Convert a payload for msgpack, in such a way that decoding gives it back as it was."""
    try:
        json.dumps(payload, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return msgspec.msgpack.Ext(DOCUMENT, json_values.dumps(payload))
    except (TypeError, ValueError, RecursionError):
        # A plain Celery task may carry more than JSON has.
        pass
    return _in_msgpack(payload)


def _extension(kind: int, data: memoryview) -> object:
    if kind == DOCUMENT:
        return json_values.loads(bytes(data).decode())
    return int(bytes(data)) if kind == BIG_INTEGER else msgspec.msgpack.Ext(kind, bytes(data))


def _decode(data: bytes, decoder: "msgspec.msgpack.Decoder[T]") -> T:
    if data[:1] != _VERSION_BYTE:
        raise InvalidEnvelope(data, f"version {data[:1]!r} where {VERSION} is spoken")
    try:
        return decoder.decode(memoryview(data)[1:])
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise InvalidEnvelope(data, str(error)) from None


_encoder = msgspec.msgpack.Encoder()
_job_decoder = msgspec.msgpack.Decoder(StoredJob, ext_hook=_extension)
_dead_decoder = msgspec.msgpack.Decoder(DeadLetter, ext_hook=_extension)
