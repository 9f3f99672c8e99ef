"""Code outside handlers and jobs that acts for a user: views, scripts, plain Celery tasks."""

import contextlib
import contextvars
from collections.abc import Iterator, Mapping
from typing import Protocol

from queue_run.contracts.ids import UserId, id_of_user, user_id
from queue_run.contracts.messages import user_facts
from queue_run.process import context
from queue_run.process.context import Call


class HasId(Protocol):
    """A user of the application's own, for example Django's `request.user`."""

    @property
    def id(self) -> object: ...


#: An id, a dict with an "id", or an object with an `id`; None is nobody.
User = str | int | Mapping[str, object] | HasId | None


@contextlib.contextmanager
def as_user(user: User) -> Iterator[None]:
    """Act for this user inside the block, in synchronous and asynchronous code alike.

    `socket.send` reaches the user's connections, and a job that is pushed belongs to the user.

    Args:
        user: an id, or a user. A dict must have an "id", and jobs get all of it as their `user`; of
            any other object only the `id` is used, so that nothing else of it travels. None, and an
            object whose `id` is None (Django's anonymous user), is nobody: `socket.send` raises
            `OutsideCall`, and jobs belong to no user.

    Raises:
        TypeError: for a user without a usable id.
        NotEncodable: for a dict that has no JSON form.
    """
    with context.running(_call_of(user)):
        yield


def context_of(user: User) -> contextvars.Context:
    """A copy of the current context in which code acts for this user (see `as_user`)."""
    own = contextvars.copy_context()
    own.run(context.enter, _call_of(user))
    return own


def _call_of(user: User) -> Call:
    facts = _facts(user)
    call = Call(user=facts, user_id=id_of_user(facts))
    outer = context.current()
    if outer is not None:
        # What is sent here still belongs to the handler or job: its reply waits for it, and its
        # middleware hears of it.
        call.sent = outer.sent
        call.job_id, call.send_numbers = outer.job_id, outer.send_numbers
        call.on_sent = outer.on_sent
    return call


def _facts(user: User) -> dict[str, object] | None:
    """The user as handlers and jobs see one."""
    if user is None:
        return None
    if isinstance(user, str | int):
        return {"id": user_id(user)}
    if isinstance(user, Mapping):
        facts: dict[str, object] = user_facts(dict(user))
        return {**facts, "id": id_of_user(facts)}
    if not hasattr(user, "id"):
        raise TypeError(f"a user is an id or has one, not {type(user).__name__}")
    found: UserId | None = None if user.id is None else user_id(user.id)
    return None if found is None else {"id": found}
