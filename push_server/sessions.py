"""Session ids: secrets of clients, each bound to the user for whom it was made. Pure."""

import hashlib
import secrets

from queue_run.ids import UserId


def new_session(user: UserId | None) -> str:
    """A session id that nobody can guess."""
    secret = secrets.token_urlsafe(16)
    return f"{secret}.{_seal(secret, user)}"


def belongs_to(session: str, user: UserId | None) -> bool:
    """Whether the session was made for this user.

    It cannot be forged into another's: with another seal it is another session.
    """
    secret, _, seal = session.partition(".")
    return secrets.compare_digest(seal.encode(), _seal(secret, user).encode())


def _seal(secret: str, user: UserId | None) -> str:
    # A user's id is never empty.
    return hashlib.blake2b(f"{secret} {user or ''}".encode(), digest_size=6).hexdigest()
