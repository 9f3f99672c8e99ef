"""What handlers and `on_authenticate` are given."""

import base64
import threading
from typing import Any

import pytest

from queue_run import ConnectionRequest, Signal
from queue_run.application.requests import parse_query
from tests.waiting import DEADLINE


def asking(**headers: str) -> ConnectionRequest:
    return ConnectionRequest(path="/", query={}, headers=headers, remote_ip="127.0.0.1")


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


# Cookies


@pytest.mark.parametrize(
    ("header", "cookies"),
    [
        ("token=abc", {"token": "abc"}),
        ("a=1; b=2", {"a": "1", "b": "2"}),
        ('quoted="two words"', {"quoted": "two words"}),
        ("jwt=aaa.bbb-ccc_ddd==", {"jwt": "aaa.bbb-ccc_ddd=="}),
        ("a=1; a=2", {"a": "1"}),
        ("empty=", {"empty": ""}),
        (" a = 1 ;b=2;", {"a": "1", "b": "2"}),
        ("a=b=c", {"a": "b=c"}),
        ('a="; b=""', {"a": '"', "b": ""}),
        ("=nameless; flag; a=1", {"a": "1"}),
        ("", {}),
    ],
)
def test_cookies_come_by_name(header: str, cookies: dict[str, str]) -> None:
    assert asking(cookie=header).cookies == cookies


def test_without_a_header_there_are_no_cookies() -> None:
    assert asking().cookies == {}


@pytest.mark.parametrize("header", ["a[b]=1", "=", ";;;", "no-value", "\x00", "$Version=1; x"])
def test_a_malformed_cookie_header_is_no_error(header: str) -> None:
    assert "token" not in asking(cookie=header).cookies


@pytest.mark.parametrize("other", ['prefs={"a":1}', "a[b]=1", "flag", "näme=1", "path=/"])
def test_a_cookie_of_another_kind_does_not_hide_the_rest(other: str) -> None:
    assert asking(cookie=f"{other}; token=abc").cookies.get("token") == "abc"


# Credentials


@pytest.mark.parametrize("header", ["Bearer abc.def", "bearer abc.def", "BEARER   abc.def "])
def test_a_bearer_token_is_found(header: str) -> None:
    assert asking(authorization=header).bearer_token == "abc.def"


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic abc", "abc", "Bearerabc"])
def test_without_a_bearer_token_there_is_none(header: str) -> None:
    assert asking(authorization=header).bearer_token is None


def test_without_the_header_there_are_no_credentials() -> None:
    assert asking().bearer_token is None
    assert asking().basic_auth is None


@pytest.mark.parametrize(
    ("text", "credentials"),
    [
        ("ann:secret", ("ann", "secret")),
        ("ann:with:colon", ("ann", "with:colon")),
        ("ann:", ("ann", "")),
        (":key", ("", "key")),
        ("änn:gehéim", ("änn", "gehéim")),
    ],
)
def test_basic_credentials_are_decoded(text: str, credentials: tuple[str, str]) -> None:
    assert asking(authorization=basic(text)).basic_auth == credentials


@pytest.mark.parametrize(
    "header",
    [
        "Basic",
        "Basic !!!!",
        "Basic YQ",
        "Basic é",
        "Bearer YTpi",
        basic("no colon"),
        "Basic " + base64.b64encode(b"\xff:\xff").decode(),
    ],
)
def test_malformed_basic_credentials_are_none(header: str) -> None:
    assert asking(authorization=header).basic_auth is None


# The rest of the request


def test_the_origin_is_that_of_the_header() -> None:
    assert asking(origin="https://shop.example").origin == "https://shop.example"
    assert asking().origin is None


def test_headers_may_hold_secrets_and_are_not_shown() -> None:
    assert "hush" not in repr(asking(authorization="Bearer hush", cookie="token=hush"))


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("", {}),
        ("a=1&b=2", {"a": "1", "b": "2"}),
        ("a=1&a=2", {"a": "2"}),
        ("a=&b", {"a": "", "b": ""}),
        ("name=gr%C3%BC%C3%9Fe&two=a+b", {"name": "grüße", "two": "a b"}),
        ("a=%ZZ&b=%FF", {"a": "%ZZ", "b": "\ufffd"}),
    ],
)
def test_the_query_has_one_value_for_each_name(text: str, query: dict[str, Any]) -> None:
    assert parse_query(text) == query


# Signals


def test_a_signal_is_not_set_at_first() -> None:
    signal = Signal()
    assert not signal.is_set()
    assert signal.wait(0) is False


def test_a_signal_that_is_set_stays_set() -> None:
    signal = Signal()
    signal.set()
    signal.set()
    assert signal.is_set()
    assert signal.wait() is True


def test_a_signal_wakes_a_thread_that_waits() -> None:
    signal = Signal()
    woken: list[bool] = []
    thread = threading.Thread(target=lambda: woken.append(signal.wait(DEADLINE)))
    thread.start()
    signal.set()
    thread.join(DEADLINE)
    assert woken == [True]
