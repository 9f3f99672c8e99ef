"""Who is online. What the scripts do, on every Redis: tests/contract/test_presence.py."""

import re

import pytest

from queue_run import presence
from queue_run.contracts.ids import ServerId, UserId
from queue_run.errors import ChannelUnavailable
from queue_run.presence import AT_ONCE, Presence, Scripts, chunks
from queue_run.settings import Settings
from queue_run.storage.script_files import read
from queue_run.storage.scripts import Store

ANN = UserId("ann")


def test_without_redis_nobody_knows_who_is_online() -> None:
    store = Store(Settings(redis_url="redis://127.0.0.1:1/0"), patience=0.1)
    with pytest.raises(ChannelUnavailable, match="did not answer"):
        Presence(store).is_online(ANN)
    assert Presence(store).online([]) == []
    store.close()


def test_users_are_told_of_in_parts() -> None:
    users = [UserId(str(number)) for number in range(AT_ONCE + 1)]
    assert list(chunks(users)) == [users[:-1], users[-1:]]
    assert list(chunks([])) == []


@pytest.mark.parametrize("name", ["DONE", "MORE", "UNKNOWN"])
def test_the_answers_are_those_of_the_scripts(name: str) -> None:
    names, numbers = re.findall(
        r"^local (DONE, MORE, UNKNOWN) = (.*)$", read("include/presence"), re.MULTILINE
    )[0]
    answers = dict(zip(names.split(", "), numbers.split(", "), strict=True))
    assert int(answers[name]) == getattr(presence, name)


def test_every_change_is_a_script_that_takes_what_it_is_given() -> None:
    scripts = Scripts(Settings(namespace="shop"), ServerId("s1"))
    for call in (
        scripts.register("new"),
        scripts.arrive([ANN], watched=True),
        scripts.depart([ANN], watched=True),
        scripts.sweep(watched=True),
        scripts.retire(watched=True),
    ):
        call.script.check(call.keys, call.arguments)


def test_a_script_is_given_times_in_milliseconds() -> None:
    settings = Settings(namespace="shop", offline_delay=1.5, heartbeat_interval=2.0)
    call = Scripts(settings, ServerId("s1")).depart([ANN], watched=True)
    assert call.arguments == ["s1", "shop:users:", 1, 1500, 6000, AT_ONCE, "ann"]
    assert all(key.startswith("shop:") for key in call.keys)
