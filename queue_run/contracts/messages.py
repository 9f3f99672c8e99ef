"""What clients get: a value is encoded once, in the form in which every client receives it."""

import enum
import re
from typing import Any

import msgspec

from queue_run.contracts import json_values
from queue_run.errors import MessageTooLarge, NotEncodable


class Form(enum.IntEnum):
    """How a message travels to the client."""

    JSON = 0  # a text frame that holds a JSON document
    TEXT = 1  # any other text frame
    BINARY = 2  # a binary frame


class Message(msgspec.Struct, frozen=True, array_like=True):
    """A message in its client form."""

    form: Form
    data: bytes

    @property
    def is_binary(self) -> bool:
        return self.form is Form.BINARY

    def __str__(self) -> str:
        if self.is_binary:
            return f"{len(self.data)} bytes"
        text = self.data[:200].decode(errors="replace")
        return text if len(self.data) <= 200 else f"{text}… ({len(self.data):,} bytes)"


def encode(value: object, *, limit: int) -> Message:
    """Encode what a handler returned or `send` was given.

    Args:
        value: text becomes a text frame, bytes a binary frame, anything else JSON
            (dataclasses, datetimes, UUIDs, msgspec Structs and pydantic models included).
        limit: the largest message in bytes.

    Raises:
        NotEncodable: when the value has no JSON form; None is no message.
        MessageTooLarge: beyond the limit.
    """
    if isinstance(value, str):
        message = Message(Form.TEXT, utf8(value))
    elif isinstance(value, bytes | bytearray | memoryview):
        message = Message(Form.BINARY, bytes(value))
    elif value is None:
        raise NotEncodable(value, "None is no message")
    else:
        message = Message(Form.JSON, encode_json(value))
    if len(message.data) > limit:
        raise MessageTooLarge(len(message.data), limit)
    return message


def encode_json(value: object) -> bytes:
    """The value as a JSON document. Subclasses of texts and numbers, scalars of numpy, keys that
    are no texts, and half characters are written as `json.dumps` would.

    Raises:
        NotEncodable: when it has none; NaN and Infinity have none.
    """
    try:
        encoded = _json.encode(value)
        # Of a None, or of NaN; keys of these are written by their names.
        if b"null" not in encoded and b'nan":' not in encoded and b'inf":' not in encoded:
            return encoded
    except (TypeError, ValueError, OverflowError, RecursionError):
        return _encode_slowly(value)
    # Neither may travel in silence.
    _check_numbers(value)
    return encoded


def user_facts(user: object) -> Any:
    """What an application says of a user, as JSON has it. Half characters are replaced (U+FFFD),
    but in the id: who checks that is to refuse them.

    Raises:
        NotEncodable: when it has no JSON form.
    """
    encoded = encode_json(user)
    document = json_values.whole(encoded)
    facts = msgspec.json.decode(document)
    if document is not encoded and isinstance(facts, dict) and "id" in facts:
        facts["id"] = decode_json(encoded)["id"]
    return facts


def _encode_slowly(value: object) -> bytes:
    try:
        return json_values.dumps(json_values.plain(value))
    except RecursionError:
        raise NotEncodable(value, "it is nested too deeply, or contains itself") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise NotEncodable(value, str(error)) from None


def _check_numbers(value: object) -> None:
    try:
        # msgpack keeps them as they are, and is written and searched in no time.
        if not _NO_NUMBER.search(_packed.encode(value)):
            return
    except (TypeError, ValueError, OverflowError, RecursionError):
        # Of what only JSON has a form for.
        pass
    _check_slowly(value)


def _check_slowly(value: object) -> None:
    try:
        json_values.plain(value)
    except json_values.NoNumber as error:
        raise NotEncodable(value, str(error)) from None
    except (TypeError, ValueError, OverflowError, RecursionError):
        # It has been written, and so can be.
        return


def decode_json(data: str | bytes) -> Any:
    """What a JSON document means. Half characters are taken: JSON can say them (`"\\ud83d"`).

    Raises:
        ValueError: for what is no JSON, or nested too deeply.
    """
    try:
        return msgspec.json.decode(data)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    except ValueError as error:
        try:
            text = data.decode() if isinstance(data, bytes) else data
            if json_values.may_hold_half_characters(text):
                return json_values.loads(text)
        except RecursionError:
            raise ValueError(TOO_DEEP) from None
        raise error


#: What is wrong with JSON that no parser takes.
TOO_DEEP = "the JSON is nested too deeply"


def error_message(text: str) -> Message:
    """`{"error": text}`, which is how a plain client learns that its request failed."""
    return Message(Form.JSON, _json.encode({"error": text}))


def unicode_text(text: object) -> str:
    """What an application says, as text that each envelope can carry: a half character, as of an
    error that names what a client sent, becomes a question mark."""
    return str(text).encode(errors="replace").decode()


def utf8(text: str) -> bytes:
    """
    Raises:
        NotEncodable: for what is no Unicode.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise NotEncodable(text, f"it is not valid Unicode: {error.reason}") from None


def _encode_other(value: Any) -> Any:
    # Of other classes: what `push` gives, Django's safe strings, numbers of numpy.
    found = json_values.number_of(value)
    if found is not NotImplemented:
        return found
    # Pydantic models by their shape: the package is never required.
    dump = getattr(value, "model_dump_json", None)
    if callable(dump):
        return msgspec.Raw(dump().encode())
    raise TypeError(f"objects of type {type(value).__name__} have no JSON form")


def _pack_other(value: Any) -> Any:
    found = json_values.number_of(value)
    if found is not NotImplemented:
        return found
    dump = getattr(value, "model_dump", None)
    return dump() if callable(dump) else None


_json = msgspec.json.Encoder(enc_hook=_encode_other)
_packed = msgspec.msgpack.Encoder(enc_hook=_pack_other)
#: A float of msgpack whose exponent is that of NaN and the infinities (IEEE 754).
_NO_NUMBER = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")
