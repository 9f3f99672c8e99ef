"""The Celery application that all processes share: workers run it, the others send through it."""

from typing import Any

from celery import Celery
from kombu import Exchange, Queue

from queue_run.keys import REQUESTS_TASK, Keys
from queue_run.settings import Settings

#: Longer than any job may take. Redis as a broker hands a job out again after this time, whether
#: or not it still runs.
VISIBILITY_TIMEOUT = 3600


def create_celery(settings: Settings) -> Celery:
    """A Celery application with the queues and settings that hold everywhere."""
    keys = Keys(settings.namespace)
    app = Celery("queue_run", broker=settings.broker, set_as_current=False)
    exchange = Exchange(settings.namespace, type="direct")
    app.conf.update(
        task_queues=[
            # The push server supervises requests itself: acknowledging them would only cost.
            Queue(keys.sockets_queue, exchange, routing_key=keys.sockets_queue, no_ack=True),
            Queue(keys.jobs_queue, exchange, routing_key=keys.jobs_queue),
        ],
        task_default_queue=keys.jobs_queue,
        task_default_exchange=settings.namespace,
        task_default_routing_key=keys.jobs_queue,
        task_routes={REQUESTS_TASK: {"queue": keys.sockets_queue}},
        # Remote control and events of several applications on one broker stay apart.
        control_exchange=f"{settings.namespace}.control",
        event_exchange=f"{settings.namespace}.events",
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        worker_send_task_events=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # A job that runs when the broker goes away runs on.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_timeout=settings.publish_timeout,
        task_publish_retry_policy={
            "max_retries": max(1, round(settings.publish_timeout / 0.5)),
            "interval_start": 0,
            "interval_step": 0.1,
            "interval_max": 0.5,
        },
        broker_transport_options=_transport_options(settings),
    )
    return app


def _transport_options(settings: Settings) -> dict[str, Any]:
    if not settings.broker.startswith(("redis", "rediss")):
        return {}
    return {
        "visibility_timeout": VISIBILITY_TIMEOUT,
        # What a killed worker held is looked for every second, not every hundred.
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        # Applications that share a Redis must not restore each other's jobs.
        "unacked_key": f"{settings.namespace}.unacked",
        "unacked_index_key": f"{settings.namespace}.unacked_index",
        "unacked_mutex_key": f"{settings.namespace}.unacked_mutex",
        "socket_connect_timeout": settings.publish_timeout,
        "socket_keepalive": True,
    }
