"""The recent part of the broadcast stream, and what each client missed of it."""

import random
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from push_server.delivery.room_history import BEGINNING, RoomChange, RoomHistory
from push_server.delivery.window import (
    ENTRY_OVERHEAD,
    MANY_USERS,
    USER_OVERHEAD,
    MissedMessages,
    ReturningClient,
    Window,
)
from queue_run.channel.listener import Offset
from queue_run.contracts.envelopes import (
    ChannelEnvelope,
    CloseUsers,
    Hello,
    Membership,
    Outcome,
    ToConnection,
    ToRoom,
    ToUsers,
)
from queue_run.contracts.ids import ConnectionId, RequestId, UserId
from queue_run.contracts.messages import Form, Message

ANN, BOB = UserId("ann"), UserId("bob")
CONNECTION = ConnectionId("s1-1")
#: So many that each of them is not listed.
CROWD = [UserId(f"user-{number}") for number in range(MANY_USERS + 1)]
SIZE = 100


def message(value: object) -> Message:
    return Message(Form.TEXT, str(value).encode())


def to_users(value: object, *users: UserId) -> ToUsers:
    return ToUsers(users=list(users), message=message(value))


def to_room(value: object, room: str = "hall", **without: Any) -> ToRoom:
    return ToRoom(room=room, message=message(value), **without)


def to_session(value: object, session: str) -> ToConnection:
    return ToConnection(connection=CONNECTION, session=session, message=message(value))


def joins(session: str | None = None, *users: UserId, room: str = "hall") -> Membership:
    return Membership(room=room, joins=True, session=session, users=list(users))


def leaves(session: str | None = None, *users: UserId, room: str = "hall") -> Membership:
    return Membership(room=room, joins=False, session=session, users=list(users))


def window(
    *envelopes: ChannelEnvelope,
    max_age: float = 1e6,
    max_bytes: int = 10**9,
    max_rooms: int = 1000,
) -> Window:
    """With entries at 1-0, 2-0, …"""
    made = Window(max_age=max_age, max_bytes=max_bytes, max_rooms=max_rooms)
    append(made, *envelopes)
    return made


def append(to: Window, *envelopes: ChannelEnvelope, at: int = 1) -> None:
    for number, envelope in enumerate(envelopes, start=at):
        to.append((number, 0), envelope, SIZE)


def client(
    user: UserId | None = ANN,
    session: str = "s",
    rooms: Iterable[str] = (),
    *,
    since: Offset = BEGINNING,
) -> ReturningClient:
    """Whose session was in these rooms before all that is held."""
    changes = {room: [RoomChange(BEGINNING, True)] for room in rooms}
    return ReturningClient(session, user, RoomHistory(since, rooms=changes))


def of_client(*changes: tuple[str, str, Offset]) -> ReturningClient:
    """One of whose session these joins (`+`) and leaves of rooms are known."""
    made = client()
    for sign, room, offset in changes:
        made.history.note(room, RoomChange(offset, sign == "+"))
    return made


def texts(missed: MissedMessages) -> list[str]:
    return [each.data.decode() for _, each in missed.messages]


# Who missed what


def test_messages_of_a_user_are_missed_in_order_and_with_their_offsets() -> None:
    held = window(to_users("a", ANN), to_users("b", BOB), to_users("c", BOB, ANN))
    assert held.missed(client(), (0, 0)).messages == [
        ((1, 0), message("a")),
        ((3, 0), message("c")),
    ]


@pytest.mark.parametrize(
    ("offset", "missed"),
    [((0, 0), "abc"), ((1, 0), "bc"), ((1, 5), "bc"), ((3, 0), ""), ((9, 9), "")],
)
def test_only_what_came_after_the_offset_is_missed(offset: Offset, missed: str) -> None:
    held = window(*(to_users(each, ANN) for each in "abc"))
    assert texts(held.missed(client(), offset)) == list(missed)


def test_a_client_without_a_user_misses_what_went_to_its_session_and_rooms() -> None:
    held = window(
        to_users("a", ANN),
        to_session("b", "s"),
        to_session("c", "other"),
        to_room("d"),
        to_room("e", "kitchen"),
    )
    assert texts(held.missed(client(None, rooms=["hall"]), (0, 0))) == ["b", "d"]


@pytest.mark.parametrize("user", [CROWD[0], CROWD[7], CROWD[-1]])
def test_each_of_many_users_misses_the_message_to_them_all(user: UserId) -> None:
    held = window(to_users("x", ANN), to_users("all", *CROWD))
    assert texts(held.missed(client(user), (0, 0))) == ["all"]
    assert texts(held.missed(client(user), (2, 0))) == []


@pytest.mark.parametrize("user", ["user-", "ser-1", "user-1234", "1", "", "\x00", "ann"])
def test_a_part_of_an_id_is_not_one_of_many(user: str) -> None:
    held = window(to_users("all", *CROWD))
    assert texts(held.missed(client(UserId(user)), (0, 0))) == []


def test_many_users_have_ids_of_any_kind() -> None:
    strange = [UserId(each) for each in ("ü", "\x00", "a b", "ÿ", "\n", "😀")]
    held = window(to_users("all", *CROWD, *strange))
    assert [texts(held.missed(client(user), (0, 0))) for user in strange] == [["all"]] * 6


def test_what_goes_to_no_client_that_can_resume_is_not_kept() -> None:
    held = window(
        Hello(),
        CloseUsers(users=[ANN], code=1000, reason=""),
        Outcome(connection=CONNECTION, request=RequestId("s1-1-1")),
        ToConnection(connection=CONNECTION, message=message("x")),
        Membership(room="hall", joins=True, connection=CONNECTION),
        to_users("to nobody"),
    )
    assert len(held) == 0
    assert held.bytes == 0


# Rooms


def test_the_sender_is_spared_by_session_or_by_user() -> None:
    held = window(
        to_room("a", without_session="s"),
        to_room("b", without_session="other"),
        to_room("c", without_user=ANN),
        to_room("d", without_user=BOB),
        # The connection is of no account: it may be another by now.
        to_room("e", without_connection=CONNECTION, without_session="other"),
    )
    assert texts(held.missed(client(rooms=["hall"]), (0, 0))) == ["b", "d", "e"]
    assert texts(held.missed(client(None, rooms=["hall"]), (0, 0))) == ["b", "c", "d", "e"]


@pytest.mark.parametrize("who", ["session", "user", "crowd"])
def test_joins_and_leaves_take_place_where_they_stand(who: str) -> None:
    session = "s" if who == "session" else None
    users = {"session": [], "user": [CROWD[0]], "crowd": CROWD}[who]
    held = window(
        to_room("a"),
        joins(session, *users),
        to_room("b"),
        to_room("x", "kitchen"),
        leaves(session, *users),
        to_room("c"),
        joins(session, *users, room="kitchen"),
    )
    missed = held.missed(client(CROWD[0]), (0, 0))
    assert texts(missed) == ["b"]
    assert missed.rooms == {"kitchen"}
    assert missed.changes == [
        ("hall", RoomChange((2, 0), True)),
        ("hall", RoomChange((5, 0), False)),
        ("kitchen", RoomChange((7, 0), True)),
    ]


def test_a_room_that_was_left_while_the_client_was_away_was_its_room_before() -> None:
    held = window(to_room("a"), leaves("s"), to_room("b"))
    missed = held.missed(client(rooms=["hall"]), (0, 2))
    assert texts(missed) == ["a"]
    assert missed.rooms == set()


@pytest.mark.parametrize("who", ["session", "user", "crowd"])
def test_who_is_made_to_leave_a_room_in_which_it_never_was_gets_nothing_of_it(who: str) -> None:
    session = "s" if who == "session" else None
    users = {"session": [], "user": [CROWD[0]], "crowd": CROWD}[who]
    held = window(to_room("a"), leaves(session, *users), to_room("b"))
    missed = held.missed(client(CROWD[0], rooms=["kitchen"]), (0, 0))
    assert missed == MissedMessages([], {"kitchen"}, [])


def test_who_joins_once_more_was_in_the_room_before() -> None:
    """Handlers join at each request."""
    held = window(joins("s"), to_room("a"), joins("s"), to_room("b"))
    known = of_client(("+", "hall", (1, 0)), ("+", "hall", (3, 0)))
    missed = held.missed(known, (1, 0))
    assert texts(missed) == ["a", "b"]
    assert missed.rooms == {"hall"}


def test_a_join_of_long_ago_counts_for_one_who_joins_once_more() -> None:
    """Its first join is not held any more."""
    held = window()
    held.clear((5, 0))
    append(held, to_room("a"), joins("s"), to_room("b"), at=6)
    known = of_client(("+", "hall", (1, 0)), ("+", "hall", (7, 0)))
    assert texts(held.missed(known, (5, 0))) == ["a", "b"]


@pytest.mark.parametrize("users", [[ANN], [*CROWD, ANN]])
def test_when_all_of_a_user_join_once_more_they_were_in_the_room_before(
    users: list[UserId],
) -> None:
    held = window(joins(None, *users), to_room("a"), joins(None, *users), to_room("b"))
    assert texts(held.missed(client(rooms=["hall"]), (1, 0))) == ["a", "b"]


def test_a_join_that_nobody_has_written_down_yet_counts() -> None:
    """Its push server died at once."""
    held = window(joins("s"), to_room("a"), to_room("x", "kitchen"), joins(None, ANN, room="x"))
    missed = held.missed(client(), (1, 0))
    assert texts(missed) == ["a"]
    assert missed.rooms == {"hall", "x"}


def test_a_leave_that_nobody_has_written_down_yet_counts() -> None:
    held = window(leaves("s"), to_room("a"))
    missed = held.missed(client(rooms=["hall"]), (1, 0))
    assert texts(missed) == []
    assert missed.rooms == set()


def test_a_connection_that_is_younger_than_a_join_of_its_user_is_not_in_the_room() -> None:
    held = window(joins(None, ANN), to_room("a"))
    missed = held.missed(client(session="new", since=(1, 0)), (1, 0))
    assert texts(missed) == []
    assert missed.rooms == set()


def test_a_new_session_gets_what_its_user_missed_and_nothing_of_rooms_before_it() -> None:
    held = window(joins(None, ANN), to_room("a"), to_users("b", ANN), joins(None, ANN, room="k"))
    append(held, to_room("c", "k"), at=5)
    assert texts(held.missed(client(session="new", since=(3, 5)), (0, 0))) == ["b", "c"]


def test_a_leave_of_all_of_a_user_ends_the_join_of_one() -> None:
    held = window(joins("s"), leaves(None, ANN), to_room("a"))
    assert held.missed(client(), (2, 0))[:2] == ([], set())


def test_a_join_beyond_the_number_of_rooms_did_not_happen() -> None:
    held = window(joins("s"), joins("s", room="x"), to_room("a", "x"), leaves("s"), max_rooms=1)
    append(held, joins("s", room="x"), to_room("b", "x"), at=5)
    missed = held.missed(client(), (0, 0))
    assert texts(missed) == ["b"]
    assert missed.rooms == {"x"}


def test_rooms_are_known_from_what_is_held_after_a_gap_too() -> None:
    held = window(
        joins("s"), leaves("s", room="kitchen"), joins("other", room="cellar"), joins(None, BOB)
    )
    rooms, changes = held.rooms(client(rooms=["kitchen", "attic"]))
    assert rooms == {"hall", "attic"}
    assert [room for room, _ in changes] == ["hall", "kitchen"]


# Bounds


def test_a_new_window_holds_everything_after_the_beginning() -> None:
    held = window()
    assert held.holds((0, 0))
    assert held.complete_since == (0, 0)


def test_after_a_gap_nothing_before_it_is_held() -> None:
    held = window(to_users("a", ANN), to_users("b", *CROWD), joins("s"))
    held.clear((7, 1))
    assert [held.holds(offset) for offset in ((7, 0), (7, 1), (8, 0))] == [False, True, True]
    assert (len(held), held.bytes, held._lists) == (0, 0, {})
    assert texts(held.missed(client(), (0, 0))) == []


def test_what_is_too_old_is_dropped() -> None:
    held = window(max_age=1.0)
    for milliseconds in (1000, 1500, 2000, 2001):
        held.append((milliseconds, 0), to_users(milliseconds, ANN), SIZE)
    assert texts(held.missed(client(), (1000, 0))) == ["1500", "2000", "2001"]
    assert held.complete_since == (1000, 0)
    assert [held.holds(offset) for offset in ((999, 9), (1000, 0))] == [False, True]


def test_what_is_too_much_is_dropped() -> None:
    entry = SIZE + ENTRY_OVERHEAD + USER_OVERHEAD
    held = window(*(to_users(each, ANN) for each in "abcde"), max_bytes=3 * entry)
    assert held.bytes == 3 * entry
    assert held.complete_since == (2, 0)
    assert texts(held.missed(client(), (2, 0))) == ["c", "d", "e"]


def test_one_that_is_larger_than_the_window_is_not_held_and_this_is_known() -> None:
    held = window(to_users("a", ANN), max_bytes=10)
    assert (len(held), held.bytes, held._lists) == (0, 0, {})
    assert not held.holds((0, 0))
    assert held.holds((1, 0))


def test_what_was_dropped_leaves_nothing_behind() -> None:
    held = window(max_age=0.05)
    kinds: list[ChannelEnvelope] = [
        to_users("a", ANN, BOB),
        # One that is named twice.
        to_users("a", ANN, ANN),
        to_users("b", *CROWD),
        to_room("c"),
        to_session("d", "s"),
        joins("s"),
        joins(None, ANN),
        leaves(None, *CROWD),
    ]
    for number in range(1000):
        held.append((number, 0), kinds[number % len(kinds)], SIZE)
    held.append((100_000, 0), to_room("last", "last"), SIZE)
    assert len(held) == 1
    assert held._lists == {("room", "last"): [1000]}
    assert held.bytes == SIZE + ENTRY_OVERHEAD + USER_OVERHEAD


# Against the simplest thing that could work


class Naive:
    """Each client's due, by going through everything from the beginning."""

    def __init__(self, max_rooms: int) -> None:
        self.entries: list[tuple[Offset, ChannelEnvelope]] = []
        self.max_rooms = max_rooms

    def rooms_after(
        self, who: ReturningClient
    ) -> Iterator[tuple[Offset, ChannelEnvelope, set[str]]]:
        """The rooms that a client is in after each entry."""
        rooms: set[str] = set()
        for at, envelope in self.entries:
            if (
                isinstance(envelope, Membership)
                and at > who.history.since
                and (envelope.session == who.session or who.user in envelope.users)
            ):
                if not envelope.joins:
                    rooms = rooms - {envelope.room}
                elif len(rooms) < self.max_rooms:
                    rooms = rooms | {envelope.room}
            yield at, envelope, rooms

    def missed(
        self, who: ReturningClient, offset: Offset
    ) -> tuple[list[tuple[Offset, Message]], set[str]]:
        rooms: set[str] = set()
        messages = []
        for at, envelope, rooms in self.rooms_after(who):
            match envelope:
                case ToUsers():
                    is_for = who.user in envelope.users
                case ToConnection():
                    is_for = envelope.session == who.session
                case ToRoom():
                    is_for = (
                        envelope.room in rooms
                        and envelope.without_session != who.session
                        and (envelope.without_user is None or envelope.without_user != who.user)
                    )
                case _:
                    is_for = False
            if is_for and at > offset:
                assert isinstance(envelope, ToUsers | ToConnection | ToRoom)
                messages.append((at, envelope.message))
        return messages, rooms

    def known(self, who: ReturningClient, *, since: Offset, until: Offset) -> RoomHistory:
        """What is written of a client's rooms; of those that it left before `since`, nothing."""
        changes: dict[str, list[RoomChange]] = {}
        before: set[str] = set()
        for at, _, after in self.rooms_after(who):
            if at > until:
                break
            for room in before ^ after:
                joins = room in after
                changes.setdefault(room, []).append(RoomChange(at, joins))
                if not joins and at <= since:
                    changes[room].clear()
            before = after
        return RoomHistory(who.history.since, known_since=since, rooms=changes)


@pytest.mark.parametrize("seed", range(60))
def test_the_window_is_as_right_as_going_through_everything(seed: int) -> None:
    """What is known of a client's rooms may be as of any moment since it left."""
    chance = random.Random(seed)
    bounded = seed % 2 == 1
    users = [ANN, BOB, *CROWD]
    people = [
        client(user, f"s{number}", since=(10 * number, number))
        for number, user in enumerate([ANN, ANN, BOB, CROWD[0], CROWD[1], None])
    ]
    others = [UserId(f"other-{n}") for n in range(MANY_USERS)]
    rooms = ["hall", "kitchen", "cellar"]
    held = window(max_age=0.120 if bounded else 1e6, max_rooms=2)
    naive = Naive(max_rooms=2)

    def membership(who: ReturningClient, room: str) -> Membership:
        goes_in = chance.random() < 0.5
        if who.user is None or chance.random() < 0.6:
            return Membership(room=room, joins=goes_in, session=who.session)
        crowd = others if chance.random() < 0.5 else []
        return Membership(room=room, joins=goes_in, users=[*crowd, who.user])

    def envelope(number: int) -> ChannelEnvelope:
        who, room = chance.choice(people), chance.choice(rooms)
        kind = chance.random()
        if kind < 0.25:
            return to_users(number, *chance.sample(users, chance.randint(1, 3)))
        if kind < 0.35:
            return to_users(number, *chance.sample(users, MANY_USERS + 1))
        if kind < 0.45:
            return to_session(number, who.session)
        if kind < 0.75:
            without: dict[str, Any] = chance.choice(
                [{}, {"without_session": who.session}, {"without_user": who.user}]
            )
            return to_room(number, room, **without)
        return membership(who, room)

    milliseconds, sequence, looked = 0, 0, 0
    for number in range(400):
        if chance.random() < 0.7:
            milliseconds, sequence = milliseconds + 1, 0
        else:
            sequence += 1
        each = envelope(number)
        held.append((milliseconds, sequence), each, SIZE)
        naive.entries.append(((milliseconds, sequence), each))
        if number % 20:
            continue
        for who in people:
            offset, _ = chance.choice(naive.entries)
            if not held.holds(offset):
                assert bounded
                continue
            later = [at for at, _ in naive.entries if at >= offset]
            earlier = [at for at, _ in naive.entries if at <= offset]
            known = naive.known(who, since=chance.choice(earlier), until=chance.choice(later))
            assert known.tells(offset)
            missed = held.missed(who._replace(history=known), offset)
            assert (missed.messages, missed.rooms) == naive.missed(who, offset)
            looked += 1
    assert looked
    assert (len(held) < 400) or not bounded
