"""A lane: the order of one connection's requests."""

from push_server.clients.lanes import Lane
from queue_run.contracts.envelopes import Inbound
from queue_run.contracts.ids import RequestId


def request(name: str, data: str | bytes = "x") -> Inbound:
    if isinstance(data, bytes):
        return Inbound(id=RequestId(name), binary=data)
    return Inbound(id=RequestId(name), text=data)


def lane(*names: str, max_requests: int = 100, max_bytes: int = 10_000) -> Lane:
    made = Lane(max_requests=max_requests, max_bytes=max_bytes)
    for name in names:
        made.add(request(name))
    return made


def names(turn: list[Inbound]) -> list[str]:
    return [each.id for each in turn]


def settle(of: Lane, *requests: str) -> list[bool]:
    return [of.settle(RequestId(name)) for name in requests]


def test_a_new_lane_is_idle() -> None:
    made = lane()
    assert made.idle
    assert not made.full
    assert made.head is None
    assert made.next_turn() == []


def test_the_first_request_is_a_turn_of_its_own() -> None:
    made = lane("a")
    assert not made.idle
    assert names(made.next_turn()) == ["a"]
    assert made.head == "a"


def test_what_waits_leaves_together_in_its_order() -> None:
    assert names(lane("a", "b", "c").next_turn()) == ["a", "b", "c"]


def test_while_a_turn_is_in_flight_nothing_else_leaves() -> None:
    made = lane("a")
    made.next_turn()
    made.add(request("b"))
    assert made.next_turn() == []


def test_what_came_meanwhile_is_the_next_turn() -> None:
    made = lane("a")
    made.next_turn()
    made.add(request("b"))
    made.add(request("c"))
    assert settle(made, "a") == [True]
    assert names(made.next_turn()) == ["b", "c"]


def test_a_turn_is_in_flight_until_its_last_outcome() -> None:
    made = lane("a", "b")
    made.next_turn()
    made.add(request("c"))
    settle(made, "a")
    assert (made.head, made.next_turn()) == ("b", [])
    settle(made, "b")
    assert made.head is None
    assert names(made.next_turn()) == ["c"]


def test_a_lane_is_idle_when_its_last_outcome_has_come() -> None:
    made = lane("a", "b")
    made.next_turn()
    settle(made, "a")
    assert not made.idle
    settle(made, "b")
    assert made.idle


def test_an_outcome_counts_once() -> None:
    made = lane("a")
    made.next_turn()
    assert settle(made, "a", "a") == [True, False]


def test_an_outcome_of_a_request_that_is_not_in_flight_counts_for_nothing() -> None:
    made = lane("a")
    assert settle(made, "a", "stranger") == [False, False]
    assert names(made.next_turn()) == ["a"]


def test_a_turn_that_is_abandoned_makes_room_for_the_next() -> None:
    made = lane("a", "b")
    made.next_turn()
    made.add(request("c"))
    settle(made, "a")
    assert made.abandon() == ["b"]
    assert made.head is None
    assert settle(made, "b") == [False]
    assert names(made.next_turn()) == ["c"]


def test_draining_gives_up_what_is_in_flight_and_what_waits() -> None:
    made = lane("a", "b")
    made.next_turn()
    made.add(request("c"))
    assert made.give_up() == ["a", "b", "c"]
    assert made.idle
    assert made.give_up() == []


def test_a_lane_is_full_at_its_number_of_waiting_requests() -> None:
    made = lane("a", "b", max_requests=3)
    assert not made.full
    made.add(request("c"))
    assert made.full


def test_a_lane_is_full_at_its_number_of_waiting_bytes() -> None:
    made = lane(max_bytes=10)
    made.add(request("a", "123456789"))
    assert not made.full
    made.add(request("b", b"\x00"))
    assert made.full


def test_requests_in_flight_take_no_room() -> None:
    for made in (lane("a", max_requests=1), lane("a", max_bytes=1)):
        full = made.full
        made.next_turn()
        assert (full, made.full) == (True, False)


def test_what_was_drained_takes_no_room() -> None:
    for made in (lane("a", max_requests=1), lane("a", max_bytes=1)):
        made.give_up()
        assert not made.full
