"""What is done around each call of the application's code, for a framework that it uses."""

import contextlib
from contextlib import AbstractContextManager

_NOTHING = contextlib.nullcontext()


class Around:
    """Does nothing. Those of frameworks override it.

    Every call is inside one of the two blocks: plain code inside `call`, asynchronous code, with
    what it runs in threads, inside `task`.
    """

    #: Whether there is anything to do: where there is not, threads need not ask.
    idle = True

    def call(self) -> AbstractContextManager[object]:
        """Around plain code, in the thread that runs it."""
        return _NOTHING

    def task(self) -> AbstractContextManager[object]:
        """Around asynchronous code, in the task that runs it."""
        return _NOTHING

    def leave(self) -> None:
        """A thread that ran plain code ends; called in it."""

    def limit_threads(self, most: int) -> None:
        """Threads of its own that this process may have."""

    def end(self) -> None:
        """End threads of its own, and give up what they hold."""
