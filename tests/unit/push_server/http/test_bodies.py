"""Payloads from the bodies of HTTP requests."""

from typing import Any

import pytest

from push_server.http.bodies import MAX_DEPTH, MAX_FIELDS, UnreadableBody, payload_of


def test_json_may_begin_with_the_mark_of_its_encoding() -> None:
    assert payload_of("application/json", b"\xef\xbb\xbf{}") == {}


def test_json_may_hold_half_characters() -> None:
    assert payload_of("application/json", b'{"text":"\\ud83d"}') == {"text": "\ud83d"}
    status, text = refused("application/json", b'["\\ud83d", NaN]')
    assert (status, text.partition(":")[0]) == (400, "the body is not JSON")


BOUNDARY = "multipart/form-data; boundary=xx"


def refused(content_type: str, body: bytes, **options: Any) -> tuple[int, str]:
    """Status and text with which a body is refused."""
    with pytest.raises(UnreadableBody) as caught:
        payload_of(content_type, body, **options)
    return caught.value.status, caught.value.text


def part(disposition: str, value: bytes) -> bytes:
    head = f"--xx\r\nContent-Disposition: form-data; {disposition}\r\n\r\n"
    return head.encode() + value + b"\r\n"


# JSON


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"to": "ann", "n": [1, 2.5, null, true]}', {"to": "ann", "n": [1, 2.5, None, True]}),
        (b'"text"', "text"),
        (b"7", 7),
        (b"null", None),
        ('"grüße"'.encode(), "grüße"),
        (
            b'{"n": 18446744073709551615, "m": -9223372036854775808}',
            {"n": 2**64 - 1, "m": -(2**63)},
        ),
    ],
)
def test_json_is_decoded(body: bytes, value: Any) -> None:
    assert payload_of("application/json", body) == value


@pytest.mark.parametrize(
    "content_type",
    ["Application/JSON", "application/json; charset=utf-8", " application/json ;charset=UTF-8"],
)
def test_the_content_type_is_read_without_its_case_and_parameters(content_type: str) -> None:
    assert payload_of(content_type, b"[1]") == [1]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"{'a': 1}", b"1 2", b"NaN", b'"\xff"', rb'["\ud800", 1e999]', b"1e999"]
)
def test_what_is_no_json_is_malformed(body: bytes) -> None:
    status, text = refused("application/json", body)
    assert status == 400
    assert text.startswith("the body is not JSON: ")


def test_json_may_be_nested_up_to_a_limit() -> None:
    deepest = b"[" * MAX_DEPTH + b"1" + b"]" * MAX_DEPTH
    assert payload_of("application/json", deepest) is not None
    too_deep = (400, f"the JSON is nested more than {MAX_DEPTH} levels deep")
    assert refused("application/json", b"[" + deepest + b"]") == too_deep
    assert refused("application/json", b'{"a":' * 101 + b"1" + b"}" * 101) == too_deep
    # Deeper than the decoder itself can follow.
    assert refused("application/json", b"[" * 20_000 + b"]" * 20_000) == too_deep


# Forms


def test_a_form_is_an_object_of_texts() -> None:
    body = b"to=ann&text=two+words%21&empty=&city=M%C3%BCnchen"
    assert payload_of("application/x-www-form-urlencoded", body) == {
        "to": "ann",
        "text": "two words!",
        "empty": "",
        "city": "München",
    }


def test_of_a_name_that_is_repeated_the_last_value_counts() -> None:
    assert payload_of("application/x-www-form-urlencoded", b"a=1&b=2&a=3") == {"a": "3", "b": "2"}
    body = part('name="a"', b"1") + part('name="a"', b"3") + b"--xx--\r\n"
    assert payload_of(BOUNDARY, body) == {"a": "3"}


def test_an_empty_form_is_an_empty_object() -> None:
    assert payload_of("application/x-www-form-urlencoded", b"") == {}


@pytest.mark.parametrize("body", [b"a=%ff", b"a=\xff"])
def test_a_form_in_another_charset_is_malformed(body: bytes) -> None:
    expected = (400, "the form is not in UTF-8")
    assert refused("application/x-www-form-urlencoded", body) == expected


def test_a_form_has_only_so_many_fields() -> None:
    kind = "application/x-www-form-urlencoded"
    assert len(payload_of(kind, b"&".join(b"%d=" % n for n in range(MAX_FIELDS)))) == MAX_FIELDS
    assert refused(kind, b"a=&" * MAX_FIELDS + b"a=") == (
        400,
        f"the form has more than {MAX_FIELDS} fields",
    )


def test_a_multipart_form_is_an_object_of_texts() -> None:
    body = part('name="to"', b"ann") + part('name="text"', "grüße".encode()) + b"--xx--\r\n"
    assert payload_of(BOUNDARY, body) == {"to": "ann", "text": "grüße"}
    assert payload_of(BOUNDARY.replace("form", "Form"), body)["to"] == "ann"


def test_files_are_refused_with_what_to_do_instead() -> None:
    body = part('name="f"; filename="a.txt"', b"content") + b"--xx--\r\n"
    status, text = refused(BOUNDARY, body)
    assert status == 415
    assert text == "files are not taken: store the file elsewhere, and push where it is"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (BOUNDARY, b"nothing of the kind"),
        ("multipart/form-data", b"--xx--\r\n"),
        (BOUNDARY, part('nom="a"', b"1") + b"--xx--\r\n"),
    ],
)
def test_a_malformed_multipart_form_is_told_so(content_type: str, body: bytes) -> None:
    status, text = refused(content_type, body)
    assert status == 400
    assert text.startswith("the form is malformed: ")


def test_a_multipart_form_in_another_charset_is_malformed() -> None:
    body = part('name="a"', b"\xff") + b"--xx--\r\n"
    assert refused(BOUNDARY, body) == (400, "the form is not in UTF-8")


# Texts


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "text/csv; charset=UTF-8",
        'text/html; charset="utf8"',
        "text/plain; charset=us-ascii",
    ],
)
def test_a_text_is_a_text(content_type: str) -> None:
    assert payload_of(content_type, b"[1]\r\n") == "[1]\r\n"


def test_a_text_is_read_as_utf8() -> None:
    assert payload_of("text/plain", "grüße".encode()) == "grüße"
    assert refused("text/plain", b"\xff") == (400, "the text is not in UTF-8")


def test_a_text_in_another_charset_is_not_taken() -> None:
    status, text = refused("text/plain; charset=iso-8859-1", b"abc")
    assert (status, text) == (415, "the charset 'iso-8859-1' is not taken: send UTF-8")


def test_an_empty_text_is_one() -> None:
    assert payload_of("text/plain", b"") == ""


# Neither


def test_without_a_body_and_its_type_there_is_no_payload() -> None:
    assert payload_of("", b"") is None


def test_a_body_without_a_type_is_not_guessed_at() -> None:
    status, text = refused("", b"{}")
    assert status == 415
    assert text.startswith("a body needs a Content-Type: send application/json, ")


@pytest.mark.parametrize(
    "content_type", ["application/octet-stream", "application/jsonp", "image/png", "nonsense", ";"]
)
def test_another_type_is_refused_with_those_that_are_taken(content_type: str) -> None:
    status, text = refused(content_type, b"{}")
    assert status == 415
    for kind in ("application/json", "x-www-form-urlencoded", "multipart/form-data", "text/*"):
        assert kind in text


def test_a_compressed_body_is_not_taken() -> None:
    status, text = refused("application/json", b"\x1f\x8b", content_encoding="gzip")
    assert (status, text) == (415, "the content encoding 'gzip' is not taken")
    assert payload_of("application/json", b"1", content_encoding="Identity") == 1
