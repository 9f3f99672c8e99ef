"""Session ids: made here, sealed, and each bound to the user for whom it was made. Pure.

A client can present any text as its session. Only one that a push server of this application has
made becomes a part of a key in Redis.
"""

import hmac
import secrets

from queue_run.contracts.ids import UserId

#: Characters of a session id, at most.
MAX_LENGTH = 64
#: Former secrets that are still known, so that sessions go on when the secret has changed.
KNOWN_SECRETS = 4
#: Bytes of a seal: as hard to guess as the rest of the id.
_SEAL_SIZE = 16


class Seals:
    """Makes session ids, and knows those that were made with the same secret."""

    def __init__(self, secret: bytes) -> None:
        #: The one in force first.
        self._secrets = [secret]

    @property
    def secret(self) -> bytes:
        """The secret with which ids are sealed now."""
        return self._secrets[0]

    def adopt(self, secret: bytes) -> None:
        """Seal with another secret from now on; what was sealed before stays known."""
        others = [each for each in self._secrets if each != secret]
        self._secrets = [secret, *others[:KNOWN_SECRETS]]

    def new(self, user: UserId | None) -> str:
        """A session id that nobody can guess, and nobody else can make."""
        chance = secrets.token_urlsafe(16)
        return f"{chance}.{_seal(self.secret, chance, user)}"

    def made(self, session: str, user: UserId | None) -> bool:
        """Check that a session id was made for this user, with a secret that is known here."""
        if len(session) > MAX_LENGTH or not session.isascii():
            return False
        chance, _, seal = session.partition(".")
        found = False
        for secret in self._secrets:
            # All are compared, each to its end: the time that this takes tells nothing.
            found |= hmac.compare_digest(seal, _seal(secret, chance, user))
        return found

    def __repr__(self) -> str:
        return f"<Seals: {len(self._secrets)} secrets>"


def _seal(secret: bytes, chance: str, user: UserId | None) -> str:
    # A user's id is never empty.
    return hmac.digest(secret, f"{chance} {user or ''}".encode(), "sha256")[:_SEAL_SIZE].hex()
