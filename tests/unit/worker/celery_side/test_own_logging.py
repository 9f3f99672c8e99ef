"""Each test runs in a process of its own: a process has one root logger."""

import subprocess
import sys

import pytest

from tests.processes import environment
from tests.waiting import DEADLINE

CODE = """\
import logging, logging.config
from celery import Celery
from worker.celery_side.own_logging import OwnLogging

ours, library = logging.getLogger("worker.jobs.attempts"), logging.getLogger("celery.worker")
stranger = logging.StreamHandler()
{before}
own = OwnLogging(lambda: logging.getLogger("celery.app.trace").setLevel(logging.WARNING))
{application}
found = own.settle()
root = logging.getLogger()
mine = list(root.handlers)
app = Celery(set_as_current=False)
app.conf.worker_hijack_root_logger = False
app.log.setup_logging_subsystem(loglevel="INFO")
assert not ours.disabled and not library.disabled
assert logging.getLogger("celery.app.trace").level == logging.WARNING
"""


def run(application: str, then: str, *, before: str = "") -> None:
    code = CODE.format(application=application, before=before) + then
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(
    ("application", "level"),
    [
        ("logging.basicConfig(level=logging.ERROR)", "ERROR"),
        ("logging.getLogger().addHandler(logging.StreamHandler())", "WARNING"),
        (
            (
                "logging.config.dictConfig({'version': 1,"
                " 'handlers': {'own': {'class': 'logging.StreamHandler'}},"
                " 'root': {'handlers': ['own'], 'level': 'DEBUG'}})"
            ),
            "DEBUG",
        ),
    ],
)
def test_a_handler_of_the_application_stays_with_its_level(application: str, level: str) -> None:
    run(
        application,
        "assert found and root.handlers == mine != []\n"
        f"assert root.level == logging.{level}, root.level\n",
    )


@pytest.mark.parametrize(
    "application",
    [
        "",
        "logging.getLogger().addHandler(logging.NullHandler())",
        "logging.getLogger('shop').addHandler(logging.StreamHandler())",
        "logging.config.dictConfig({'version': 1})",
    ],
)
def test_an_application_without_one_has_ours(application: str) -> None:
    run(
        application,
        "assert not found\n"
        "assert [h for h in root.handlers if type(h) is not logging.NullHandler]\n"
        "assert root.level == logging.INFO\n",
    )


def test_a_handler_that_was_there_before_stays_beside_ours() -> None:
    run(
        "",
        "assert not found and stranger in root.handlers and len(root.handlers) == 2\n",
        before="logging.getLogger().addHandler(stranger)",
    )
