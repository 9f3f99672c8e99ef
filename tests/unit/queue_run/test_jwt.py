"""Tokens: which are accepted, and what a client is told about the others."""

import asyncio
import base64
import contextvars
import hashlib
import hmac
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
)
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from queue_run import jwt
from queue_run.errors import Refuse, UsageError
from queue_run.process import context
from tests.processes import ROOT, environment, free_port
from tests.waiting import DEADLINE, eventually, eventually_async

SECRET = "a secret of at least sixty-four bytes, as HS512 asks for: " + "x" * 16
CLAIMS = {"sub": "ann"}
NOW = int(time.time())
HOUR = 3600

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@cache
def rsa_key(name: str = "ours") -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def ec_key(name: str = "ours") -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def public(key: PrivateKey) -> str:
    raw = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return raw.decode()


def token(key: Any = SECRET, algorithm: str = "HS256", kid: str = "", **takes: Any) -> str:
    headers = {"kid": kid} if kid else None
    return pyjwt.encode({**CLAIMS, **takes}, key, algorithm=algorithm, headers=headers)


def unsigned(header: object, takes: object, signature: bytes = b"") -> str:
    """A token put together by hand, as an attacker would."""
    parts = (json.dumps(header).encode(), json.dumps(takes).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def hmac_signed(body: str, secret: str) -> str:
    signature = hmac.new(secret.encode(), body.encode(), hashlib.sha256).digest()
    return f"{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def signed_with_public_key() -> str:
    """The classic confusion: HMAC, with the public key that everybody has as its secret."""
    body = unsigned({"alg": "HS256", "typ": "JWT"}, CLAIMS).rpartition(".")[0]
    return hmac_signed(body, public(rsa_key()))


HMAC: dict[str, Any] = {"key": SECRET, "algorithms": ["HS256"]}


def with_rsa(*algorithms: str) -> dict[str, Any]:
    return {"key": public(rsa_key()), "algorithms": algorithms or ("RS256",)}


def with_ec() -> dict[str, Any]:
    return {"key": public(ec_key()), "algorithms": ["ES256"]}


#: What makes the token, and what `verify` is given with it. Made late: keys take time.
Case = tuple[Callable[[], str], Callable[[], dict[str, Any]]]

GOOD: dict[str, Case] = {
    "HMAC": (token, lambda: HMAC),
    "HMAC with a secret of bytes": (token, lambda: {**HMAC, "key": SECRET.encode()}),
    "HMAC of another size": (
        lambda: token(algorithm="HS512"),
        lambda: {**HMAC, "algorithms": ["HS256", "HS512"]},
    ),
    "RSA": (lambda: token(rsa_key(), "RS256"), with_rsa),
    "RSA-PSS": (lambda: token(rsa_key(), "PS256"), lambda: with_rsa("RS256", "PS256")),
    "EC": (lambda: token(ec_key(), "ES256"), with_ec),
    "not expired": (lambda: token(exp=NOW + HOUR), lambda: HMAC),
    "expired within the leeway": (
        lambda: token(exp=NOW - HOUR),
        lambda: {**HMAC, "leeway": 2 * HOUR},
    ),
    "early within the leeway": (
        lambda: token(nbf=NOW + HOUR),
        lambda: {**HMAC, "leeway": 2 * HOUR},
    ),
    "issued in a moment": (lambda: token(iat=NOW + 4), lambda: HMAC),
    "issued by a clock that is ahead": (
        lambda: token(iat=NOW + HOUR),
        lambda: {**HMAC, "leeway": 2 * HOUR},
    ),
    "its audience": (lambda: token(aud=["shop", "x"]), lambda: {**HMAC, "audience": "shop"}),
    "one of several audiences": (
        lambda: token(aud="shop"),
        lambda: {**HMAC, "audience": ["app", "shop"]},
    ),
    "its issuer": (lambda: token(iss="us"), lambda: {**HMAC, "issuer": "us"}),
    "one of several issuers": (lambda: token(iss="us"), lambda: {**HMAC, "issuer": ["them", "us"]}),
}

MALFORMED = "the token is malformed"
WRONG_ALGORITHM = "the token's algorithm is not allowed"
WRONG_SIGNATURE = "the token's signature is wrong"

BAD: dict[str, tuple[Callable[[], Any], Callable[[], dict[str, Any]], str]] = {
    "None": (lambda: None, lambda: HMAC, "no token"),
    "empty": (lambda: "", lambda: HMAC, "no token"),
    "no token at all": (lambda: "hello", lambda: HMAC, MALFORMED),
    "two dots and nothing": (lambda: "..", lambda: HMAC, MALFORMED),
    "not base64": (lambda: "!!!.!!!.!!!", lambda: HMAC, MALFORMED),
    "not ASCII": (lambda: "é.é.é", lambda: HMAC, MALFORMED),
    "half a character": (lambda: "\ud800", lambda: HMAC, MALFORMED),
    "a number": (lambda: 7, lambda: HMAC, MALFORMED),
    "zero": (lambda: 0, lambda: HMAC, MALFORMED),
    "a header that is a list": (lambda: unsigned([], CLAIMS), lambda: HMAC, MALFORMED),
    "claims that are a list": (
        lambda: pyjwt.api_jws.encode(b"[]", SECRET, algorithm="HS256"),
        lambda: HMAC,
        MALFORMED,
    ),
    "cut short": (lambda: token()[:-3], lambda: HMAC, WRONG_SIGNATURE),
    "without a signature": (
        lambda: token().rpartition(".")[0] + ".",
        lambda: HMAC,
        WRONG_SIGNATURE,
    ),
    "other claims": (
        lambda: ".".join((token().split(".")[0], token(sub="bob").split(".")[1], "AAAA")),
        lambda: HMAC,
        WRONG_SIGNATURE,
    ),
    "another secret": (lambda: token("y" * 64), lambda: HMAC, WRONG_SIGNATURE),
    "another RSA key": (lambda: token(rsa_key("theirs"), "RS256"), with_rsa, WRONG_SIGNATURE),
    "another EC key": (lambda: token(ec_key("theirs"), "ES256"), with_ec, WRONG_SIGNATURE),
    "an algorithm not on the list": (
        lambda: token(algorithm="HS512"),
        lambda: HMAC,
        WRONG_ALGORITHM,
    ),
    "no algorithm": (lambda: unsigned({"typ": "JWT"}, CLAIMS), lambda: HMAC, WRONG_ALGORITHM),
    "none": (lambda: unsigned({"alg": "none"}, CLAIMS), lambda: HMAC, WRONG_ALGORITHM),
    "NONE": (lambda: unsigned({"alg": "NONE"}, CLAIMS), with_rsa, WRONG_ALGORITHM),
    "none, with a public key": (
        lambda: unsigned({"alg": "none"}, CLAIMS),
        with_rsa,
        WRONG_ALGORITHM,
    ),
    "HMAC with the public key as secret": (signed_with_public_key, with_rsa, WRONG_ALGORITHM),
    "expired": (lambda: token(exp=NOW - HOUR), lambda: HMAC, "the token has expired"),
    "expired beyond the leeway": (
        lambda: token(exp=NOW - 2 * HOUR),
        lambda: {**HMAC, "leeway": HOUR},
        "the token has expired",
    ),
    "an expiry that is no time": (lambda: token(exp="soon"), lambda: HMAC, MALFORMED),
    "an expiry that is a list": (lambda: token(exp=[]), lambda: HMAC, MALFORMED),
    "an expiry without end": (lambda: token(exp=float("inf")), lambda: HMAC, MALFORMED),
    "an expiry beyond all numbers": (lambda: token(exp=10**400), lambda: HMAC, MALFORMED),
    "early": (lambda: token(nbf=NOW + HOUR), lambda: HMAC, "the token is not valid yet"),
    "issued in the future": (
        lambda: token(iat=NOW + HOUR),
        lambda: HMAC,
        "the token is not valid yet",
    ),
    "issued at no time": (lambda: token(iat="soon"), lambda: HMAC, MALFORMED),
    "issued at a list": (lambda: token(iat=[1]), lambda: HMAC, MALFORMED),
    "issued never": (lambda: token(iat=float("nan")), lambda: HMAC, MALFORMED),
    **{
        f"about {subject!r}": (partial(token, sub=subject), lambda: HMAC, MALFORMED)
        for subject in (None, True, 1.5, [7], {"id": 7}, float("inf"))
    },
    "another audience": (
        lambda: token(aud="bank"),
        lambda: {**HMAC, "audience": "shop"},
        "the token is for another audience",
    ),
    "an audience that nobody asked for": (
        lambda: token(aud="bank"),
        lambda: HMAC,
        "the token is for another audience",
    ),
    "no audience": (token, lambda: {**HMAC, "audience": "shop"}, 'the token has no "aud"'),
    "another issuer": (
        lambda: token(iss="them"),
        lambda: {**HMAC, "issuer": "us"},
        "the token is from another issuer",
    ),
    "no issuer": (token, lambda: {**HMAC, "issuer": "us"}, 'the token has no "iss"'),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_token_gives_its_claims(name: str) -> None:
    made, options = GOOD[name]
    assert jwt.verify(made(), **options())["sub"] == "ann"


@pytest.mark.parametrize(
    ("subject", "text"), [(7, "7"), (0, "0"), (-1, "-1"), (7.0, "7"), (2**70, str(2**70))]
)
def test_a_number_as_subject_is_given_as_text(subject: float, text: str) -> None:
    assert jwt.verify(token(sub=subject), **HMAC)["sub"] == text


def test_a_token_without_a_subject_is_good_for_what_it_says() -> None:
    assert jwt.verify(pyjwt.encode({"a": 1}, SECRET, "HS256"), **HMAC) == {"a": 1}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_token_is_refused_with_a_reason(name: str) -> None:
    made, options, reason = BAD[name]
    with pytest.raises(Refuse) as caught:
        jwt.verify(made(), **options())
    assert (caught.value.status, caught.value.reason) == (401, reason)


async def test_asynchronous_code_gets_the_same_answers() -> None:
    assert (await jwt.verify_async(token(), **HMAC))["sub"] == "ann"
    for made, options, reason in BAD.values():
        with pytest.raises(Refuse) as caught:
            await jwt.verify_async(made(), **options())
        assert (caught.value.status, caught.value.reason) == (401, reason)


def test_a_refusal_keeps_pyjwt_s_error_as_its_cause() -> None:
    with pytest.raises(Refuse) as caught:
        jwt.verify(token(exp=NOW - HOUR), **HMAC)
    assert isinstance(caught.value.__cause__, pyjwt.ExpiredSignatureError)


MISTAKES: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "none": (lambda: {"key": SECRET, "algorithms": ["none"]}, "'none' is not accepted"),
    "none among others": (
        lambda: {"key": SECRET, "algorithms": ["HS256", "none"]},
        "'none' is not accepted",
    ),
    "unknown algorithm": (
        lambda: {"key": SECRET, "algorithms": ["HS257"]},
        "'HS257' is not accepted; these are: ES256, ",
    ),
    "no algorithms": (lambda: {"key": SECRET, "algorithms": []}, "algorithms lists those"),
    "an algorithm without a list": (
        lambda: {"key": SECRET, "algorithms": "HS256"},
        "algorithms lists those",
    ),
    "no key": (lambda: {"key": "", "algorithms": ["HS256"]}, "key of jwt.verify is empty"),
    "a key of None": (lambda: {"key": None, "algorithms": ["HS256"]}, "key of jwt.verify is empty"),
    "HMAC and a public key": (
        lambda: {"key": public(rsa_key()), "algorithms": ["RS256", "HS256"]},
        "a public key does not go with HS256",
    ),
    "HMAC alone and a public key": (
        lambda: {"key": public(ec_key()), "algorithms": ["HS256"]},
        "a public key does not go with HS256",
    ),
    "HMAC and a JWKS": (
        lambda: {"key": jwt.JWKS("http://127.0.0.1:1/"), "algorithms": ["RS256", "HS512"]},
        "a JWKS does not go with HS512",
    ),
    "RSA and a secret": (
        lambda: {"key": SECRET, "algorithms": ["RS256"]},
        "a secret does not go with RS256",
    ),
    "EC and an RSA key": (
        lambda: {"key": public(rsa_key()), "algorithms": ["RS256", "ES256"]},
        "the key cannot be used with ES256",
    ),
    "a key that is broken": (
        lambda: {
            "key": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
            "algorithms": ["RS256"],
        },
        "the key cannot be used with RS256",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
@pytest.mark.parametrize("presented", [None, "hello", token()], ids=["none", "bad", "good"])
def test_a_mistake_of_the_author_is_reported_whatever_the_token(
    name: str, presented: str | None
) -> None:
    options, text = MISTAKES[name]
    with pytest.raises(UsageError) as caught:
        jwt.verify(presented, **options())
    assert text in str(caught.value)


def test_a_token_that_expires_ends_the_connection_then() -> None:
    with context.collecting_expiry() as expiry:
        jwt.verify(token(exp=NOW + HOUR), **HMAC)
        jwt.verify(token(exp=NOW + 2 * HOUR), **HMAC)
        jwt.verify(token(), **HMAC)
    assert expiry.at == NOW + HOUR


def test_the_leeway_also_delays_the_end_of_the_connection() -> None:
    with context.collecting_expiry() as expiry:
        jwt.verify(token(exp=NOW - 10), leeway=HOUR, **HMAC)
    assert expiry.at == NOW - 10 + HOUR


def test_a_token_without_expiry_and_one_refused_do_not_end_the_connection() -> None:
    with context.collecting_expiry() as expiry:
        jwt.verify(token(), **HMAC)
        with pytest.raises(Refuse):
            jwt.verify(token("y" * 64, exp=NOW + HOUR), **HMAC)
    assert expiry.at is None


def test_an_expiry_is_heard_of_from_a_thread_with_the_context() -> None:
    with context.collecting_expiry() as expiry:
        thread = threading.Thread(
            target=contextvars.copy_context().run,
            args=(lambda: jwt.verify(token(exp=NOW + HOUR), **HMAC),),
        )
        thread.start()
        thread.join()
    assert expiry.at == NOW + HOUR


# JWKS


class Issuer:
    """Publishes public keys on loopback, and counts how often they are asked for."""

    def __init__(self) -> None:
        self.requests = 0
        self.status = 200
        self.body = b""
        #: Clear it, and the issuer does not answer until it is set.
        self.answers = threading.Event()
        self.answers.set()
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.requests += 1
                issuer.answers.wait(60)
                self.send_response(issuer.status)
                self.send_header("Content-Length", str(len(issuer.body)))
                self.end_headers()
                self.wfile.write(issuer.body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/jwks.json"

    def publish(self, **keys: PrivateKey) -> None:
        self.publish_raw(*(jwk(key, kid) for kid, key in keys.items()))

    def publish_raw(self, *keys: dict[str, Any]) -> None:
        self.body = json.dumps({"keys": keys}).encode()

    def end(self) -> None:
        self.answers.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def jwk(key: PrivateKey, kid: str) -> dict[str, Any]:
    if isinstance(key, rsa.RSAPrivateKey):
        made, algorithm = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "RS256"
    else:
        made, algorithm = ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "ES256"
    return {**made, "kid": kid, "use": "sig", "alg": algorithm}


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    issuer = Issuer()
    issuer.publish(a=rsa_key(), e=ec_key())
    yield issuer
    issuer.end()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(jwt, "monotonic", clock)
    return clock


def by(keys: jwt.JWKS, *algorithms: str) -> dict[str, Any]:
    return {"key": keys, "algorithms": algorithms or ("RS256", "ES256")}


def refusal(presented: str, **options: Any) -> tuple[int, str]:
    with pytest.raises(Refuse) as caught:
        jwt.verify(presented, **options)
    return caught.value.status, caught.value.reason


def test_published_keys_are_fetched_once_for_many_tokens(issuer: Issuer) -> None:
    keys = jwt.JWKS(issuer.url)
    assert issuer.requests == 0
    for _ in range(5):
        assert jwt.verify(token(rsa_key(), "RS256", kid="a"), **by(keys))["sub"] == "ann"
        assert jwt.verify(token(ec_key(), "ES256", kid="e"), **by(keys))["sub"] == "ann"
    assert issuer.requests == 1


def test_published_keys_are_fetched_again_after_their_lifespan(
    issuer: Issuer, clock: Clock
) -> None:
    keys = jwt.JWKS(issuer.url, lifespan=60)
    for after, requests in ((0, 1), (59, 1), (1, 2), (59, 2)):
        clock.now += after
        jwt.verify(token(rsa_key(), "RS256", kid="a"), **by(keys))
        assert issuer.requests == requests


def test_a_withdrawn_key_stops_working_after_the_lifespan(issuer: Issuer, clock: Clock) -> None:
    keys = jwt.JWKS(issuer.url, lifespan=60)
    old = token(rsa_key(), "RS256", kid="a")
    jwt.verify(old, **by(keys))
    issuer.publish(b=rsa_key("new"))
    jwt.verify(old, **by(keys))
    clock.now += 60
    assert refusal(old, **by(keys)) == (401, "the token's key is unknown")


def test_a_new_key_works_as_soon_as_the_cooldown_is_over(issuer: Issuer, clock: Clock) -> None:
    keys = jwt.JWKS(issuer.url, cooldown=10)
    jwt.verify(token(rsa_key(), "RS256", kid="a"), **by(keys))
    issuer.publish(a=rsa_key(), b=rsa_key("new"))
    fresh = token(rsa_key("new"), "RS256", kid="b")
    clock.now += 9
    assert refusal(fresh, **by(keys)) == (401, "the token's key is unknown")
    assert issuer.requests == 1
    clock.now += 1
    assert jwt.verify(fresh, **by(keys))["sub"] == "ann"
    assert issuer.requests == 2


def test_tokens_with_invented_keys_do_not_flood_the_issuer(issuer: Issuer, clock: Clock) -> None:
    keys = jwt.JWKS(issuer.url)
    for number in range(20):
        invented = token(rsa_key("theirs"), "RS256", kid=f"x{number}")
        assert refusal(invented, **by(keys)) == (401, "the token's key is unknown")
    assert issuer.requests == 1


def test_a_token_that_names_no_key_asks_the_issuer_nothing(issuer: Issuer) -> None:
    keys = jwt.JWKS(issuer.url)
    expected = (401, "the token does not name its key")
    assert refusal(token(rsa_key(), "RS256"), **by(keys)) == expected
    assert refusal("hello", **by(keys)) == (401, MALFORMED)
    assert refusal(unsigned({"alg": "RS256", "kid": 7}, CLAIMS), **by(keys)) == (401, MALFORMED)
    assert issuer.requests == 0


def test_a_token_of_another_key_than_it_names_is_refused(issuer: Issuer) -> None:
    keys = jwt.JWKS(issuer.url)
    forged = token(rsa_key("theirs"), "RS256", kid="a")
    assert refusal(forged, **by(keys)) == (401, WRONG_SIGNATURE)


def test_a_published_key_serves_only_algorithms_on_the_list(issuer: Issuer) -> None:
    keys = jwt.JWKS(issuer.url)
    good = token(rsa_key(), "RS256", kid="a")
    assert refusal(good, **by(keys, "ES256")) == (401, WRONG_ALGORITHM)
    unsecured = unsigned({"alg": "none", "kid": "a"}, CLAIMS)
    assert refusal(unsecured, **by(keys)) == (401, WRONG_ALGORITHM)
    crossed = unsigned({"alg": "ES256", "kid": "a"}, CLAIMS, b"x" * 64)
    assert refusal(crossed, **by(keys))[0] == 401


def test_a_published_secret_serves_for_nothing(issuer: Issuer) -> None:
    issuer.publish_raw(
        jwk(rsa_key(), "a"),
        {"kty": "oct", "kid": "s", "k": base64.urlsafe_b64encode(SECRET.encode()).decode()},
    )
    keys = jwt.JWKS(issuer.url)
    assert refusal(token(kid="s"), **by(keys)) == (401, WRONG_ALGORITHM)
    body = unsigned({"alg": "RS256", "kid": "s"}, CLAIMS).rpartition(".")[0]
    assert refusal(hmac_signed(body, SECRET), **by(keys)) == (401, WRONG_ALGORITHM)


def test_a_published_key_for_encryption_serves_for_nothing(issuer: Issuer) -> None:
    issuer.publish_raw({**jwk(rsa_key(), "a"), "use": "enc"})
    presented = token(rsa_key(), "RS256", kid="a")
    assert refusal(presented, **by(jwt.JWKS(issuer.url))) == (401, "the token's key is unknown")


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b"{}"), (200, b"<html>"), (200, b"[]"), (200, b"{}"), (200, b'{"keys": 7}')],
)
def test_an_issuer_that_gives_no_keys_is_not_the_client_s_fault(
    issuer: Issuer, status: int, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    issuer.status, issuer.body = status, body
    presented = token(rsa_key(), "RS256", kid="a")
    expected = (503, "tokens cannot be checked now")
    assert refusal(presented, **by(jwt.JWKS(issuer.url))) == expected
    assert f"no keys from {issuer.url}" in caplog.text


def test_an_issuer_that_is_away_is_asked_again_only_after_a_pause(
    issuer: Issuer, clock: Clock
) -> None:
    keys = jwt.JWKS(issuer.url)
    presented = token(rsa_key(), "RS256", kid="a")
    issuer.status = 500
    for _ in range(3):
        assert refusal(presented, **by(keys))[0] == 503
    assert issuer.requests == 1
    issuer.status = 200
    clock.now += jwt.RETRY_AFTER
    assert jwt.verify(presented, **by(keys))["sub"] == "ann"


def test_nobody_at_the_url_is_not_the_client_s_fault() -> None:
    keys = jwt.JWKS(f"http://127.0.0.1:{free_port()}/")
    assert refusal(token(rsa_key(), "RS256", kid="a"), **by(keys))[0] == 503


def test_an_issuer_that_does_not_answer_is_given_up(issuer: Issuer) -> None:
    issuer.answers.clear()
    keys = jwt.JWKS(issuer.url, timeout=0.05)
    assert refusal(token(rsa_key(), "RS256", kid="a"), **by(keys))[0] == 503


def test_invented_keys_and_a_slow_issuer_hold_up_no_known_key(issuer: Issuer) -> None:
    keys = jwt.JWKS(issuer.url, timeout=60, cooldown=0)
    good = token(rsa_key(), "RS256", kid="a")
    assert jwt.verify(good, **by(keys))["sub"] == "ann"
    issuer.answers.clear()
    invented = threading.Thread(
        target=refusal, args=(token(rsa_key(), "RS256", kid="x"),), kwargs=by(keys)
    )
    invented.start()
    eventually(lambda: issuer.requests == 2, what="another request for keys")
    assert jwt.verify(good, **by(keys))["sub"] == "ann"
    assert invented.is_alive()
    issuer.answers.set()
    invented.join(DEADLINE)


@pytest.mark.parametrize("leeway", [float("nan"), float("inf"), -1])
def test_a_leeway_with_which_no_token_would_end_is_refused(leeway: float) -> None:
    with pytest.raises(UsageError, match="leeway is a number of seconds"):
        jwt.verify(None, **{**HMAC, "leeway": leeway})


async def test_the_loop_goes_on_while_keys_are_fetched(issuer: Issuer) -> None:
    issuer.answers.clear()
    keys = jwt.JWKS(issuer.url, timeout=60)
    presented = token(rsa_key(), "RS256", kid="a", exp=NOW + HOUR)
    with context.collecting_expiry() as expiry:
        waiting = asyncio.create_task(jwt.verify_async(presented, **by(keys)))
        await eventually_async(lambda: issuer.requests, what="a request for the keys")
        assert not waiting.done()
        issuer.answers.set()
        assert (await waiting)["sub"] == "ann"
    assert expiry.at == NOW + HOUR


async def test_asynchronous_code_is_told_not_to_block_its_loop(issuer: Issuer) -> None:
    with pytest.raises(UsageError, match=r"await jwt\.verify_async"):
        jwt.verify(token(rsa_key(), "RS256", kid="a"), **by(jwt.JWKS(issuer.url)))
    assert issuer.requests == 0


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("file:///etc/hosts", {}),
        ("example.com/jwks.json", {}),
        ("https://example.com", {"lifespan": 0}),
        ("https://example.com", {"timeout": 0}),
        ("https://example.com", {"cooldown": -1}),
    ],
)
def test_a_jwks_that_cannot_work_is_refused_at_once(url: str, options: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        jwt.JWKS(url, **options)


@pytest.mark.parametrize("statement", ["from queue_run import jwt", "import queue_run.jwt"])
def test_without_pyjwt_the_error_says_what_to_install(statement: str) -> None:
    code = f"import sys; sys.modules['jwt'] = None; {statement}"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "ImportError: queue_run.jwt needs PyJWT: pip install 'queue-run[jwt]'" in result.stderr


def test_queue_run_itself_does_not_load_pyjwt() -> None:
    code = "import sys, queue_run; sys.exit('jwt' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], env=environment(), cwd=ROOT, check=True)
