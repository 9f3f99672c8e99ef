"""What clients get: a value is encoded once, in the form in which every client receives it."""

import enum
from typing import Any

import msgspec

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
    """The value as a JSON document.

    Raises:
        NotEncodable: when it has none.
    """
    try:
        return _json.encode(value)
    except RecursionError:
        raise NotEncodable(value, "it is nested too deeply, or contains itself") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise NotEncodable(value, str(error)) from None


def error_message(text: str) -> Message:
    """`{"error": text}`, which is how a plain client learns that its request failed."""
    return Message(Form.JSON, _json.encode({"error": text}))


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
    # Texts of other classes: what `push` gives, Django's safe strings.
    if isinstance(value, str):
        return str(value)
    # Pydantic models by their shape: the package is never required.
    dump = getattr(value, "model_dump_json", None)
    if callable(dump):
        return msgspec.Raw(dump().encode())
    raise TypeError(f"objects of type {type(value).__name__} have no JSON form")


_json = msgspec.json.Encoder(enc_hook=_encode_other)
