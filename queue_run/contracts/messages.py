"""Messages to clients: a value is encoded once, in the form in which every client receives it."""

import enum
import re
from typing import Any

import msgspec

from queue_run.contracts import json_values
from queue_run.errors import MessageTooLarge, NotEncodable


class Form(enum.IntEnum):
    """The form in which a message travels to the client."""

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
        NotEncodable: when the value is None, or has no JSON form.
        MessageTooLarge: when the message is larger than `limit`.
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
    """Encode a value as a JSON document.

    Subclasses of texts and numbers, scalars of numpy, keys that are not texts, and half characters
    are written as `json.dumps` would write them.

    Raises:
        NotEncodable: when the value has no JSON form, as NaN and Infinity.
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
    """Convert an application's user into JSON values.

    Half characters are replaced (U+FFFD), but not in the id: the code that checks the id refuses
    them.

    Raises:
        NotEncodable: when the user has no JSON form.
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
    """Decode a JSON document. Half characters are accepted, since JSON can hold them (`"\\ud83d"`).

    Raises:
        ValueError: when the data is not JSON, or is nested too deeply.
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
    """Convert a text of the application into one that each envelope can carry.

    A half character becomes a question mark. An error that names what a client has sent may hold
    one.
    """
    return str(text).encode(errors="replace").decode()


def utf8(text: str) -> bytes:
    """Encode a text in UTF-8.

    Raises:
        NotEncodable: when the text is not valid Unicode.
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
