"""What each process loads: a push server runs no application code, a script waits for no Celery."""

import json
import subprocess
import sys

import pytest

from tests.processes import environment
from tests.waiting import DEADLINE


def loaded_by(code: str) -> set[str]:
    """Top-level names of all modules that are loaded when the code has run."""
    report = "\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    ran = subprocess.run(
        [sys.executable, "-c", code + report],
        env=environment(),
        capture_output=True,
        check=True,
        text=True,
        timeout=DEADLINE,
    )
    return {name.partition(".")[0] for name in json.loads(ran.stdout)}


def test_a_push_server_loads_no_application_and_no_worker() -> None:
    loaded = loaded_by("import push_server.__main__, push_server.app")
    assert {"push_server", "queue_run", "tornado"} <= loaded
    assert loaded & {"sockets", "queues", "worker"} == set()


def test_a_worker_loads_no_push_server() -> None:
    loaded = loaded_by("import worker.celery_side.celery_app")
    assert {"worker", "queue_run", "celery"} <= loaded
    assert loaded & {"push_server", "tornado"} == set()


@pytest.mark.parametrize(
    "code", ["import queue_run", "from queue_run import socket, queues, Config, configure"]
)
def test_a_process_that_only_sends_loads_neither_celery_nor_tornado(code: str) -> None:
    loaded = loaded_by(code)
    assert {"queue_run", "redis", "msgspec"} <= loaded
    assert loaded & {"celery", "tornado", "worker", "push_server", "sockets", "queues"} == set()


def test_sending_loads_no_celery_either() -> None:
    code = (
        "from queue_run import ChannelUnavailable, Settings, configure, socket\n"
        "configure(Settings(redis_url='redis://127.0.0.1:1/0', publish_timeout=0.01))\n"
        "try:\n    socket.to('ann').send('hi')\nexcept ChannelUnavailable:\n    pass\n"
    )
    assert "celery" not in loaded_by(code)
