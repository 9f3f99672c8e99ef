"""The arguments of `celery` for the workers that commands start."""

from queue_run.contracts.keys import Keys
from queue_run.settings import Settings

#: What workers tell each other. Nothing here reads it, and it costs each of them steady traffic.
QUIET = ("--without-gossip", "--without-mingle", "--without-heartbeat")

#: A request's task only hands over to the process's own loop: one thread is the fastest pool for
#: it. Jobs may use the processor, so they keep Celery's own default, which is prefork.
POOLS: dict[str, tuple[str, ...]] = {
    "sockets": ("-P", "solo"),
    "jobs": (),
    "all": ("-P", "threads"),
}


def worker_arguments(
    serve: str, settings: Settings, pool: tuple[str, ...] | None = None
) -> list[str]:
    """The arguments of `celery` for a worker that serves these; another pool may be named."""
    keys = Keys(settings.namespace)
    queues: dict[str, tuple[str, ...]] = {
        "sockets": ("-Q", keys.sockets_queue),
        # All others: the usual one of jobs, and those that files in queues/ name.
        "jobs": ("-X", keys.sockets_queue),
        "all": (),
    }
    return [
        *("-A", "worker", "worker"),
        *(POOLS[serve] if pool is None else pool),
        *queues[serve],
        *QUIET,
        *("-n", f"{serve}@%h"),
        *("-l", settings.log_level),
    ]
