"""The Celery application that all processes share: workers run it, the others send through it."""

from typing import Any

from celery import Celery
from kombu import Exchange, Queue

from queue_run.broker import fence
from queue_run.broker.amqp_transport import HEARTBEAT, Control
from queue_run.broker.redis_transport import AMQP
from queue_run.contracts.keys import REQUESTS_TASK, Keys
from queue_run.settings import Settings
from queue_run.settings.masking import SecretUrl
from queue_run.storage.patience import (
    KEEPALIVE,
    LONGEST_ANSWER,
    PROBE_INTERVAL,
    longest_answer,
    redis_options,
)


def create_celery(settings: Settings) -> Celery:
    """A Celery application with the queues and settings that hold everywhere.

    Raises:
        UnfitPackage: when a package that this process has loaded is not as it is needed.
    """
    fence.check()
    keys = Keys(settings.namespace)
    app = Celery(
        "queue_run",
        broker=settings.broker,
        amqp=AMQP,
        control=Control if is_rabbitmq(settings) else None,
        set_as_current=False,
        # Celery's own care for Django ends each task with its connections closed, and knows no
        # requests: workers have one of their own (`worker.calls.django_care`).
        fixups=[],
    )
    exchange = Exchange(settings.namespace, type="direct")
    app.conf.update(
        task_queues=[
            # The push server supervises requests itself: to acknowledge them, or to write them to
            # a disk, would only cost.
            Queue(
                keys.sockets_queue,
                Exchange(settings.namespace, type="direct", delivery_mode="transient"),
                routing_key=keys.sockets_queue,
                no_ack=True,
            ),
            Queue(keys.jobs_queue, exchange, routing_key=keys.jobs_queue),
        ],
        task_default_queue=keys.jobs_queue,
        task_default_exchange=settings.namespace,
        task_default_routing_key=keys.jobs_queue,
        task_routes={REQUESTS_TASK: {"queue": keys.sockets_queue}},
        # Remote control and events of several applications on one broker stay apart.
        control_exchange=keys.control_exchange,
        event_exchange=keys.event_exchange,
        # What cron texts mean (`queue_run.application.schedules`).
        timezone="UTC",
        enable_utc=True,
        # RedBeat, where it is installed: the schedules of several applications stay apart.
        redbeat_redis_url=SecretUrl(settings.redis_url),
        redbeat_redis_options=redis_options(
            settings.redis_url, timeout=LONGEST_ANSWER, connect_timeout=LONGEST_ANSWER
        ),
        redbeat_key_prefix=keys.redbeat,
        # No results are kept, so beat need not push a job to remove them.
        result_expires=None,
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        worker_send_task_events=False,
        # What waits in a worker for its turn would count as running, and be handed out again.
        worker_prefetch_multiplier=1,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        broker_heartbeat=HEARTBEAT,
        broker_connection_max_retries=None,
        # A job that runs when the broker goes away runs on.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_timeout=longest_answer(settings.publish_timeout),
        task_publish_retry_policy={
            "max_retries": max(1, round(settings.publish_timeout / 0.5)),
            "interval_start": 0,
            "interval_step": 0.1,
            "interval_max": 0.5,
        },
        broker_transport_options=_transport_options(settings),
    )
    if settings.broker_url not in ("", settings.broker):
        # The command `celery` reads BROKER_URL itself, as it is written there. These win.
        app.conf.update(broker_read_url=settings.broker, broker_write_url=settings.broker)
    return app


def jobs_queue(app: Celery, name: str | None) -> Queue:
    """The Celery queue of the jobs whose file names this one; None for the usual one."""
    namespace = app.conf.task_default_exchange
    full_name = Keys(namespace).celery_queue(name)
    return Queue(full_name, Exchange(namespace, type="direct"), routing_key=full_name)


def is_redis(settings: Settings) -> bool:
    """True if the broker is Redis, which has no acknowledgements of its own."""
    return settings.broker.startswith("redis")


def is_rabbitmq(settings: Settings) -> bool:
    """True if the broker is RabbitMQ."""
    return settings.broker.startswith(("amqp", "pyamqp"))


def _transport_options(settings: Settings) -> dict[str, Any]:
    if is_rabbitmq(settings):
        # A job is with the broker when it lies on the broker's disk.
        return {
            "confirm_publish": True,
            "answer_time": longest_answer(settings.publish_timeout),
            "socket_settings": KEEPALIVE,
        }
    if not is_redis(settings):
        return {}
    keys = Keys(settings.namespace)
    limit = longest_answer(settings.publish_timeout)
    return {
        "visibility_timeout": settings.visibility_timeout,
        # What a killed worker held is looked for every second, not every hundred.
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        # Applications that share a Redis must not restore each other's jobs.
        "unacked_key": keys.unacked,
        "unacked_index_key": keys.unacked_index,
        "unacked_mutex_key": keys.unacked_mutex,
        "unreadable_key": keys.unreadable,
        "socket_timeout": limit,
        "socket_connect_timeout": limit,
        "socket_keepalive": True,
        "socket_keepalive_options": KEEPALIVE,
        # The links on which a worker waits are looked at so often, and given up as late again.
        "health_check_interval": PROBE_INTERVAL,
    }
