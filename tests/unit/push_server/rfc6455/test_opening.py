"""The opening handshake, header by header (RFC 6455, 4.2)."""

import pytest
from tornado.httputil import HTTPHeaders

from push_server.rfc6455.opening import Fault, answer, asks_for_websocket, fault, subprotocol


def headers(**changes: str | None) -> HTTPHeaders:
    """Those of a handshake in good order, but for the changes; None leaves one out."""
    found: dict[str, str | None] = {
        "Host": "example.org",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    found |= {name.replace("_", "-"): value for name, value in changes.items()}
    return HTTPHeaders({name: value for name, value in found.items() if value is not None})


def test_nothing_is_wrong_with_the_example_of_the_rfc() -> None:
    assert fault("GET", "HTTP/1.1", headers()) is None


@pytest.mark.parametrize(
    "good",
    [
        {"Upgrade": "WebSocket"},
        {"Upgrade": "h2c, websocket"},
        {"Connection": "keep-alive, Upgrade"},
        {"Connection": "upgrade"},
    ],
)
def test_what_browsers_and_proxies_make_of_it_is_in_order(good: dict[str, str]) -> None:
    assert fault("GET", "HTTP/1.1", headers(**good)) is None


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        ({"Upgrade": None}, 426),
        ({"Upgrade": "h2c"}, 426),
        ({"Connection": None}, 400),
        ({"Connection": "keep-alive"}, 400),
        ({"Connection": "upgraded"}, 400),
        ({"Sec_WebSocket_Version": None}, 426),
        ({"Sec_WebSocket_Version": "8"}, 426),
        ({"Sec_WebSocket_Key": None}, 400),
        ({"Sec_WebSocket_Key": ""}, 400),
        ({"Sec_WebSocket_Key": "dGhlIHNhbXBsZQ=="}, 400),
        ({"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ"}, 400),
        ({"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==,x"}, 400),
        ({"Sec_WebSocket_Key": "d\xfchlIHNhbXBsZSBub25jZQ=="}, 400),
    ],
)
def test_each_header_is_looked_at(bad: dict[str, str | None], status: int) -> None:
    found = fault("GET", "HTTP/1.1", headers(**bad))
    assert found is not None
    assert found.status == status


def test_it_is_a_get_of_http_1_1() -> None:
    assert fault("POST", "HTTP/1.1", headers()) == Fault(405, "a WebSocket is opened with GET")
    assert fault("GET", "HTTP/1.0", headers()) == Fault(400, "a WebSocket is opened with HTTP/1.1")


def test_a_request_for_a_page_asks_for_no_websocket() -> None:
    assert asks_for_websocket(headers())
    assert not asks_for_websocket(headers(Upgrade=None))
    assert not asks_for_websocket(headers(Upgrade="websockets"))


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (None, None),
        ("", None),
        ("chat", "chat"),
        ("chat, other", "chat"),
        ("chat, queue-run.v1", "queue-run.v1"),
        ("bearer.secret", None),
        ("bearer.secret, ,other", "other"),
        ('a b, c="d", gr\xfcn, other', "other"),
    ],
)
def test_the_envelope_protocol_comes_first_and_tokens_never(
    offered: str | None, chosen: str | None
) -> None:
    assert subprotocol(headers(Sec_WebSocket_Protocol=offered)) == chosen


def test_the_answer_is_that_of_the_rfc() -> None:
    # The key and its answer are the example of 1.3.
    assert answer(headers(), None) == (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )


def test_the_answer_names_the_subprotocol() -> None:
    assert answer(headers(), "queue-run.v1").endswith(
        b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
        b"Sec-WebSocket-Protocol: queue-run.v1\r\n\r\n"
    )
