"""The care around each call of the application's code, for a framework that it uses."""

import contextlib
from contextlib import AbstractContextManager

_NOTHING = contextlib.nullcontext()


class Around:
    """The care around calls. This one does nothing; those of frameworks override its methods.

    Every call is inside one of the two blocks: plain code inside `call`, asynchronous code, with
    what it runs in threads, inside `task`.
    """

    #: Whether there is anything to do: where there is not, threads need not ask.
    idle = True

    def call(self) -> AbstractContextManager[object]:
        """The block around plain code, in the thread that runs it."""
        return _NOTHING

    def task(self) -> AbstractContextManager[object]:
        """The block around asynchronous code, in the task that runs it."""
        return _NOTHING

    def leave(self) -> None:
        """Clean up in a thread that ran plain code and ends now; called in that thread."""

    def limit_threads(self, most: int) -> None:
        """Set how many threads of its own the framework may have in this process."""

    def end(self) -> None:
        """End threads of its own, and give up what they hold."""
