"""Asking the application for a token, in such a way that a failure does not end the client."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from queue_run.errors import QueueRunError

#: Seconds in which a function must give a token.
TOKEN_TIMEOUT = 30.0

TokenFunction: TypeAlias = Callable[[], str | Awaitable[str]]
#: A token, or a function that gives one and is called at each attempt to connect.
Token: TypeAlias = str | TokenFunction

#: Errors that end a program, or a coroutine that is not continued.
_ENDS = (KeyboardInterrupt, SystemExit, GeneratorExit)


class NoToken(QueueRunError):
    """Raised when the function that gives the token failed; `__cause__` is its error, if any."""


async def ask_for_token(function: TokenFunction, *, timeout: float = TOKEN_TIMEOUT) -> str:  # noqa: ASYNC109
    """Call the function that gives the token, plain or async, and return the token.

    Args:
        timeout: seconds for the function.

    Raises:
        NoToken: when the function raises, gives no usable token, or takes too long.
    """
    try:
        async with asyncio.timeout(timeout):
            given: Any = function()
            token = await given if inspect.isawaitable(given) else given
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # The function has waited for something that was cancelled.
        raise NoToken("the function that gives the token was cancelled") from error
    except _ENDS:
        raise
    except BaseException as error:
        # Some libraries raise errors that are not an Exception, for example at a timeout.
        raise NoToken(f"the function that gives the token failed: {_said(error)}") from error
    wrong = problem(token)
    if wrong:
        raise NoToken(f"the function that gives the token gave none that can be sent: {wrong}")
    return str(token)


def _said(error: BaseException) -> str:
    name = type(error).__name__
    try:
        return f"{name}: {error}".removesuffix(": ")
    except Exception:
        return name


def problem(token: object) -> str | None:
    """Say why a token cannot stand in a header; None when it can."""
    if not isinstance(token, str):
        return f"{type(token).__name__} is no text"
    if not token:
        return "it is empty"
    if not (token.isascii() and token.isprintable() and " " not in token):
        return "it has spaces, line ends or other characters that no token has"
    return None
