"""The application's handlers, by route and by queue.

Pure: what the loader found, and how a request finds its handler.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from queue_run.application.config import (
    JOB_BACKOFF,
    JOB_RETRIES,
    JOB_TIMEOUT,
    REQUEST_TIMEOUT,
    DataType,
)
from queue_run.application.payloads import Validate
from queue_run.application.schedules import Schedule
from queue_run.contracts.manifest import Manifest, QueueFacts, RouteFacts
from queue_run.contracts.routing import Router
from queue_run.process.runtime import LocalQueue
from worker.application.middleware import Hook, Hooks
from worker.calls.around import Around

Handler: TypeAlias = Callable[..., Any]

#: No middleware at all.
NO_HOOKS = Hooks()
#: An application that uses no framework.
NO_CARE = Around()


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One file in `sockets/`."""

    #: Below the application's folder, for people: `sockets/chat.py`.
    file: str
    pattern: str
    #: Also answers the paths below its own that nothing else answers.
    fallback: bool
    handler: Handler
    #: Names of the parameters that the handler takes; empty when it takes the whole request.
    parameters: tuple[str, ...]
    #: Whether its single positional parameter gets the whole request.
    takes_request: bool
    is_async: bool
    timeout: float = REQUEST_TIMEOUT
    type: DataType = "auto"
    ordered: bool = True
    #: Checks and converts `data` by the handler's annotation.
    validate: Validate | None = None
    hooks: Hooks = NO_HOOKS

    @property
    def facts(self) -> RouteFacts:
        return RouteFacts(
            pattern=self.pattern,
            file=self.file,
            fallback=self.fallback,
            timeout=self.timeout,
            ordered=self.ordered,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class JobHandler:
    """One file in `queues/`."""

    file: str
    name: str
    handler: Handler
    #: Names of the keyword-only parameters that the handler takes.
    parameters: tuple[str, ...]
    is_async: bool
    timeout: float = JOB_TIMEOUT
    #: Attempts after the first.
    retries: int = JOB_RETRIES
    #: Seconds before the first retry.
    backoff: float = JOB_BACKOFF
    fifo: bool = False
    schedule: Schedule | None = None
    celery_queue: str | None = None
    #: Tell the job's user how it ended.
    notify: bool = False
    #: "user": every user may push by HTTP.
    http: Literal["user"] | None = None
    #: Checks and converts the payload by the handler's annotation.
    validate: Validate | None = None
    hooks: Hooks = NO_HOOKS

    @property
    def attempts(self) -> int:
        """Attempts that a job may have."""
        return 1 + self.retries

    @property
    def facts(self) -> QueueFacts:
        return QueueFacts(fifo=self.fifo, celery_queue=self.celery_queue, http=self.http)


@dataclass(frozen=True, slots=True, kw_only=True)
class Routes:
    """The handlers and the middleware that an application offers."""

    sockets: tuple[Route, ...] = ()
    queues: dict[str, JobHandler] = field(default_factory=dict)
    #: `on_authenticate`; None accepts every connection as an anonymous user.
    authenticate: Hook | None = None
    #: Called for users who come online and go offline.
    online: Hook | None = None
    offline: Hook | None = None
    #: For everything outside a request: handshakes, and what jobs send.
    hooks: Hooks = NO_HOOKS
    #: What is done around each call of its code, for a framework that it uses.
    around: Around = NO_CARE

    @property
    def watches_users(self) -> bool:
        return self.online is not None or self.offline is not None

    @property
    def manifest(self) -> Manifest:
        """The facts about the application that push servers need."""
        return Manifest(
            routes=[route.facts for route in self.sockets],
            authenticates=self.authenticate is not None,
            watches_users=self.watches_users,
            queues={name: self.queues[name].facts for name in sorted(self.queues)},
        )

    @property
    def local_queues(self) -> dict[str, LocalQueue]:
        """The facts about each queue that pushes in this process need, by name."""
        return {
            name: LocalQueue(queue.facts, queue.validate) for name, queue in self.queues.items()
        }

    def router(self) -> Router[Route]:
        """
        Raises:
            ValueError: for a path that is malformed or taken already.
        """
        router: Router[Route] = Router()
        for route in self.sockets:
            router.add(route.pattern, route, fallback=route.fallback)
        return router
