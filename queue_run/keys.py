"""The names that one application uses in Redis and on the broker."""

from queue_run.ids import ServerId

#: The Celery task that carries requests to handlers.
REQUESTS_TASK = "queue_run.requests"
#: A queue's jobs are the Celery task `queues.<name>`.
JOB_TASK_PREFIX = "queues."


class Keys:
    """Every key, stream and Celery queue of one namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        #: Stream of everything addressed to users.
        self.broadcast = f"{namespace}:broadcast"
        #: What the workers offer (`queue_run.manifest`).
        self.manifest = f"{namespace}:manifest"
        #: Expires unless a worker that serves requests renews it.
        self.socket_workers = f"{namespace}:workers:sockets"
        #: Celery queue of requests.
        self.sockets_queue = f"{namespace}.sockets"
        #: Celery queue of jobs.
        self.jobs_queue = f"{namespace}.jobs"

    def server(self, server: ServerId) -> str:
        """Stream of replies and outcomes for the connections of one push server."""
        return f"{self.namespace}:server:{server}"
