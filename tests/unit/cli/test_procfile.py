"""The Procfile starts what the commands start."""

import shlex
import sys

from queue_run.cli.command_line.worker_arguments import worker_arguments
from queue_run.settings import Settings
from tests.processes import ROOT, Process, environment


def commands() -> dict[str, str]:
    lines = (ROOT / "Procfile").read_text().splitlines()
    programs = (line.partition(":") for line in lines if not line.startswith("#"))
    return {name: command.strip() for name, _, command in programs}


def expanded(command: str, **variables: str) -> list[str]:
    """The words of a command as the shell hands them on."""
    listing = f"{sys.executable} -c 'import sys; print(sys.argv[1:])' {command}"
    process = Process(["/bin/sh", "-c", listing], environ=environment(**variables))
    try:
        assert process.wait() == 0, process.output
        words = process.output.strip().strip("[]")
        return [shlex.split(word)[0] for word in words.split(", ")]
    finally:
        process.end()


def words_of(serve: str, settings: Settings, *, process: str = "1") -> list[str]:
    """The words of the command, but for the number in the node name."""
    words = ["celery", *worker_arguments(serve, settings)]
    words[words.index("-n") + 1] = f"{serve}-{process}@%h"
    return words


def test_it_has_the_processes_of_a_deployment() -> None:
    assert list(commands()) == ["web", "worker", "jobs", "beat"]


def test_web_listens_on_every_address_unless_told_otherwise() -> None:
    assert commands()["web"] == "QUEUE_RUN_HOST=${QUEUE_RUN_HOST:-0.0.0.0} python -m push_server"


def test_workers_have_the_arguments_of_the_command() -> None:
    for name, serve in (("worker", "sockets"), ("jobs", "jobs")):
        assert expanded(commands()[name]) == words_of(serve, Settings())


def test_workers_serve_the_namespace_of_the_environment() -> None:
    settings = Settings(namespace="shop", log_level="DEBUG")
    told = {"QUEUE_RUN_NAMESPACE": "shop", "QUEUE_RUN_LOG_LEVEL": "DEBUG"}
    for name, serve in (("worker", "sockets"), ("jobs", "jobs")):
        assert expanded(commands()[name], **told) == words_of(serve, settings)


def test_processes_that_run_side_by_side_have_names_of_their_own() -> None:
    """Where `queue-run start` runs them; others set no such variable."""
    for name, serve in (("worker", "sockets"), ("jobs", "jobs")):
        words = expanded(commands()[name], QUEUE_RUN_PROCESS="2b")
        assert words == words_of(serve, Settings(), process="2b")


def test_beat_keeps_its_file_where_it_is_told_to() -> None:
    words = ["celery", "-A", "worker", "beat", "-s", "celerybeat-schedule", "-l", "INFO"]
    assert expanded(commands()["beat"]) == words
    told = {"BEAT_SCHEDULE": "/var/lib/shop/beat", "QUEUE_RUN_LOG_LEVEL": "DEBUG"}
    words[5], words[7] = "/var/lib/shop/beat", "DEBUG"
    assert expanded(commands()["beat"], **told) == words
