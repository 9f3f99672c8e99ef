"""Running an application's middleware, and what is done when it fails."""

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeAlias

from queue_run.application.requests import ConnectionRequest, Job, Request, SentMessage
from queue_run.process import context
from worker.calls.around import Around

log = logging.getLogger(__name__)

Asker: TypeAlias = Request | ConnectionRequest | Job | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """One middleware function, and where it comes from."""

    function: Callable[..., Any]
    #: For people: `sockets/_middleware.py`, or "default".
    file: str
    is_async: bool
    #: A default, which never blocks.
    inline: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """The middleware of one file; None where it is switched off."""

    #: Of files in `sockets/`.
    received: Hook | None = None
    #: Of files in `queues/`.
    started: Hook | None = None
    finished: Hook | None = None
    sent: Hook | None = None
    error: Hook | None = None


class Middleware:
    """Calls hooks on the loop of the process, plain ones in its threads."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        threads: Executor,
        around: Around | None = None,
    ) -> None:
        self._loop = loop
        self._threads = threads
        self._around = around or Around()
        self._open: set[asyncio.Task[None]] = set()

    async def call(self, hook: Hook, *arguments: Any) -> Any:
        """Run a hook; what it raises goes to the caller."""
        if hook.is_async:
            return await hook.function(*arguments)
        if hook.inline:
            return hook.function(*arguments)
        run = contextvars.copy_context().run
        value = await self._loop.run_in_executor(
            self._threads, lambda: run(hook.function, *arguments)
        )
        # A decorated `async def` may look like a plain function.
        return await value if inspect.isawaitable(value) else value

    async def failed(self, hooks: Hooks, error: BaseException, asker: Asker) -> None:
        """Call `on_error`; its own failure is logged."""
        if hooks.error is None:
            return
        try:
            await self.call(hooks.error, error, asker)
        except BaseException as failure:
            if ends_the_process(failure):
                raise
            log.exception(
                "on_error of %s failed, while it was told of: %r", hooks.error.file, error
            )

    def sent(self, hooks: Hooks, message: SentMessage, asker: Asker) -> None:
        """Call `on_message_sent`, from any thread, in the order of the messages.

        It runs beside the delivery, which it can neither delay nor break.
        """
        if hooks.sent is not None:
            self._loop.call_soon_threadsafe(self._start, hooks, message, asker)

    async def settled(self) -> None:
        """Wait until all hooks that were started have ended."""
        while self._open:
            await asyncio.wait(self._open)

    def _start(self, hooks: Hooks, message: SentMessage, asker: Asker) -> None:
        task = self._loop.create_task(self._run_sent(hooks, message, asker))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _run_sent(self, hooks: Hooks, message: SentMessage, asker: Asker) -> None:
        assert hooks.sent is not None
        # A message that it sends is not told to it again.
        with self._around.task(), context.running(context.outside()):
            try:
                await self.call(hooks.sent, message)
            except BaseException as error:
                if ends_the_process(error):
                    raise
                log.error("on_message_sent of %s failed: %s", hooks.sent.file, error)
                await self.failed(hooks, error, asker)


def ends_the_process(failure: BaseException) -> bool:
    """Tell whether a failure comes from this process's own end, and not from application code.

    Code that calls `sys.exit`, or awaits something that was cancelled, has merely failed.
    """
    if isinstance(failure, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return isinstance(failure, KeyboardInterrupt)
