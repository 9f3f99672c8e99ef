"""In which rooms a session was, and whether that is known."""

import pytest

from push_server.delivery.room_history import RoomChange, RoomHistory, parse_changes
from queue_run.channel.listener import Offset


def history(since: Offset = (0, 0), known_since: Offset = (0, 0), **rooms: str) -> RoomHistory:
    changes = {room: parse_changes(text) for room, text in rooms.items()}
    return RoomHistory(since, known_since=known_since, rooms=changes)


def test_what_redis_keeps_of_a_room_is_read() -> None:
    assert parse_changes("+1-0 -20-3") == [
        RoomChange((1, 0), True),
        RoomChange((20, 3), False),
    ]
    assert parse_changes("") == []


@pytest.mark.parametrize(
    ("offset", "rooms"),
    [
        ((0, 9), set()),
        ((1, 0), {"hall"}),
        ((4, 9), {"hall"}),
        ((5, 0), {"kitchen"}),
        ((8, 0), {"hall", "kitchen"}),
    ],
)
def test_at_an_offset_a_session_was_where_it_had_last_joined(
    offset: Offset, rooms: set[str]
) -> None:
    held = history(hall="+1-0 +3-0 -5-0 -6-0 +8-0", kitchen="+5-0")
    assert held.rooms_at(offset) == rooms


def test_now_it_is_where_it_has_joined_and_not_left() -> None:
    assert history(hall="+1-0 -5-0", kitchen="+5-0", garden="-3-0").rooms == {"kitchen"}


def test_what_was_forgotten_is_not_told() -> None:
    held = history(since=(2, 0), known_since=(7, 0))
    assert [held.tells(offset) for offset in ((2, 0), (6, 9), (7, 0))] == [False, False, True]


def test_before_its_beginning_it_was_in_no_room_whatever_is_forgotten() -> None:
    assert history(since=(7, 0), known_since=(7, 0)).tells((1, 0))


def test_a_change_is_noted_at_its_place_and_once() -> None:
    held = history(hall="+1-0 +8-0")
    assert held.note("hall", RoomChange((5, 0), False))
    assert not held.note("hall", RoomChange((5, 0), False))
    assert not held.note("hall", RoomChange((8, 0), True))
    assert held.note("kitchen", RoomChange((5, 0), True))
    assert held.rooms_at((6, 0)) == {"kitchen"}
    assert held.rooms == {"hall", "kitchen"}


def test_it_is_empty_when_nothing_is_known_or_forgotten() -> None:
    assert history(since=(3, 0)).is_empty
    assert not history(hall="+1-0 -2-0").is_empty
    assert not history(known_since=(9, 0)).is_empty
