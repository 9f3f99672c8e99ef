"""Validation and conversion of messages and payloads, by the annotations of handlers."""

import inspect
import re
import types
import typing
from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

from queue_run.errors import ClientError

#: Gives the converted value, or raises ClientError with the field that is wrong.
Validate: TypeAlias = Callable[[Any], Any]

#: Annotations that promise nothing to check.
_ANYTHING = (Any, object, None)


def annotation_of(function: Callable[..., Any], parameter: str) -> Any:
    """The annotation of a parameter; None without one.

    Raises:
        TypeError: when it names something that does not exist at run time.
    """
    annotations = getattr(function, "__annotations__", {})
    if parameter not in annotations:
        return None
    # Only this one: those of other parameters may name what is imported for type checkers alone.
    only = types.SimpleNamespace(__annotations__={parameter: annotations[parameter]})
    names = getattr(inspect.unwrap(function), "__globals__", {})
    try:
        return typing.get_type_hints(only, globalns=names, include_extras=True)[parameter]
    except NameError as error:
        raise TypeError(
            f"the annotation of {parameter} cannot be resolved: {error} "
            "(import it outside `if TYPE_CHECKING:`)"
        ) from None


def validator(annotation: Any, root: str = "data") -> Validate | None:
    """Make the function that checks values by an annotation; None if any value will do.

    Args:
        annotation: dataclass, TypedDict, msgspec.Struct, a union of tagged Structs, a pydantic
            model, or any type that msgspec knows.
        root: what an error calls the whole value.

    Raises:
        TypeError: when values cannot be checked against it.
    """
    if annotation in _ANYTHING:
        return None
    if callable(getattr(annotation, "model_validate", None)):
        return _pydantic(annotation, root)
    members = typing.get_args(annotation) if _is_union(annotation) else ()
    if bytes in members and str in members:
        return _text_or_binary(members, root)
    # Building a decoder checks the whole type now, not with the first message.
    msgspec.json.Decoder(annotation)

    def validate(value: Any) -> Any:
        try:
            return msgspec.convert(value, annotation, str_keys=True)
        except msgspec.ValidationError as error:
            raise ClientError(_in_words(str(error), root)) from None
        except RecursionError:
            raise ClientError(f"{root}: nested too deeply") from None

    return validate


def _text_or_binary(members: tuple[Any, ...], root: str) -> Validate:
    # msgspec sees two kinds of text in it, JSON's and base64; here they are two kinds of frames.
    without_bytes = tuple(each for each in members if each is not bytes)
    others = validator(typing.Union[without_bytes], root)  # noqa: UP007
    assert others is not None

    def validate(value: Any) -> Any:
        return value if isinstance(value, bytes) else others(value)

    return validate


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _pydantic(model: Any, root: str) -> Validate:
    # By its shape: pydantic is the application's choice, and never required.
    def validate(value: Any) -> Any:
        try:
            return model.model_validate(value)
        except ValueError as error:
            raise ClientError(f"{root}: {error}") from None

    return validate


def _in_words(error: str, root: str) -> str:
    """msgspec's "Expected `int`, got `str` - at `$.age`" with the field in front."""
    found = re.fullmatch(r"(.*?)(?: - at (`key` in )?`\$(.*)`)?", error, re.DOTALL)
    assert found is not None
    text, key, field = found.groups()
    return f"{root}{field or ''}: {'a key: ' if key else ''}{text[:1].lower()}{text[1:]}"


def payload_validator(handler: Callable[..., Any]) -> Validate | None:
    """Make the function that checks payloads by the annotation of a job handler's first parameter.

    Returns:
        None when the handler has no parameter, or its annotation allows every value.

    Raises:
        TypeError: when the annotation cannot be resolved or checked.
    """
    first = next(iter(inspect.signature(handler).parameters), None)
    return None if first is None else validator(annotation_of(handler, first), "payload")
