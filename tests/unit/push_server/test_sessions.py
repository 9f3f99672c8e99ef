"""Session ids: nobody guesses them, and nobody takes another user's."""

import pytest

from push_server.sessions import belongs_to, new_session
from queue_run.ids import UserId

ANN, BOB = UserId("ann"), UserId("bob")


@pytest.mark.parametrize("user", [ANN, UserId("ü"), UserId("a b"), None])
def test_a_session_belongs_to_the_user_for_whom_it_was_made(user: UserId | None) -> None:
    session = new_session(user)
    assert belongs_to(session, user)
    assert not belongs_to(session, BOB)


def test_an_anonymous_session_is_nobody_elses() -> None:
    assert not belongs_to(new_session(None), ANN)
    assert not belongs_to(new_session(ANN), None)


def test_sessions_are_never_the_same() -> None:
    sessions = [new_session(ANN) for _ in range(1000)]
    assert len(set(sessions)) == 1000
    # 16 bytes of chance.
    assert min(len(session.partition(".")[0]) for session in sessions) >= 22


def test_another_users_seal_makes_another_session() -> None:
    anns, bobs = new_session(ANN), new_session(BOB)
    forged = f"{anns.partition('.')[0]}.{bobs.partition('.')[2]}"
    assert not belongs_to(forged, ANN)
    assert not belongs_to(forged, BOB)


@pytest.mark.parametrize("text", ["", ".", "no seal", "a.b.c", "ü.ü", "x" * 100_000])
def test_what_is_no_session_belongs_to_nobody(text: str) -> None:
    assert not belongs_to(text, ANN)
    assert not belongs_to(text, None)
