"""JSON beyond the quick path: what msgspec refuses, or says otherwise than `json.dumps` would.

Pure. `queue_run.contracts.messages` comes here only when msgspec has failed, or may have hidden
something: it writes null for NaN, takes no half characters (JSON escapes them), and knows no
subclasses.
"""

import dataclasses
import json
import math
import re
from typing import Any

import msgspec

#: Arrays and objects within each other that a job's payload may have. What is deeper is read by
#: some parsers and not by others.
MAX_DEPTH = 100
#: A surrogate that may stand alone: half a character, as a browser sends an emoji that was cut.
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")
#: A key of an object that can follow a dot in a path.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class NoJson(ValueError):
    """A value that JSON has no form for.

    Args:
        reason: why.
        path: where in the whole value it stands, like `$.items[3].price`.
    """

    def __init__(self, reason: str, path: str) -> None:
        super().__init__(f"{reason} - at `{path}`" if path != "$" else reason)


class NoNumber(NoJson):
    """NaN or an infinity."""


def may_hold_half_characters(text: str) -> bool:
    """True if JSON has escapes that msgspec refuses where they stand alone."""
    return _SURROGATE_ESCAPE.search(text) is not None


def loads(text: str) -> Any:
    """Decode a JSON document; half characters are accepted, NaN and Infinity are not.

    Raises:
        ValueError: when the text is not JSON.
        RecursionError: when the document is nested too deeply.
    """
    return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite_float)


def dumps(value: Any) -> bytes:
    """A plain value (see `plain`) as a JSON document; half characters are escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode()


def whole(document: bytes) -> bytes:
    """Replace half characters in a JSON document (U+FFFD), for readers that cannot take them."""
    text = document.decode()
    if not may_hold_half_characters(text):
        return document
    plainly = json.dumps(loads(text), ensure_ascii=False, separators=(",", ":"))
    return _SURROGATE.sub("\ufffd", plainly).encode()


def plain(value: Any, path: str = "$") -> Any:
    """Convert a value into dicts, lists, texts, numbers, truth values and None alone.

    Raises:
        NoJson: for a value that has no JSON form, with the place where it stands.
        RecursionError: for a value that is nested too deeply, or contains itself.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str) and not _is_enum(value):
        return str(value)
    if isinstance(value, int) and not _is_enum(value):
        return int(value)
    if isinstance(value, float) and not _is_enum(value):
        return _finite(float(value), path)
    if isinstance(value, dict):
        return {_key(key, path): plain(each, _below(path, key)) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset) and not hasattr(value, "_asdict"):
        return [plain(each, f"{path}[{number}]") for number, each in enumerate(value)]
    return _other(value, path)


def deeper_than(value: Any, levels: int) -> bool:
    """True if arrays and objects are nested more than `levels` deep."""
    level = [value]
    for _ in range(levels + 1):
        below: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                below.extend(each.values())
            elif isinstance(each, list):
                below.extend(each)
        if not below:
            return False
        level = below
    return True


def number_of(value: Any) -> Any:
    """The number, text or truth value that an object of another class stands for: a subclass of
    one of Python's, or a scalar of numpy; NotImplemented for anything else."""
    for kind in (str, bool, int, float):
        if isinstance(value, kind):
            return kind(value)
    # By its shape: numpy is the application's choice, and never required.
    if getattr(value, "shape", None) == () and callable(getattr(value, "item", None)):
        found = value.item()
        if isinstance(found, bool | int | float | str):
            return found
    return NotImplemented


def _other(value: Any, path: str) -> Any:
    """Convert a value that is not one of JSON's own types."""
    found = number_of(value)
    if found is not NotImplemented and not _is_enum(value):
        return plain(found, path)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
        return plain(fields, path)
    if isinstance(value, msgspec.Raw):
        return plain(_dumped(value), path)
    try:
        builtin = msgspec.to_builtins(value, enc_hook=_dumped)
    except (TypeError, ValueError, OverflowError) as error:
        raise NoJson(str(error), path) from None
    if type(builtin) is type(value):
        raise NoJson(_no_form(value), path)
    return plain(builtin, path)


def _dumped(value: Any) -> Any:
    """Convert a value inside of a struct, or a pydantic model, into one of JSON's types."""
    found = number_of(value)
    if found is not NotImplemented:
        return found
    if isinstance(value, msgspec.Raw):
        return loads(bytes(value).decode())
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json")
    dump = getattr(value, "model_dump_json", None)
    if callable(dump):
        return loads(dump())
    raise TypeError(_no_form(value))


def _no_form(value: Any) -> str:
    return f"objects of type {type(value).__name__} have no JSON form"


def _finite(value: float, path: str) -> float:
    if not math.isfinite(value):
        raise NoNumber(f"{value} is no number of JSON", path)
    return value


def _key(key: Any, path: str) -> str:
    """A key of an object, as `json.dumps` writes it."""
    if isinstance(key, str) and not _is_enum(key):
        return str(key)
    if key is None or isinstance(key, bool):
        return json.dumps(key)
    try:
        found = plain(key, _below(path, key))
    except NoNumber:
        raise
    except NoJson:
        found = None
    if isinstance(found, bool | int | float):
        return json.dumps(found)
    if not isinstance(found, str):
        raise NoJson(f"{type(key).__name__} is no key of a JSON object", _below(path, key))
    return found


def _below(path: str, key: Any) -> str:
    text = str(key)[:100]
    return f"{path}.{text}" if _NAME.fullmatch(text) else f"{path}[{text!r}]"


def _is_enum(value: Any) -> bool:
    # What it means is its value, which msgspec gives.
    return hasattr(type(value), "__members__")


def _finite_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"JSON is malformed: {text[:20]} is out of range")
    return number


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"JSON is malformed: {name} is no number of JSON")
