"""The names that one application uses in Redis and on the broker."""

import hashlib

from queue_run.contracts.ids import ServerId

#: The Celery task that carries requests to handlers.
REQUESTS_TASK = "queue_run.requests"
#: A queue's jobs are the Celery task `queues.<name>`.
JOB_TASK_PREFIX = "queues."
#: The Celery task that runs the jobs of one FIFO group.
DRAIN_TASK = "queue_run.drain"
#: The Celery queue of jobs whose file names none, behind `<namespace>.`.
JOBS = "jobs"
#: What follows the name of a Celery queue in that of its bell (`queue_run.broker.redis_taking`).
BELL = "bell"
#: Characters of a group's name and a dedupe id that stand in a key as they are.
LONGEST_DEDUPE = 200


class Keys:
    """Every key, stream and Celery queue of one namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        #: Stream of everything addressed to users.
        self.broadcast = f"{namespace}:broadcast"
        #: Random text, made with the data: another one tells that Redis has lost them.
        self.epoch = f"{namespace}:epoch"
        #: With which session ids are sealed, where the settings name no secret.
        self.session_secret = f"{namespace}:session-secret"
        #: Push servers by the time of their last heartbeat.
        self.push_servers = f"{namespace}:push-servers"
        #: Online users, with the number of push servers that hold connections of each.
        self.online = f"{namespace}:online"
        #: Users whose last connection has closed, by the time at which they count as gone.
        self.leaving = f"{namespace}:leaving"
        #: Stream of users who came and went, for `on_online` and `on_offline`.
        self.presence = f"{namespace}:presence"
        #: Since when push servers have looked regularly for others that have died.
        self.presence_sweeps = f"{namespace}:presence-sweeps"
        #: Which worker process tells the application of them, one at a time.
        self.presence_lease = f"{namespace}:presence-lease"
        #: What the workers offer (`queue_run.contracts.manifest`).
        self.manifest = f"{namespace}:manifest"
        #: Why workers cannot load the application, where clients may be told.
        self.load_failure = f"{namespace}:load-failure"
        #: Expires unless a worker that serves requests renews it.
        self.socket_workers = f"{namespace}:workers:sockets"
        #: The processes whose machine's clock differs from Redis', by name.
        self.clocks = f"{namespace}:clocks"
        #: Never there: push servers try on it whether Redis takes what grows.
        self.probe = f"{namespace}:probe"
        #: Celery queue of requests.
        self.sockets_queue = f"{namespace}.sockets"
        #: Celery queue of jobs.
        self.jobs_queue = f"{namespace}.{JOBS}"
        #: With Redis as the broker: messages that were taken and not acknowledged, by tag; their
        #: tags by time; who looks for those of dead workers.
        self.unacked = f"{namespace}.unacked"
        self.unacked_index = f"{namespace}.unacked_index"
        self.unacked_mutex = f"{namespace}.unacked_mutex"
        #: Exchanges of Celery's remote control and events.
        self.control_exchange = f"{namespace}.control"
        self.event_exchange = f"{namespace}.events"
        #: What the keys of RedBeat begin with, which keeps Celery's schedules.
        self.redbeat = f"{namespace}.redbeat:"
        #: Jobs that wait for their time, by due time; and the jobs themselves, by id.
        self.delayed = f"{namespace}:delayed"
        self.delayed_jobs = f"{namespace}:delayed:jobs"
        #: Dead letters by id; and their ids, by time.
        self.dead = f"{namespace}:dead"
        self.dead_index = f"{namespace}:dead:index"
        #: What lay where our messages lie, and could not be read (`queue_run.broker.unreadable`).
        self.unreadable = f"{namespace}:unreadable"
        #: Groups that hold jobs, by the time at which somebody must look after each.
        self.groups = f"{namespace}:lanes"

    def server(self, server: ServerId) -> str:
        """Stream of replies and outcomes for the connections of one push server."""
        return f"{self.namespace}:server:{server}"

    def claim(self, session: str, request: str) -> str:
        """The claim of a request: the push server that took it. A repetition is not run again.

        Args:
            request: the id that the client gave it, as JSON.
        """
        return f"{self.namespace}:claim:{session}:{request}"

    def session(self, session: str) -> str:
        """The mark of a session that lives, with the offset from which on it has lived."""
        return f"{self.namespace}:session:{session}"

    def left_room(self, user: str, room: str) -> str:
        """The time at which a user was made to leave a room, with all connections."""
        # Both may hold colons; its length tells where the user's id ends.
        return f"{self.namespace}:left:{len(user)}:{user}:{room}"

    def session_rooms(self, session: str) -> str:
        """The rooms that a session is in, each with the offsets of its joins and leaves."""
        return f"{self.namespace}:session-rooms:{session}"

    def session_left(self, session: str) -> str:
        """The rooms that a session has left lately, with the offsets of its joins and leaves."""
        return f"{self.namespace}:session-left:{session}"

    def users_of(self, server: ServerId) -> str:
        """The users that have connections on one push server."""
        return f"{self.namespace}:users:{server}"

    def celery_queue(self, name: str | None) -> str:
        """Celery queue of the jobs whose file names this one; None for the usual one."""
        return self.jobs_queue if name is None else f"{self.namespace}.{name}"

    def job(self, job_id: str) -> str:
        """The record of a job's attempts (`queue_run.jobs.attempt_records`)."""
        return f"{self.namespace}:job:{job_id}"

    def group(self, name: str) -> str:
        """The jobs that wait in a group."""
        return f"{self.namespace}:lane:{name}"

    def group_lease(self, name: str) -> str:
        """The lease of the drain that runs a group's jobs."""
        return f"{self.namespace}:lane-lease:{name}"

    def dedupe(self, group: str, name: str) -> str:
        """The first of the pushes that are equal."""
        # Both may hold colons; its length tells where the group's name ends.
        both = f"{len(group)}:{group}:{name}"
        if len(both) > LONGEST_DEDUPE:
            # Clients name groups, and the key outlives the job. A letter: no other begins so.
            data = both.encode(errors="surrogatepass")
            both = f"h{hashlib.blake2b(data, digest_size=16).hexdigest()}"
        return f"{self.namespace}:dedupe:{both}"

    def sequence(self, queue: str) -> str:
        """The count of a FIFO queue's jobs."""
        return f"{self.namespace}:sequence:{queue}"


def _reserved() -> frozenset[str]:
    keys = Keys("")
    named = {name[1:].partition(":")[0] for name in vars(keys).values() if name.startswith(".")}
    return frozenset({*named, BELL})


#: Names that stand for something of ours or of Celery's behind `<namespace>.`, where the Celery
#: queues of files stand too: `Config(celery_queue=…)` takes none of them.
RESERVED = _reserved()
