"""Celery's defects, each brought about; the signal's is tested where the worker is put together."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from billiard import heap
from celery.concurrency.asynpool import AsynPool
from kombu.asynchronous.hub import Hub

from queue_run.broker import fence
from tests.waiting import eventually
from worker.celery_side.celery_repairs import repair_celery

module: Any = heap


@pytest.fixture
def pool() -> Iterator[Any]:
    repair_celery()
    pool = AsynPool(processes=2, synack=False, threads=False)
    yield pool
    pool.terminate()


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()
    yield hub
    hub.close()


def test_a_pool_registers_again_while_it_lists_a_child_that_was_killed(pool: Any, hub: Hub) -> None:
    """As it does when its worker has reconnected to the broker."""
    pool.register_with_event_loop(hub)
    killed, living = pool._pool
    os.kill(killed.pid, signal.SIGKILL)
    eventually(lambda: killed.exitcode is not None, what="the end of the child")
    pool._untrack_child_process(killed, hub)

    again = Hub()
    pool.register_with_event_loop(again)
    assert living._sentinel_poll in again.readers
    assert killed._sentinel_poll is None
    again.close()


def test_processes_share_memory_where_no_folder_can_be_written_to(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    repair_celery()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    shared = module.Arena(4096)
    (read, write) = os.pipe()
    if os.fork() == 0:
        shared.buffer[:4] = b"seen"
        os.write(write, b".")
        os._exit(0)
    os.read(read, 1)
    os.wait()
    assert shared.buffer[:4] == b"seen"
    assert len(shared.buffer) == 4096


def test_memory_is_repaired_once() -> None:
    repair_celery()
    once = module.Arena.__init__
    repair_celery()
    assert module.Arena.__init__ is once


def test_a_pool_is_repaired_once() -> None:
    repair_celery()
    pools: Any = AsynPool
    once = pools._track_child_process
    repair_celery()
    assert pools._track_child_process is once


def test_another_celery_application_may_be_made_after_the_repair() -> None:
    repair_celery()
    fence.check()
