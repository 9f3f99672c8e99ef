"""The fence: private things of the dependencies that queue-run uses, each with the reason.

Names that begin with `_`, methods of theirs that ours replace, and insides of their modules may be
gone in any new version, or mean something else. Then messages could be lost in silence. So each
process compares, when it starts, all that it has loaded of them with this page, and says in one
sentence what does not fit. A test holds the code against this page: what is used
and not named here fails it.
"""

import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from types import CodeType
from typing import Any, NamedTuple

from queue_run.errors import UnfitPackage

#: With which versions all tests have passed, by the packages' names; and their modules' names.
TESTED = {
    "amqp": "5.4.2",
    "billiard": "4.3.2",
    "celery": "5.7.0",
    "celery-redbeat": "2.4.2",
    "hiredis": "3.5.0",
    "kombu": "5.7.0",
    "redis": "8.1.0",
    "tornado": "6.6.1",
}
MODULES = {"redbeat": "celery-redbeat"}


class Use(NamedTuple):
    """One thing of a dependency."""

    name: str
    why: str
    #: Parameters that are given to it, in their order; None when there is nothing to look at.
    given: tuple[str, ...] | None = None
    #: All parameters that it has: those of what takes its place.
    has: tuple[str, ...] | None = None
    #: The method that makes it, of what only instances have.
    by: str = ""


def calls(name: str, why: str, *given: str) -> Use:
    """Something that is called with these parameters; others need not be given."""
    return Use(name, why, given=given)


def replaces(name: str, why: str, *has: str) -> Use:
    """A method in whose place is one of ours, which takes exactly what the method takes."""
    return Use(name, why, has=has)


def wraps(name: str, why: str) -> Use:
    """A method around which is one of ours, which gives it whatever it was given."""
    return Use(name, why)


def reads(name: str, why: str, *, by: str = "") -> Use:
    """Something that is looked at, or set; of an instance where a method makes it."""
    return Use(name, why, by=by)


#: By the module, and the class in it. Most are of kombu's transport for Redis, which has no public
#: way to settle a message through another channel than the one that it came through.
USES: dict[str, tuple[Use, ...]] = {
    "kombu.transport.redis": (
        reads("REFRESH_BINDING", "the script that a full Redis refuses is run with one more line"),
    ),
    "kombu.transport.redis:Channel": (
        # Taking
        replaces("_brpop_start", "asks by a script that writes down what it takes", "timeout"),
        wraps("_brpop_read", "reads the answer of that script"),
        reads("_in_poll", "which link owes an answer"),
        reads("_brpop_sent_at", "since when it owes one"),
        reads("brpop_timeout", "how long Redis waits for a bell", by="__init__"),
        calls("_flush_brpop_reauth", "a new token is sent while no answer is owed"),
        reads("_queue_cycle", "in which order queues are asked for", by="__init__"),
        reads("active_queues", "the queues that are asked for"),
        replaces("_on_connection_disconnect", "an answer is lost with its link", "connection"),
        replaces("_receive_one", "remote control that is no message ends nobody", "c"),
        wraps("basic_consume", "which queues have acknowledgements"),
        reads("client", "its connection is the one on which is asked"),
        reads("connection_errors", "what says that a link is lost", by="__init__"),
        # Sending
        replaces("_put", "one script puts a message and rings its bell", "queue", "message"),
        calls("_get_message_priority", "the list of a message", "message", "reverse"),
        calls("_q_for_pri", "the list of a message", "queue", "pri"),
        reads("priority_steps", "the lists of a queue"),
        reads("sep", "the lists of a queue, and what a binding is made of"),
        reads("_expires", "queues that expire are left to kombu", by="__init__"),
        # Putting back
        replaces(
            "_do_restore_message",
            "a message that cannot be put back is set aside, and not forgotten",
            *("payload", "exchange", "routing_key", "pipe", "leftmost"),
        ),
        replaces("_restore", "a full Redis refuses kombu's transaction", "message", "leftmost"),
        calls("_lookup", "the queues to which a message goes back", "exchange", "routing_key"),
        reads("qos", "the unacknowledged messages of a channel"),
        reads("QoS", "ours is made in the place of kombu's"),
        reads("unacked_key", "where they are written down"),
        reads("unacked_index_key", "where they are written down"),
        reads("unacked_mutex_expire", "a dead worker keeps others from looking for a second only"),
        reads("visibility_timeout", "when they come back"),
        # Links
        replaces("_connparams", "links that fall silent are given up", "asynchronous"),
        replaces("_create_client", "one client for all commands", "asynchronous"),
        replaces("_get_client", "pipelines are no transactions"),
        calls("conn_or_acquire", "a client that asks and waits for the answer", "client"),
        reads("pool", "the link on which is sent"),
        reads("_pool", "its links are closed when one is lost"),
        reads("_async_pool", "its links are closed when one is lost"),
        # Bindings
        replaces(
            "_queue_bind",
            "a full Redis binds queues that are bound already",
            *("exchange", "routing_key", "pattern", "queue"),
        ),
        reads("_refresh_binding", "the script for queues that expire"),
        reads("keyprefix_queue", "the table of an exchange"),
        reads("keyprefix_binding_permanent", "the table of an exchange"),
        replaces("get_table", "an entry that is no binding is passed over", "exchange"),
        reads("from_transport_options", "an option of ours is one more"),
    ),
    "kombu.transport.virtual.base:Channel": (reads("connection", "the transport", by="__init__"),),
    "kombu.transport.redis:QoS": (
        replaces(
            "append",
            "what the script has written down is not written again",
            *("message", "delivery_tag"),
        ),
        replaces("ack", "a link that breaks does not lose the acknowledgement", "delivery_tag"),
        replaces("reject", "a link that breaks does not lose it", "delivery_tag", "requeue"),
        replaces(
            "restore_visible",
            "once more what waits to be settled; and by the clock of Redis",
            *("start", "num", "interval"),
        ),
        replaces(
            "restore_by_tag", "by a script that a full Redis runs", "tag", "client", "leftmost"
        ),
        reads("visibility_timeout", "by the clock of Redis"),
        reads("unacked_key", "where messages are written down"),
        reads("unacked_index_key", "where messages are written down"),
    ),
    "kombu.transport.virtual.base:QoS": (
        replaces("restore_unacked_once", "a link that is lost puts nothing back", "stderr"),
        replaces("can_consume", "requests are left to workers that have room"),
        reads("_delivered", "what this channel has given out", by="__init__"),
        calls("_flush", "what is settled is no longer given out"),
        reads("channel", "whose messages these are", by="__init__"),
    ),
    "kombu.transport.virtual.base:Message": (
        reads("_raw", "the message as it lay in Redis, to be put back as it was", by="__init__"),
    ),
    "kombu.transport.virtual.base:Transport": (
        replaces("establish_connection", "a replica is left at once"),
        calls("close_connection", "the end of all its channels", "connection"),
        calls("_deliver", "gives a message to its consumer", "message", "queue"),
        reads("_avail_channels", "the channel by which a new link is tried", by="__init__"),
        reads("channels", "all that end with a link"),
        reads("client", "the options of the connection", by="__init__"),
    ),
    "kombu.transport.redis:Transport": (reads("Channel", "ours is made in the place of kombu's"),),
    "kombu.connection:Connection": (
        replaces("get_transport_cls", "our transports in the place of kombu's"),
        wraps("_ensure_connection", "tries follow each other within seconds"),
        calls(
            "_ensure_connection",
            "the third says how long to wait between tries",
            *("errback", "max_retries", "interval_start", "interval_step", "interval_max"),
        ),
        reads("_collect", "kombu calls it on a transport whose link is lost", by="collect"),
        wraps("Pool", "connections for sending use our transports, too"),
    ),
    "kombu.connection:ConnectionPool": (
        replaces("new", "connections for sending use our transports, too"),
        reads("connection", "whose transports they use", by="__init__"),
    ),
    "kombu.messaging:Consumer": (
        wraps("_basic_consume", "queues without acknowledgements are read apart"),
        calls("_basic_consume", "the queue is the first", "queue"),
        replaces("_receive_callback", "a request is acknowledged before it is given on", "message"),
        replaces("consume", "with the prefetch of requests", "no_ack"),
        replaces("cancel", "the second consumer ends, too"),
        replaces("close", "the second consumer ends, too"),
        replaces("cancel_by_queue", "the second consumer ends, too", "queue"),
        reads("_active_tags", "which queues are consumed", by="__init__"),
        reads("channel", "on which a second consumer has its own"),
    ),
    "kombu.pidbox:Mailbox": (
        replaces(
            "__call__", "a name of the queue for answers that is the link's own", "connection"
        ),
        replaces("get_queue", "a name of the queue that is the link's own", "hostname"),
        replaces("get_reply_queue", "a name of the queue that is the link's own"),
        reads("reply_queue", "it is made anew for each link"),
    ),
    "kombu.transport.pyamqp:Connection": (
        reads("Channel", "ours is made in the place of kombu's"),
        replaces("blocking_read", "waits for one frame, with a limit", "timeout"),
        reads("bytes_recv", "whether anything was heard"),
        reads("heartbeat", "whether heartbeats were agreed upon"),
        reads("host", "for the log", by="__init__"),
        reads("_transport", "the socket is shut down when it is silent", by="__init__"),
        replaces("connect", "what is written has a limit, and heartbeats begin", "callback"),
        replaces("drain_events", "nobody waits for an answer for ever", "timeout"),
        replaces("heartbeat_tick", "what was not read yet was heard", "rate"),
        replaces("_on_blocked", "RabbitMQ reads nothing that is published"),
        replaces("_on_unblocked", "RabbitMQ reads again"),
        calls(
            "Transport",
            "our sockets in the place of py-amqp's",
            *("host", "connect_timeout", "ssl", "read_timeout", "write_timeout"),
        ),
    ),
    "kombu.transport.pyamqp:Transport": (reads("Connection", "ours is made in its place"),),
    "kombu.transport.pyamqp:Channel": (
        wraps("_on_basic_return", "a message that no queue took has come back"),
        wraps("basic_publish_confirm", "RabbitMQ may be blocked, or not take it"),
        replaces(
            "dispatch_method",
            "the answer to a question of ours",
            "method_sig",
            "payload",
            "content",
        ),
        calls("basic_qos", "the cheapest question", "prefetch_size", "prefetch_count", "a_global"),
        reads("connection", "the link of a channel", by="collect"),
        reads("channel_id", "the number of a channel on its link", by="collect"),
    ),
    "amqp.transport:TCPTransport": (
        calls("__init__", "how long a link may take to open", "host", "connect_timeout"),
        calls("write", "one thread at a time", "s"),
        reads("sock", "what is shut down", by="__init__"),
        reads("connected", "whether it is open", by="__init__"),
    ),
    "celery.app.amqp:AMQP": (
        reads("Connection", "our connections in the place of kombu's"),
        reads("Consumer", "our consumers in the place of kombu's"),
    ),
    "celery.app.control:Control": (reads("Mailbox", "ours is made in its place"),),
    "celery.app.base:Celery": (
        calls("subclass_with_self", "our beat in the place of Celery's", "Class"),
        reads("Beat", "our beat in the place of Celery's"),
    ),
    "celery.app.utils": (replaces("filter_hidden_settings", "hides passwords in URLs", "conf"),),
    "celery.apps.beat:Beat": (
        replaces("start_scheduler", "RedBeat waits for Redis"),
        reads("scheduler_cls", "whether it is RedBeat's", by="__init__"),
    ),
    "celery.beat:PersistentScheduler": (
        replaces("_open_schedule", "no file where nothing is scheduled"),
        replaces("_create_schedule", "a file of another release is made anew"),
        replaces("_destroy_open_corrupted_schedule", "a file that is not there stays", "exc"),
        calls("_remove_db", "a damaged file is made anew"),
        reads("_store", "what is kept of schedules"),
        reads("schedule_filename", "for the log", by="__init__"),
        replaces("setup_schedule", "a file that fails ends nothing"),
        replaces("sync", "a file that fails ends nothing"),
        replaces("close", "a file that fails ends nothing"),
        reads("info", "says that there is no file"),
        reads("schedule", "when each had its last job"),
    ),
    "celery.beat:Scheduler": (
        reads("_heap", "made anew when the clock was set", by="__init__"),
        reads("app", "what is scheduled", by="__init__"),
        wraps("tick", "looks at the clock"),
        wraps("apply_async", "a full Redis ends nothing"),
    ),
    "celery.concurrency.asynpool:AsynPool": (
        replaces("_track_child_process", "a child that has ended is passed over", "proc", "hub"),
        reads("_sentinel_poll", "whether a child has ended", by="_track_child_process"),
    ),
    "celery.concurrency.base:BasePool": (
        reads("uses_semaphore", "whether tasks wait for a process of their own"),
        reads("num_processes", "how many there are"),
    ),
    "celery.utils.dispatch.signal:Signal": (
        reads("lock", "a second SIGTERM interrupts the first", by="__init__"),
    ),
    "celery.worker.consumer.consumer:Consumer": (
        calls("__init__", "what is done with a task", "on_task_request"),
        wraps("create_task_handler", "a message that is no task is set aside"),
        replaces("on_decode_error", "it is set aside", "message", "exc"),
        replaces("on_unknown_message", "it is set aside", "body", "message"),
        replaces("on_invalid_task", "it is set aside", "body", "message", "exc"),
        replaces("on_unknown_task", "it is set aside", "body", "message", "exc"),
        replaces("start", "a worker ends that could never consume a queue"),
        replaces("on_ready", "all queues are consumed by then"),
        replaces("on_close", "requests that were taken are not forgotten"),
        replaces("stop", "requests that were taken go back"),
        replaces("register_with_event_loop", "the loop shows that it goes round", "hub"),
        reads("connection_errors", "what says nothing about a message", by="__init__"),
        reads("channel_errors", "what says nothing about a message", by="__init__"),
        reads("controller", "its places for tasks", by="__init__"),
        reads("pool", "what it runs tasks on", by="__init__"),
        reads("app", "its queues", by="__init__"),
    ),
    "celery.worker.consumer.tasks:Tasks": (
        reads("task_consumer", "the consumer of all queues", by="start"),
    ),
    "celery.worker.request:Request": (
        replaces("acknowledge", "a place for drains is free again"),
        replaces("reject", "a place for drains is free again", "requeue"),
        replaces(
            "on_failure",
            "the lease of a job ends with its process",
            *("exc_info", "send_failed_event", "return_ok"),
        ),
        reads("id", "whose lease it is", by="__init__"),
    ),
    "celery.worker.state": (
        reads("scheduled_requests", "what waits for its time, and is dropped with its link"),
        reads("active_requests", "whether a job runs"),
        reads("should_stop", "how a worker ends that has lost a part of itself"),
    ),
    "celery.worker.strategy": (
        calls("default", "what Celery does with a task", "task", "app", "consumer"),
    ),
    "celery.worker.worker:WorkController": (
        replaces("_process_task", "a task that the pool does not take frees its place", "req"),
        reads("semaphore", "the places of a pool"),
    ),
    "kombu.asynchronous.semaphore:LaxBoundedSemaphore": (
        reads("_waiting", "requests that wait for a process are let go", by="__init__"),
    ),
    "billiard.common": (calls("terminate_handler_fired", "whether a child was told to end"),),
    "billiard.heap:Arena": (replaces("__init__", "shared memory without a file", "size", "fd"),),
    "billiard.util:Finalize": (
        calls("__init__", "the memory is given back", "obj", "callback", "args"),
    ),
    "redis.client:Redis": (
        replaces("pipeline", "pipelines are no transactions", "transaction", "shard_hint"),
    ),
    "redis.connection:AbstractConnection": (
        reads("_sock", "whether a link was opened anew", by="__init__"),
        calls("send_packed_command", "an older link is opened anew", "command", "check_health"),
        calls("read_response", "the answer as it came", "disable_decoding"),
        calls("pack_command", "several commands at once"),
        calls("can_read", "whether an answer has come", "timeout"),
        wraps("send_command", "asks without a PING before"),
        wraps("disconnect", "a link that is closed has no age"),
    ),
    "redis.connection:ConnectionPool": (
        calls("make_connection", "a link that is nobody else's"),
        calls("get_connection", "a link that is nobody else's"),
        reads("connection_class", "our links in the place of redis-py's", by="__init__"),
    ),
    "redis.asyncio.connection:AbstractConnection": (
        reads("_writer", "its transport is read by a protocol of ours", by="__init__"),
        calls("read_response", "the answer as it came", "disable_decoding"),
        calls("disconnect", "at once", "nowait"),
        wraps("send_command", "what is asked of a new link"),
    ),
    "redis.asyncio.connection:ConnectionPool": (
        calls("make_connection", "a link that is nobody else's"),
        reads("connection_class", "our links in the place of redis-py's", by="__init__"),
    ),
    "redis.commands.core:Script": (
        reads("sha", "scripts are run over our links", by="__init__"),
        reads("script", "scripts are run over our links", by="__init__"),
    ),
    "redis.retry:Retry": (
        calls("__init__", "how often is tried", "backoff", "retries"),
        calls("call_with_retry", "says once a minute what it waits for", "do", "fail"),
    ),
    "hiredis": (
        calls("pack_command", "packs a command"),
        reads("Reader", "reads answers as they come"),
        reads("PushNotification", "what Redis tells beside answers is passed over"),
    ),
    "tornado.util": (calls("_websocket_mask", "unmasks frames, in C where Tornado has that"),),
    "tornado.httpserver:HTTPServer": (
        replaces("handle_stream", "a head that is too large is answered", "stream", "address"),
    ),
    "tornado.iostream:BaseIOStream": (
        replaces("read_until_regex", "the head of a request", "regex", "max_bytes"),
        replaces("read_until", "no head of a request", "delimiter", "max_bytes"),
        replaces("close", "a head that is too large is answered", "exc_info"),
        calls("read_bytes", "what a client sent early", "num_bytes", "partial"),
        reads("max_buffer_size", "how much that is at most", by="__init__"),
    ),
    "redbeat.schedulers": (
        reads("REDBEAT_REDIS_KEY", "RedBeat takes the client that it finds there"),
    ),
}


def check(needed: Mapping[str, Iterable[Use]] = USES) -> None:
    """Look whether the dependencies that this process has loaded are as they are needed.

    Raises:
        UnfitPackage: when one is not.
    """
    for place, uses in needed.items():
        module, _, kind = place.partition(":")
        found: Any = sys.modules.get(module)
        if found is None:
            # This process does without.
            continue
        owner = getattr(found, kind, None) if kind else found
        for use in uses:
            if owner is None or not _fits(owner, use):
                raise _unfit(place, use)


def _fits(owner: Any, use: Use) -> bool:
    found: Any = getattr(owner, use.by or use.name, None)
    # Beneath a decorator.
    function: Any = getattr(found, "__wrapped__", found)
    code = getattr(function, "__code__", None)
    if use.by:
        return use.name in _names(code)
    if use.given is None and use.has is None:
        return hasattr(owner, use.name)
    if code is None:
        # Written in C: it does not say what it takes.
        return found is not None
    parameters = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    taken = tuple(each for each in parameters if each != "self")
    if use.has is not None:
        return taken == use.has
    given = use.given or ()
    with_default = len(function.__defaults__ or ()) + len(function.__kwdefaults__ or ())
    needed = set(parameters[: len(parameters) - with_default]) - {"self"}
    return tuple(each for each in taken if each in given) == given and needed <= set(given)


def _names(code: CodeType | None) -> set[str]:
    """The attributes that a function looks at or sets, anywhere in it."""
    if code is None:
        return set()
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= _names(constant)
    return found


def _unfit(place: str, use: Use) -> UnfitPackage:
    module = place.partition(".")[0].partition(":")[0]
    package = MODULES.get(module, module)
    try:
        installed = version(package)
    except PackageNotFoundError:
        installed = "of an unknown version"
    parameters = use.given if use.has is None else use.has
    thing = f"{place.replace(':', '.')}.{use.name}" + (
        f"({', '.join(parameters)})" if parameters else ""
    )
    return UnfitPackage(package, installed, thing, TESTED[package])
