"""What is refused before anything starts."""

import socket
from pathlib import Path

import pytest

from queue_run.cli.command_line.errors import CommandError
from queue_run.cli.development.checks import check_application, check_extra, usable_port
from tests.processes import ROOT, free_port


@pytest.mark.parametrize("name", ["sockets", "queues"])
def test_one_of_the_two_folders_is_enough(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    check_application(tmp_path)


def test_a_folder_with_neither_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sockets").touch()
    with pytest.raises(CommandError, match=r"sockets/.*queues.*--app"):
        check_application(tmp_path)


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="sockets/"):
        check_application(tmp_path / "missing")


@pytest.mark.parametrize("name", ["worker.py", "worker/__init__.py", "push_server.py"])
def test_a_module_that_hides_one_of_ours_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "sockets").mkdir()
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(CommandError, match="hides the framework's own module"):
        check_application(tmp_path)


def test_the_frameworks_own_folder_hides_nothing(tmp_path: Path) -> None:
    if (ROOT / "sockets").is_dir():
        check_application(ROOT)


def test_what_dev_needs_is_installed_where_tests_run() -> None:
    check_extra()


def test_a_free_port_is_usable() -> None:
    port = free_port()
    assert usable_port("127.0.0.1", port) == port


def test_port_0_takes_a_free_one() -> None:
    assert usable_port("127.0.0.1", 0) > 0


def test_a_taken_port_is_named_with_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CommandError) as raised:
            usable_port("127.0.0.1", port)
    assert f"port {port} is taken" in raised.value.message
    assert "PORT=" in raised.value.message
    assert "--port" in raised.value.message
    assert raised.value.exit_code == 2


def test_a_host_that_does_not_exist_is_named() -> None:
    with pytest.raises(CommandError, match=r"QUEUE_RUN_HOST='no\.such\.host\.invalid'"):
        usable_port("no.such.host.invalid", 8000)
