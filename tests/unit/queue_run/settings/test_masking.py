"""Secrets in URLs: hidden, however the URL is written."""

import pprint
import time

import pytest

from queue_run.settings.masking import SecretUrl, masked, secrets_in, without_password

HUSH = "hush"
URLS = [
    "redis://ann:hush@127.0.0.1:6379/0",
    "rediss://:hush@cache.example/1",
    "redis://:hush@hush@host:6379/0",
    "redis://:hu%73h@host",
    "redis://:hush/hush@host:1/0",
    "redis://:hush?hush@host:1/0",
    "redis://:hush#hush@host",
    "redis://:hush:hush@host",
    "redis://:hush@[::1",
    "redis://:hush@host:port",
    "redis://ann:hush@",
    "redis://:x?password=hush@host/0",
    "redis://host:6379/0?password=hush",
    "redis://host:6379/0?db=1&password=hu@sh&x=1",
    "redis://ann:hush@host/0?password=hush",
    "redis://host?PASSWORD=hush",
    "redis://host?pass%77ord=hush",
    "rediss://h/0?ssl_keyfile=/k&ssl_keyfile_password=hush",
    "unix://ann:hush@/run/redis.sock",
    "unix:///run/redis.sock?db=1&password=hush",
    "redis+socket://ann:hush@/run/redis.sock?virtual_host=1",
    "amqp://ann:hush@host//",
    "amqp://ann:hush@one//;amqp://bob:hush@two//",
    "redis://:hush@one,redis://:hush@two",
    "sentinel://:hush@a:1; sentinel://:hush@b:2",
    "redis://host/0?db=1?password=hush",
    "redis://host/0?db=1;password=hush",
    "redis://host/0?password=x&hush&db=1",
    "redis://host/0?auth=hush",
    "redis://host/0?db=1&pw=hush",
    "https://example.com/?a=1&key=hush",
    "redis+sentinel://host/main?sentinel_kwargs={'password':'hush'}&db=1",
    "redis+sentinel://host/main?sentinel_kwargs=%7B%22password%22:%22hush%22%7D",
    "https://example.com/?access_token=hush&api_key=hush&sig=1",
]


@pytest.mark.parametrize("url", URLS)
def test_no_form_of_a_url_shows_its_password(url: str) -> None:
    for shown in (without_password(url), masked(f"cannot connect to {url}: refused")):
        assert "hush" not in shown
        assert "hu@" not in shown
        assert "@sh" not in shown
        assert "hu%73h" not in shown
        assert "***" in shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://ann:hush@host:6379/0", "redis://ann:***@host:6379/0"),
        ("redis://ann:hush@host/0?db=1&password=x", "redis://ann:***@host/0?db=1&password=***"),
        ("amqp://a:b@c;amqp://d:e@f", "amqp://a:***@c;amqp://d:***@f"),
        ("ann:hush@host:6379", "ann:***@host:6379"),
        ("hush@host", "***@host"),
        ("redis:/ann:hush@host", "redis:***@host"),
        ("redis://h/0?password=a b&db=1", "redis://h/0?password=***&db=1"),
        (
            "redis://h/0?a={'b':1}&password=x&c={'d':2}",
            "redis://h/0?a={'b':1}&password=***&c={'d':2}",
        ),
        # Their hosts have been forgotten.
        ("redis://:hush", "redis://:***"),
        ("amqp://ann:12hush/v?a=b", "amqp://ann:***/v?a=b"),
        ("redis://host:6379,other:6380/0", "redis://host:6379,other:6380/0"),
    ],
)
def test_everything_else_of_a_url_is_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown


@pytest.mark.parametrize(
    "text",
    [
        *("redis://127.0.0.1:6379/0", "redis://ann@host/0", "unix:///run/redis.sock?db=1", ""),
        *("localhost:6379", "memory://", "amqp://guest@host//", "see https://example.com/@ann"),
        *("ann@example.com wrote", "a :// b", "://", "x://", "100%", "rediss://h?ssl_certfile=/c"),
    ],
)
def test_a_text_without_a_secret_stays(text: str) -> None:
    assert masked(text) == text
    if " " not in text:
        assert without_password(text) == text


def test_a_url_that_others_print_shows_no_password() -> None:
    url = SecretUrl("redis://ann:hush@host")
    assert url == "redis://ann:hush@host"
    assert pprint.pformat({"url": url}) == "{'url': 'redis://ann:***@host'}"


def test_urls_are_found_within_a_text() -> None:
    text = "tried redis://:one@a (refused), then 'amqp://u:two@b//'\nand rediss://c?password=three"
    assert masked(text) == (
        "tried redis://:***@a (refused), then 'amqp://u:***@b//'\nand rediss://c?password=***"
    )


@pytest.mark.parametrize(
    "text",
    [
        *("?a={" * 60_000, "?password=&" * 30_000, "?password=" + "&b" * 100_000, "&" * 300_000),
        *("a" * 300_000, "a://" * 50_000, "?a=" * 70_000, "@:" * 100_000),
    ],
)
def test_a_long_text_takes_no_long_time(text: str) -> None:
    began = time.monotonic()
    masked(f"x://{text}")
    masked(text)
    assert time.monotonic() - began < 30


def test_the_secrets_of_urls_are_known_in_all_their_forms() -> None:
    assert secrets_in("redis://ann:p%40ss@host") == {"p%40ss", "p@ss", "p%2540ss"}
    assert secrets_in("amqp://a:one@b;amqp://c:two@d?password=three") >= {"one", "two", "three"}
    assert secrets_in("redis://ann:hush/0") == {"hush"}
    assert secrets_in("redis://ann@host/0") == set()
    assert secrets_in("redis://h?db=1;password=one?&pw=two") >= {"one?", "two"}
    assert secrets_in("") == set()
