"""An application that logs in its own way: workers of every pool leave it so."""

import json
import signal
import sys
from pathlib import Path

import pytest

from tests.clients import connected
from tests.conftest import NewStack, WriteApp
from tests.processes import Process, RedisServer, environment
from tests.waiting import eventually_async

LOGGING = """\
import json, logging, logging.config

class Lines(logging.Formatter):
    def format(self, record):
        failure = record.exc_info and repr(record.exc_info[1])
        return json.dumps({"own": record.getMessage(), "failure": failure or ""})

LOGGING = {
    "version": 1,
    # The default, which silences whatever is there already.
    "disable_existing_loggers": True,
    "formatters": {"lines": {"()": "sockets._logging.Lines"}},
    "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "lines"}},
    "root": {"handlers": ["out"], "level": "INFO"},
}
"""
SET_UP = {
    "dictConfig": "from sockets._logging import LOGGING\n"
    "import logging.config\nlogging.config.dictConfig(LOGGING)\n",
    "basicConfig": "from sockets._logging import Lines\nimport logging\n"
    "out = logging.StreamHandler()\nout.setFormatter(Lines())\n"
    "logging.basicConfig(handlers=[out], level='INFO')\n",
    # `disable_existing_loggers` is its default, too.
    "fileConfig": "import logging.config, pathlib\n"
    "logging.config.fileConfig(pathlib.Path(__file__).parent.parent / 'logging.ini')\n",
    "django": "",
}
INI = """\
[loggers]
keys = root
[handlers]
keys = out
[formatters]
keys = lines
[logger_root]
level = INFO
handlers = out
[handler_out]
class = StreamHandler
args = ()
formatter = lines
[formatter_lines]
class = sockets._logging.Lines
"""
HANDLER = """\
import logging
from queue_run import queues

async def handler(data):
    logging.getLogger("shop").info("asked")
    await queues.get("job").push({})
    raise LookupError("no such thing")
"""
JOB = """\
import logging

def handler(job):
    logging.getLogger("shop").info("job runs")
"""


@pytest.mark.parametrize("way", SET_UP)
async def test_an_applications_own_logging_stays(
    redis_server: RedisServer, new_stack: NewStack, write_app: WriteApp, way: str
) -> None:
    files = {
        "sockets/_logging.py": LOGGING,
        "sockets/_set_up.py": SET_UP[way],
        "sockets/index.py": HANDLER,
        "queues/job.py": JOB,
        "logging.ini": INI,
    }
    variables = {}
    if way == "django":
        # Files of `sockets` cannot be imported yet.
        files["site_settings.py"] = LOGGING.replace("sockets._logging", "site_settings")
        variables["DJANGO_SETTINGS_MODULE"] = "site_settings"
    stack = new_stack(redis_server, write_app(files), **variables)
    stack.push_server()
    sockets = stack.worker("-P", "solo", queues="sockets")
    jobs = stack.worker("-c", "1", queues="jobs")
    stack.wait_until_ready()
    async with connected(stack.ws("/")) as client:
        assert "internal error" in (await client.ask("hi"))["error"]
    for worker, expected in ((sockets, "asked"), (jobs, "job runs")):
        await eventually_async(
            lambda worker=worker, expected=expected: expected in own_lines(worker.output),  # type: ignore[misc]
            what=f"{expected!r} in the application's own form",
        )
        # Nothing of ours beside it.
        assert " INFO " not in worker.output
    # Errors of handlers are told, in the same form.
    await eventually_async(
        lambda: '"failure": "LookupError(' in sockets.output,
        what="the handler's error",
    )
    # No two lines for each batch of requests.
    assert "Task queue" not in sockets.output + jobs.output


def test_a_rolling_restart_knows_what_is_ready_whatever_the_format(
    redis_server: RedisServer, write_app: WriteApp, namespace: str, tmp_path: Path
) -> None:
    app = write_app(
        {
            "sockets/_logging.py": LOGGING,
            "sockets/_set_up.py": SET_UP["basicConfig"],
            "sockets/index.py": HANDLER,
        }
    )
    (tmp_path / "Procfile").write_text(f"worker: {sys.executable} -m celery -A worker worker\n")
    command = [sys.executable, "-m", "queue_run", "start"]
    environ = environment(
        REDIS_URL=redis_server.url, QUEUE_RUN_APP_DIR=str(app), QUEUE_RUN_NAMESPACE=namespace
    )
    session = Process(command, environ=environ, cwd=tmp_path)
    try:
        session.wait_for_output(" ready.\n")
        session.send(signal.SIGHUP)
        session.wait_for_output("rolling restart: done")
    finally:
        session.end()


def own_lines(output: str) -> list[str]:
    """The lines in the form of the application, in order."""
    return [json.loads(line)["own"] for line in output.splitlines() if line.startswith('{"own"')]
