"""Asks the push server whether it can answer, and says what is missing meanwhile."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping

from queue_run.cli.supervision.keeper import ProcessState

POLL = 0.1
PROBE_TIMEOUT = 5.0
#: After this long without a result, say what is being waited for; then each time it changes.
PATIENCE = 10.0

WAITING = {
    ProcessState.PAUSED: "to start again",
    ProcessState.AWAITING_CHANGE: "for a change that mends the application (see above)",
}


def reachable_host(host: str) -> str:
    """The address under which this machine reaches a server that listens on `host`."""
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


async def wait_until_ready(
    host: str,
    port: int,
    *,
    states: Callable[[], Mapping[str, ProcessState]],
    say: Callable[[str], None],
) -> None:
    """Wait until `GET /readyz` is answered with 200, for as long as it takes."""
    said, patience_ends = "", time.monotonic() + PATIENCE
    while (answer := await probe(host, port)) is not None:
        missing = describe_missing(answer, states())
        if time.monotonic() > patience_ends and missing != said:
            say(f"not ready yet: {missing}")
            said = missing
        await asyncio.sleep(POLL)


async def probe(host: str, port: int) -> str | None:
    """Ask the push server if it is ready: None if so, else its answer or why there is no answer."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT):
            status, body = await _get_readyz(host, port)
    except TimeoutError:
        return "the push server does not answer"
    except OSError:
        return "the push server does not listen yet"
    return None if status == 200 else _missing(body) or f"the push server answers {status}"


def describe_missing(answer: str, states: Mapping[str, ProcessState]) -> str:
    """Say in one line what is missing: programs that do not run, else the push server's answer."""
    waiting = [
        f"{name} waits {WAITING[state]}" for name, state in states.items() if state in WAITING
    ]
    return "; ".join(waiting) or answer


def _missing(body: str) -> str:
    """Read from the answer of `/readyz` what is missing."""
    try:
        return f"missing: {', '.join(json.loads(body)['missing'])}"
    except (ValueError, KeyError, TypeError):
        return body  # Something else answers on this port: show what it says.


async def _get_readyz(host: str, port: int) -> tuple[int, str]:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        # HTTP/1.0: the answer ends with the connection.
        writer.write(f"GET /readyz HTTP/1.0\r\nHost: {host}:{port}\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    words = head.split(maxsplit=2)
    if len(words) < 2 or not words[1].isdigit():
        raise ConnectionError("no HTTP response")
    return int(words[1]), body.decode("utf-8", errors="replace").strip()
