"""Session ids: nobody guesses them, nobody makes them, and nobody takes another user's."""

import hashlib

import pytest

from push_server.clients.sessions import KNOWN_SECRETS, MAX_LENGTH, Seals
from queue_run.contracts.ids import UserId

ANN, BOB = UserId("ann"), UserId("bob")
SEALS = Seals(b"a secret of the tests")


@pytest.mark.parametrize("user", [ANN, UserId("ü"), UserId("a b"), None])
def test_a_session_belongs_to_the_user_for_whom_it_was_made(user: UserId | None) -> None:
    session = SEALS.new(user)
    assert SEALS.made(session, user)
    assert not SEALS.made(session, BOB)


def test_an_anonymous_session_is_nobody_elses() -> None:
    assert not SEALS.made(SEALS.new(None), ANN)
    assert not SEALS.made(SEALS.new(ANN), None)


def test_sessions_are_short_and_never_the_same() -> None:
    sessions = [SEALS.new(UserId("x" * 10_000)) for _ in range(1000)]
    assert len(set(sessions)) == 1000
    # 16 bytes of chance.
    assert min(len(session.partition(".")[0]) for session in sessions) >= 22
    assert max(map(len, sessions)) <= MAX_LENGTH


def test_another_users_seal_makes_no_session() -> None:
    anns, bobs = SEALS.new(ANN), SEALS.new(BOB)
    forged = f"{anns.partition('.')[0]}.{bobs.partition('.')[2]}"
    assert not SEALS.made(forged, ANN)
    assert not SEALS.made(forged, BOB)


def test_a_client_makes_none_without_the_secret() -> None:
    """What earlier releases took: anybody could compute it."""
    for chance in ("mine", "x" * 60_000):
        seal = hashlib.blake2b(f"{chance} ann".encode(), digest_size=6).hexdigest()
        assert not SEALS.made(f"{chance}.{seal}", ANN)
    assert not SEALS.made(Seals(b"another secret").new(ANN), ANN)


@pytest.mark.parametrize(
    "change",
    [
        lambda session: session + "x",
        lambda session: session[:-1],
        lambda session: session + ".",
        lambda session: " " + session,
        lambda session: session.upper(),
        lambda session: session.replace(".", ".0", 1),
        lambda session: session.replace(".", "..", 1),
    ],
)
def test_a_session_that_was_changed_is_none(change: "object") -> None:
    assert callable(change)
    assert not SEALS.made(change(SEALS.new(ANN)), ANN)


@pytest.mark.parametrize("text", ["", ".", "no seal", "a.b.c", "ü.ü", "\ud800", "x" * 100_000])
def test_what_is_no_session_belongs_to_nobody(text: str) -> None:
    assert not SEALS.made(text, ANN)
    assert not SEALS.made(text, None)


def test_sessions_go_on_when_another_secret_is_in_force() -> None:
    seals = Seals(b"the first")
    before = seals.new(ANN)
    seals.adopt(b"the second")
    assert seals.secret == b"the second"
    assert seals.made(before, ANN)
    assert seals.made(Seals(b"the second").new(ANN), ANN)
    assert not Seals(b"the second").made(before, ANN)


def test_of_many_secrets_the_last_ones_are_known() -> None:
    seals = Seals(b"0")
    sessions = [seals.new(ANN)]
    for number in range(1, 10):
        seals.adopt(str(number).encode())
        sessions.append(seals.new(ANN))
    known = [seals.made(session, ANN) for session in sessions]
    assert known == [False] * (9 - KNOWN_SECRETS) + [True] * (KNOWN_SECRETS + 1)


def test_to_adopt_the_same_again_forgets_nothing() -> None:
    seals = Seals(b"one")
    session = seals.new(ANN)
    for _ in range(20):
        seals.adopt(b"two")
        seals.adopt(b"one")
    assert seals.made(session, ANN)


def test_its_text_has_no_secret() -> None:
    assert "tests" not in repr(SEALS)
