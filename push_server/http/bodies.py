"""The payload of a job that is pushed by HTTP, read from the body of the request.

Pure: headers and bytes in, a payload out. What the payload means is the application's business; it
only must be one that reaches a worker unchanged.
"""

import codecs
from collections.abc import Iterable
from email.message import Message
from typing import Any
from urllib.parse import parse_qsl

from tornado.httputil import HTTPFile, HTTPInputError, parse_body_arguments

from queue_run.contracts.json_values import MAX_DEPTH as MAX_DEPTH
from queue_run.contracts.json_values import deeper_than
from queue_run.contracts.messages import TOO_DEEP, decode_json

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
TAKEN = f"send {JSON}, {FORM}, {MULTIPART} without files, or text/* in UTF-8"

#: Texts by name that one form may have.
MAX_FIELDS = 1000


class UnreadableBody(Exception):
    """A body that is no payload.

    Args:
        status: 400 for one that is malformed, 415 for one of a kind that is not taken.
        text: what is wrong with it, for the client.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(status, text)
        self.status = status
        self.text = text


def payload_of(content_type: str, body: bytes, *, content_encoding: str = "") -> Any:
    """The payload that a body holds: a JSON value, an object of texts for a form, or a text.

    Args:
        content_type: empty for a request without one, which may have no body.

    Raises:
        UnreadableBody: when it holds none.
    """
    if content_encoding.lower() not in ("", "identity"):
        raise UnreadableBody(415, f"the content encoding {content_encoding!r} is not taken")
    kind = content_type.partition(";")[0].strip().lower()
    if not kind and not body:
        return None
    if kind == JSON:
        return _json(body)
    if kind == FORM:
        return _form(body)
    if kind == MULTIPART:
        return _multipart(content_type, body)
    if kind.startswith("text/"):
        return _text(content_type, body)
    said = f"the content type {kind!r} is not taken" if kind else "a body needs a Content-Type"
    raise UnreadableBody(415, f"{said}: {TAKEN}")


def _json(body: bytes) -> Any:
    try:
        # Some programs begin every text with a mark of its encoding.
        value = decode_json(body.removeprefix(codecs.BOM_UTF8))
    except ValueError as error:
        text = _TOO_DEEP if str(error) == TOO_DEEP else f"the body is not JSON: {error}"
        raise UnreadableBody(400, text) from None
    if deeper_than(value, MAX_DEPTH):
        raise UnreadableBody(400, _TOO_DEEP)
    return value


_TOO_DEEP = f"the JSON is nested more than {MAX_DEPTH} levels deep"


def _form(body: bytes) -> dict[str, str]:
    try:
        fields = parse_qsl(
            body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS
        )
    except UnicodeDecodeError:
        raise UnreadableBody(400, "the form is not in UTF-8") from None
    except ValueError:
        raise UnreadableBody(400, f"the form has more than {MAX_FIELDS} fields") from None
    return dict(fields)


def _multipart(content_type: str, body: bytes) -> dict[str, str]:
    fields: dict[str, list[bytes]] = {}
    files: dict[str, list[HTTPFile]] = {}
    try:
        # Tornado takes the name of the type in lower case only.
        parameters = content_type.partition(";")[2]
        parse_body_arguments(f"{MULTIPART};{parameters}", body, fields, files)
        if files:
            raise UnreadableBody(
                415, "files are not taken: store the file elsewhere, and push where it is"
            )
        return _last_values(fields.items())
    except UnicodeDecodeError:
        raise UnreadableBody(400, "the form is not in UTF-8") from None
    except HTTPInputError as error:
        raise UnreadableBody(400, f"the form is malformed: {error}") from None


def _last_values(fields: Iterable[tuple[str, list[bytes]]]) -> dict[str, str]:
    return {name: values[-1].decode() for name, values in fields}


def _text(content_type: str, body: bytes) -> str:
    header = Message()
    header["Content-Type"] = content_type
    charset = header.get_content_charset("utf-8")
    if charset not in ("utf-8", "utf8", "us-ascii", "ascii"):
        raise UnreadableBody(415, f"the charset {charset!r} is not taken: send UTF-8")
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise UnreadableBody(400, "the text is not in UTF-8") from None
