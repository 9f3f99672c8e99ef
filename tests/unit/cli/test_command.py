"""The command as its users run it: as a subprocess."""

import importlib
import json
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest

from queue_run.cli import SUMMARIES
from tests.processes import ROOT, environment, free_port

DEADLINE = 60


def queue_run(
    *arguments: str, cwd: Path = ROOT, **variables: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "queue_run", *arguments],
        env=environment(**variables),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )


def assert_refused(result: "subprocess.CompletedProcess[str]", *texts: str) -> None:
    """Exit code 2 and one clear message."""
    assert result.returncode == 2, result
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert "Traceback" not in result.stderr
    for text in texts:
        assert text in result.stderr


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "sockets").mkdir()
    return tmp_path


def test_help_lists_every_subcommand() -> None:
    result = queue_run("--help")
    assert result.returncode == 0
    assert result.stderr == ""
    for name in SUMMARIES:
        assert f"  {name} " in result.stdout


def test_help_imports_no_subcommand() -> None:
    code = (
        "import json, sys; from queue_run.cli import main; main(['--help'], standalone_mode=False);"
        "print(json.dumps([name for name in sys.modules]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(result.stdout.splitlines()[-1]))
    assert "queue_run.cli" in loaded
    assert not loaded & {"queue_run.cli.dev", "queue_run.cli.worker", "watchfiles", "push_server"}


@pytest.mark.parametrize("name", SUMMARIES)
def test_every_subcommand_has_its_summary_and_examples(name: str) -> None:
    module = importlib.import_module(f"queue_run.cli.{name.replace('-', '_')}")
    command: click.Command = module.command
    assert command.name == name
    assert (command.help or "").partition("\n")[0] == SUMMARIES[name]
    result = queue_run(name, "-h")
    assert result.returncode == 0
    assert "Examples:" in result.stdout
    assert f"queue-run {name}" in result.stdout


def test_an_unknown_subcommand_is_refused() -> None:
    result = queue_run("deploy")
    assert result.returncode == 2
    assert "No such command 'deploy'" in result.stderr


@pytest.mark.parametrize("name", ["dev", "start", "push-server", "worker"])
def test_wrong_settings_are_listed(name: str, app: Path) -> None:
    result = queue_run(name, cwd=app, PORT="many", QUEUE_RUN_LOG_LEVL="DEBUG")
    assert_refused(result, "PORT='many'", "did you mean QUEUE_RUN_LOG_LEVEL?")


def test_dev_refuses_a_folder_without_an_application(tmp_path: Path) -> None:
    assert_refused(queue_run("dev", cwd=tmp_path), str(tmp_path), "sockets/", "--app")
    missing = str(tmp_path / "missing")
    assert_refused(queue_run("dev", "--app", missing), missing)


def test_dev_refuses_a_port_that_is_taken(app: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert_refused(queue_run("dev", "--port", port, cwd=app), port, "PORT=", "--port")
        assert_refused(queue_run("dev", cwd=app, PORT=port), port)


def test_dev_refuses_a_redis_that_does_not_answer(app: Path) -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    assert_refused(queue_run("dev", "--port", "0", cwd=app, REDIS_URL=url), url, "REDIS_URL")
