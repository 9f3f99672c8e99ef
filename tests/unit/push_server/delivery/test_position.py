"""Where the broadcast stream stands here, and where clients say that they are."""

import asyncio

import pytest

from push_server.delivery.position import Position, offset_of_client
from tests.waiting import DEADLINE


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("0-0", (0, 0)),
        ("1700000000000-3", (1700000000000, 3)),
        ("18446744073709551615-18446744073709551615", (2**64 - 1, 2**64 - 1)),
    ],
)
def test_an_offset_is_what_redis_writes(text: str, offset: tuple[int, int]) -> None:
    assert offset_of_client(text) == offset


@pytest.mark.parametrize(
    "text",
    [
        *("", "-", "1", "1-", "-1", "-1-0", "1--1", "1-x", "x-1", "none", " 1-0", "1-0 ", "1-0\n"),
        *("1_0-0", "+1-0", "1.0-0", "1-0-0", "\u0663-0", "\ud800", "18446744073709551616-0"),
        *("1-18446744073709551616", "9" * 21 + "-0", "9" * 60_000 + "-0"),
    ],
)
def test_anything_else_is_none(text: str) -> None:
    assert offset_of_client(text) is None


async def test_whoever_waits_goes_on_when_it_is_reached() -> None:
    position = Position()
    waiting = [asyncio.create_task(position.reach((n, 0), seconds=DEADLINE)) for n in (1, 2)]
    await asyncio.sleep(0)
    position.move((1, 0))
    assert await waiting[0]
    assert not waiting[1].done()
    position.move((5, 0))
    assert await waiting[1]
    assert await position.reach((5, 0), seconds=0)


async def test_whoever_waits_for_too_long_goes_on_too() -> None:
    position = Position()
    assert not await position.reach((1, 0), seconds=0.001)
    # Nobody is left to be woken in vain.
    position.move((1, 0))


async def test_another_epoch_ends_the_waiting() -> None:
    position = Position()
    waiting = asyncio.create_task(position.reach((9, 0), seconds=DEADLINE))
    await asyncio.sleep(0)
    position.epoch = "another"
    position.move((1, 0))
    assert not await waiting
