"""What does not fit of our dependencies is said in one sentence when a process starts."""

import importlib
import subprocess
import sys
import time
from importlib.metadata import version

import pytest

from queue_run.broker import fence
from queue_run.broker.fence import MODULES, TESTED, USES, calls, check, reads, replaces, wraps
from queue_run.errors import UnfitPackage
from tests.conftest import WriteApp
from tests.processes import RedisServer, environment
from tests.waiting import DEADLINE

CHANNEL = "kombu.transport.redis:Channel"
REDBEAT_SCHEDULER = "redbeat.RedBeatScheduler"


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    for place in USES:
        importlib.import_module(place.partition(":")[0])


def test_what_is_installed_fits() -> None:
    check()


@pytest.mark.parametrize(
    "use",
    [
        replaces("_brpop_start", "", "timeout"),
        calls("_do_restore_message", "", "payload", "exchange", "routing_key", "pipe"),
        calls("_lookup", "", "exchange", "routing_key"),
        wraps("_put", ""),
        reads("sep", ""),
        reads("_expires", "", by="__init__"),
    ],
)
def test_what_is_as_it_is_needed_fits(use: fence.Use) -> None:
    check({CHANNEL: [use]})


@pytest.mark.parametrize(
    ("use", "named"),
    [
        (replaces("_brpop_start", "", "seconds"), "_brpop_start(seconds)"),
        # It has a parameter more than what takes its place.
        (replaces("_brpop_start", ""), "_brpop_start"),
        (calls("_lookup", "", "routing_key", "exchange"), "_lookup(routing_key, exchange)"),
        # One that must be given is not.
        (calls("_lookup", "", "exchange"), "_lookup(exchange)"),
        (wraps("_gone", ""), "_gone"),
        (calls("_gone", ""), "_gone"),
        (reads("_gone", ""), "_gone"),
        (reads("_gone", "", by="__init__"), "_gone"),
        (reads("_expires", "", by="_gone"), "_expires"),
    ],
)
def test_what_is_not_is_said_in_one_sentence(use: fence.Use, named: str) -> None:
    with pytest.raises(UnfitPackage) as caught:
        check({CHANNEL: [use]})
    assert str(caught.value) == (
        f"kombu {version('kombu')} does not fit this version of queue-run, which needs its "
        f"kombu.transport.redis.Channel.{named}: pip install 'kombu=={TESTED['kombu']}'"
    )


def test_a_class_that_is_gone_is_said_too() -> None:
    with pytest.raises(UnfitPackage, match=r"needs its kombu\.transport\.redis\.Gone\.name: pip"):
        check({"kombu.transport.redis:Gone": [reads("name", "")]})


def test_what_this_process_has_not_loaded_is_not_looked_at() -> None:
    loaded = set(sys.modules)
    check({"kombu.transport.nowhere": [reads("gone", "")], **USES})
    assert set(sys.modules) == loaded


def test_a_look_takes_next_to_no_time() -> None:
    took = []
    for _ in range(20):
        began = time.perf_counter()
        check()
        took.append(time.perf_counter() - began)
    # A millisecond where nothing else runs.
    assert min(took) < 0.02


def test_every_package_is_known_by_its_name() -> None:
    packages = {place.partition(".")[0].partition(":")[0] for place in USES}
    assert {MODULES.get(each, each) for each in packages} == set(TESTED)


# Processes

_RUN = """
import importlib, runpy, sys
module, owner, name = {what!r}
found = importlib.import_module(module)
delattr(getattr(found, owner) if owner else found, name)
sys.argv = {arguments!r}
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
SENDING = ("kombu.transport.redis", "Channel", "_q_for_pri")
WORKING = ("celery.concurrency.asynpool", "AsynPool", "_track_child_process")
SCHEDULING = ("celery.beat", "PersistentScheduler", "_remove_db")
REDBEAT = ("redbeat.schedulers", "", "REDBEAT_REDIS_KEY")


@pytest.mark.parametrize(
    ("package", "what", "arguments"),
    [
        ("kombu", SENDING, ["push_server"]),
        ("kombu", SENDING, ["celery", "-A", "worker", "worker"]),
        ("celery", WORKING, ["celery", "-A", "worker", "worker"]),
        ("celery", SCHEDULING, ["celery", "-A", "worker", "beat"]),
        ("celery-redbeat", REDBEAT, ["celery", "-A", "worker", "beat", "-S", REDBEAT_SCHEDULER]),
        ("kombu", SENDING, ["queue_run", "queue", "push", "mail", "{}"]),
    ],
)
def test_a_process_says_it_when_it_starts(
    redis_server: RedisServer,
    write_app: WriteApp,
    package: str,
    what: tuple[str, str, str],
    arguments: list[str],
) -> None:
    app = write_app({"queues/mail.py": "def handler(payload):\n    pass\n"})
    ran = subprocess.run(
        [sys.executable, "-c", _RUN.format(what=what, arguments=arguments)],
        env=environment(REDIS_URL=redis_server.url, QUEUE_RUN_APP_DIR=str(app), PORT="0"),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert "Traceback" not in ran.stderr
    last = ran.stderr.splitlines()[-1].removeprefix("Error: ")
    assert last.startswith(f"{package} {version(package)} does not fit")
    assert f"needs its {'.'.join(filter(None, what))}" in last
    assert ran.returncode == 2
