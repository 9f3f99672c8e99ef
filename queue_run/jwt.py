"""Users from JSON Web Tokens: `from queue_run import jwt`, in `on_authenticate`.

The rule of this file: everything that a client can put into a token ends in `Refuse`. Everything
that the application's author must correct ends in `UsageError`, whichever token comes first. So the
key and the algorithms are checked against each other before the token is looked at.
"""

import asyncio
import http.client
import logging
import math
import threading
from collections.abc import Sequence
from functools import lru_cache
from time import monotonic, time
from typing import Any

from queue_run.errors import Refuse, UsageError
from queue_run.process.context import expire_connection
from queue_run.threads.downloads import Download

try:
    import jwt as pyjwt
except ImportError as error:
    raise ImportError("queue_run.jwt needs PyJWT: pip install 'queue-run[jwt]'") from error

from jwt.algorithms import get_default_algorithms
from jwt.utils import is_pem_format, is_ssh_key

__all__ = ["JWKS", "verify", "verify_async"]

log = logging.getLogger(__name__)

#: The algorithms whose secret both signs and verifies; all others verify with a public key.
HMAC = frozenset({"HS256", "HS384", "HS512"})
#: Algorithms with a public key. PyJWT has all of them only together with cryptography.
PUBLIC_KEY = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)
#: Seconds for which keys that could not be fetched are not asked for again.
RETRY_AFTER = 1.0

#: Seconds by which the clock of a token's issuer may always be ahead of ours, even with a smaller
#: `leeway`: a token that was made a moment ago must not count as one of the future.
ISSUED_LEEWAY = 5.0

#: The reasons that the client gets: enough to act on, nothing about the key.
REASONS: dict[type[pyjwt.PyJWTError], str] = {
    pyjwt.ExpiredSignatureError: "the token has expired",
    pyjwt.ImmatureSignatureError: "the token is not valid yet",
    pyjwt.InvalidAudienceError: "the token is for another audience",
    pyjwt.InvalidIssuerError: "the token is from another issuer",
    pyjwt.InvalidAlgorithmError: "the token's algorithm is not allowed",
    pyjwt.InvalidSignatureError: "the token's signature is wrong",
}

#: The errors that PyJWT raises for a token that it cannot use; odd claims cause the last four.
TOKEN_ERRORS = (pyjwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)


class JWKS:
    """The public keys that an issuer publishes at a URL, fetched when a token needs them.

    Make one `JWKS` for the life of the process. It holds the keys for `lifespan` seconds. A token
    whose key is not among them makes it fetch the keys again, so that a new key works soon. This
    happens at most every `cooldown` seconds, so that invented tokens cannot flood the issuer. A key
    that names no algorithm is taken for RS256, or for the algorithm of its curve.

    Args:
        url: for example `https://example.com/.well-known/jwks.json`.
        lifespan: seconds for which keys are held; a withdrawn key works until then.
        timeout: seconds for the issuer's whole answer.
        cooldown: seconds for which a key that was not found is not asked for again.

    Raises:
        UsageError: for a URL or a time that cannot be used.
    """

    def __init__(
        self, url: str, *, lifespan: float = 300.0, timeout: float = 5.0, cooldown: float = 10.0
    ) -> None:
        if not url.startswith(("https://", "http://")):
            raise UsageError(f"a JWKS URL begins with https:// or http://, not {url!r}")
        if lifespan <= 0 or timeout <= 0 or cooldown < 0:
            raise UsageError(
                "lifespan and timeout of a JWKS are positive, cooldown is not negative"
            )
        self.url = url
        self._lifespan = lifespan
        self._cooldown = cooldown
        self._download = Download(url, timeout)
        self._lock = threading.Lock()
        self._keys: dict[str, pyjwt.PyJWK] = {}
        self._fetched_at = -math.inf
        self._retry_at = -math.inf

    def __repr__(self) -> str:
        return f"JWKS({self.url!r})"

    def find(self, key_id: str) -> pyjwt.PyJWK | None:
        """Find the key with this id. Blocks while keys are fetched.

        Returns:
            None if the issuer has no such key.

        Raises:
            Refuse: with status 503, when the keys cannot be fetched.
        """
        # Invented keys, and a slow issuer, must not hold up tokens with known keys.
        known = self._keys.get(key_id)
        if known is not None and monotonic() - self._fetched_at < self._lifespan:
            return known
        with self._lock:
            age = monotonic() - self._fetched_at
            if age >= self._lifespan or (key_id not in self._keys and age >= self._cooldown):
                self._fetch()
            return self._keys.get(key_id)

    def _fetch(self) -> None:
        if monotonic() < self._retry_at:
            raise Refuse(503, "tokens cannot be checked now")
        try:
            keys = pyjwt.PyJWKSet.from_json(self._download.fetch().decode()).keys
        except (*TOKEN_ERRORS, AttributeError, OSError, http.client.HTTPException) as error:
            self._retry_at = monotonic() + RETRY_AFTER
            log.error("no keys from %s: %s", self.url, error)
            raise Refuse(503, "tokens cannot be checked now") from error
        self._keys = {
            key.key_id: key for key in keys if key.key_id and key.public_key_use in ("sig", None)
        }
        self._fetched_at = monotonic()


def verify(
    token: str | None,
    *,
    key: str | bytes | JWKS,
    algorithms: Sequence[str],
    audience: str | Sequence[str] | None = None,
    issuer: str | Sequence[str] | None = None,
    leeway: float = 0.0,
) -> dict[str, Any]:
    """Verify a token, and return its claims if it is genuine and valid now.

    When the token has an expiry (`exp`), the connection that is being authenticated is closed at
    that time. The times in a token (`exp`, `nbf`, `iat`) are always checked. A token with an
    audience is refused unless `audience` is given.

    With a `JWKS` this function may block while keys are fetched, so asynchronous code uses
    `verify_async`.

    Args:
        token: as the client gave it; None for a client without a token.
        key: a secret (HS…), a public key in PEM form (RS…, PS…, ES…, EdDSA), or a `JWKS`.
        algorithms: the algorithms that you accept, for example `["RS256"]`. The token cannot choose
            another one.
        audience: the token must be for this audience, or for one of these.
        issuer: the token must be from this issuer, or from one of these.
        leeway: seconds by which clocks may differ; they also delay the end of the connection.

    Returns:
        The claims. `sub` is text, also where the issuer numbers its users.

    Raises:
        Refuse: with status 401 and a reason for the client; with 503 when the keys of a `JWKS`
            cannot be fetched.
        UsageError: for a key and algorithms that do not belong together, for a leeway that is not a
            number of seconds from 0, or with a `JWKS` on an event loop.
    """
    checked_key = _checked_key(key, algorithms, leeway)
    if isinstance(checked_key, JWKS):
        if _on_event_loop():
            raise UsageError(
                "jwt.verify with a JWKS would block the event loop: await jwt.verify_async(...)"
            )
        checked_key = _found(checked_key, _key_id(token), algorithms)
    return _claims(_text(token), checked_key, algorithms, audience, issuer, leeway)


async def verify_async(
    token: str | None,
    *,
    key: str | bytes | JWKS,
    algorithms: Sequence[str],
    audience: str | Sequence[str] | None = None,
    issuer: str | Sequence[str] | None = None,
    leeway: float = 0.0,
) -> dict[str, Any]:
    """Verify a token in asynchronous code, as `verify` does.

    Arguments, result and errors are those of `verify`. A `JWKS` is allowed here: its keys are
    fetched in a thread.
    """
    checked_key = _checked_key(key, algorithms, leeway)
    if isinstance(checked_key, JWKS):
        checked_key = await asyncio.to_thread(_found, checked_key, _key_id(token), algorithms)
    return _claims(_text(token), checked_key, algorithms, audience, issuer, leeway)


def _claims(
    token: str,
    key: Any,
    algorithms: Sequence[str],
    audience: str | Sequence[str] | None,
    issuer: str | Sequence[str] | None,
    leeway: float,
) -> dict[str, Any]:
    try:
        claims: dict[str, Any] = pyjwt.decode(
            token,
            key,
            algorithms=list(algorithms),
            audience=audience,
            issuer=issuer,
            leeway=leeway,
            # PyJWT accepts only a text as `sub`, and only `leeway` as the tolerance for `iat`.
            options={"verify_sub": False, "verify_iat": False},
        )
        _check_issued(claims, max(leeway, ISSUED_LEEWAY))
        if "sub" in claims:
            claims["sub"] = _subject(claims["sub"])
        expiry = float(claims["exp"]) + leeway if "exp" in claims else None
    except TOKEN_ERRORS as error:
        raise Refuse(401, _reason(error)) from error
    if expiry is not None:
        expire_connection(expiry)
    return claims


def _check_issued(claims: dict[str, Any], leeway: float) -> None:
    if "iat" in claims and int(claims["iat"]) > time() + leeway:
        raise pyjwt.ImmatureSignatureError


def _subject(found: object) -> str:
    """Convert the subject of a token (`sub`) into text: many issuers number their users."""
    if isinstance(found, str):
        return found
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    if isinstance(found, float) and found.is_integer():
        # JSON's 7.0 and 1e3 are whole numbers, however they are written.
        return str(int(found))
    raise pyjwt.InvalidTokenError


def _text(token: object) -> str:
    """Check that a token can be one at all: in a client's JSON it may be a value of any type."""
    if token is None or token == "":
        raise Refuse(401, "no token")
    if not isinstance(token, str) or not token.isascii():
        raise Refuse(401, "the token is malformed")
    return token


def _key_id(token: str | None) -> str:
    """Read the id of the key that a token says it was signed with. It is not verified yet."""
    text = _text(token)
    try:
        found = pyjwt.get_unverified_header(text).get("kid")
    except TOKEN_ERRORS as error:
        raise Refuse(401, _reason(error)) from error
    if not isinstance(found, str) or not found:
        raise Refuse(401, "the token does not name its key")
    return found


def _found(keys: JWKS, key_id: str, algorithms: Sequence[str]) -> pyjwt.PyJWK:
    key = keys.find(key_id)
    if key is None:
        raise Refuse(401, "the token's key is unknown")
    if key.algorithm_name not in algorithms:
        raise Refuse(401, "the token's algorithm is not allowed")
    return key


def _reason(error: Exception) -> str:
    if isinstance(error, pyjwt.MissingRequiredClaimError):
        return f'the token has no "{error.claim}"'
    for kind, reason in REASONS.items():
        if isinstance(error, kind):
            return reason
    return "the token is malformed"


def _checked_key(key: str | bytes | JWKS, algorithms: Sequence[str], leeway: float) -> Any:
    """Prepare the key for use with each of the algorithms.

    Raises:
        UsageError: when an algorithm is unknown, or does not belong to the key; and for a leeway
            that is not a finite number of seconds from 0.
    """
    if not 0 <= leeway < math.inf:
        raise UsageError(f"leeway is a number of seconds from 0, not {leeway!r}")
    if isinstance(algorithms, str) or not algorithms:
        raise UsageError('algorithms lists those that you accept, for example ["RS256"]')
    return _prepared(key, tuple(algorithms))


@lru_cache(maxsize=32)
def _prepared(key: str | bytes | JWKS, algorithms: tuple[str, ...]) -> Any:
    for name in algorithms:
        if name not in HMAC | PUBLIC_KEY:
            known = ", ".join(sorted(HMAC | PUBLIC_KEY))
            raise UsageError(f"the algorithm {name!r} is not accepted; these are: {known}")
    if not isinstance(key, JWKS) and not key:
        raise UsageError("the key of jwt.verify is empty: is a variable not set?")
    _refuse_confusion(key, algorithms)
    if isinstance(key, JWKS):
        return key
    available = get_default_algorithms()
    for name in algorithms:
        if name not in available:
            raise UsageError(f"{name} needs cryptography: pip install 'queue-run[jwt]'")
        try:
            prepared = available[name].prepare_key(key)
        except (pyjwt.InvalidKeyError, ValueError, TypeError) as error:
            raise UsageError(f"the key cannot be used with {name}: {error}") from error
    return prepared


def _refuse_confusion(key: str | bytes | JWKS, algorithms: tuple[str, ...]) -> None:
    """Refuse a public key as an HMAC secret: everybody has it (RFC 8725, 3.1)."""
    if isinstance(key, JWKS):
        public, what = True, "a JWKS"
    else:
        raw = key.encode() if isinstance(key, str) else key
        public = is_pem_format(raw) or is_ssh_key(raw)
        what = "a public key" if public else "a secret"
    allowed = PUBLIC_KEY if public else HMAC
    wrong = [name for name in algorithms if name not in allowed]
    if wrong:
        raise UsageError(
            f"{what} does not go with {', '.join(wrong)}: use {', '.join(sorted(allowed))}"
        )


def _on_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
