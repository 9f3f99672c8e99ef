import ssl
from typing import Any

import pytest

from queue_run.client import connect

ADDRESS = "ws://127.0.0.1/"


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "ws://",
            "ws:///path",
            "http://a/",
            "a",
            "ws://[::1",
            "ws://a:port/",
            "ws://a:99999/",
        ),
        *("ws://a:0/", "ws://a b/", "ws://a/\n", "ws://a/#part", [], [ADDRESS, "http://a/"]),
        *(b"ws://a/", [b"ws://a/"]),
    ],
)
def test_what_no_attempt_could_reach_is_refused_at_once(url: Any) -> None:
    with pytest.raises(ValueError, match="address"):
        connect(url)


def test_a_refusal_shows_no_password() -> None:
    with pytest.raises(ValueError, match="no address") as refusal:
        connect("http://ann:hush-hush@a/?token=hush-hush")
    assert "hush" not in str(refusal.value)


@pytest.mark.parametrize(
    "url", ["wss://a", "WS://a:1/", "ws://[::1]:80/a?b=c", "ws://bücher.example/é"]
)
def test_other_addresses_are_taken(url: str) -> None:
    connect(url)


def test_tls_is_for_addresses_that_speak_it() -> None:
    context = ssl.create_default_context()
    connect("wss://a", ssl=context)
    with pytest.raises(ValueError, match="ssl is for wss"):
        connect(["wss://a", "ws://ann:hush-hush@a"], ssl=context)


@pytest.mark.parametrize(
    "headers",
    [{"X": "a\nb"}, {"X": "a\0"}, {"X": 5}, {"X": None}, {5: "x"}, {"a b": "x"}, {"": ""}],
)
def test_headers_that_cannot_be_sent_are_refused_at_once(headers: Any) -> None:
    with pytest.raises(ValueError, match="header"):
        connect(ADDRESS, headers=headers)


def test_other_headers_are_taken() -> None:
    connect(ADDRESS, headers={"X-Device": "größe \t 7", "Empty": ""})


@pytest.mark.parametrize(
    "option",
    [
        *({"connect_timeout": 0}, {"connect_timeout": -1}, {"connect_timeout": float("nan")}),
        *({"grace": -1}, {"inbox": 0}, {"on_gap": 5}, {"on_connected": "x"}, {"token": ""}),
        {"on_disconnected": {}},
    ],
)
def test_values_without_meaning_are_refused_at_once(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"the token cannot|{next(iter(option))} is a "):
        connect(ADDRESS, **option)
