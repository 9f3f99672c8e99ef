"""Options as variables, and what the processes of `dev` are told."""

from pathlib import Path

import pytest

from queue_run.cli.command_line.environment import for_development, is_set, with_options
from queue_run.settings import Settings

REDIS_URL = "redis://127.0.0.1:1234/0"


def development(app: Path, **environ: str) -> dict[str, str]:
    environ = {"QUEUE_RUN_APP_DIR": str(app), "PORT": "8000", **environ}
    return for_development(environ, Settings.from_env(environ), redis_url=REDIS_URL, port=8001)


def test_options_that_were_given_win_over_the_environment() -> None:
    environ = {"PORT": "1", "QUEUE_RUN_HOST": "a", "OTHER": "kept"}
    assert with_options(environ, port=2, host=None, app_dir=Path("x")) == {
        "PORT": "2",
        "QUEUE_RUN_HOST": "a",
        "QUEUE_RUN_APP_DIR": "x",
        "OTHER": "kept",
    }


def test_an_empty_variable_is_not_set() -> None:
    assert is_set({"REDIS_URL": "redis://x"}, "redis_url")
    assert not is_set({"REDIS_URL": " "}, "redis_url")
    assert not is_set({}, "redis_url")


def test_processes_get_redis_port_and_an_absolute_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "app").mkdir()
    monkeypatch.chdir(tmp_path)
    told = development(Path("app"), BROKER_URL="amqp://127.0.0.1")
    assert told["REDIS_URL"] == REDIS_URL
    assert told["BROKER_URL"] == "amqp://127.0.0.1"
    assert told["PORT"] == "8001"
    assert told["QUEUE_RUN_APP_DIR"] == str(tmp_path / "app")
    assert told["PYTHONUNBUFFERED"] == "1"


@pytest.mark.parametrize(("given", "told"), [("", "true"), ("false", "false")])
def test_errors_are_exposed_unless_the_environment_says_otherwise(
    tmp_path: Path, given: str, told: str
) -> None:
    assert development(tmp_path, QUEUE_RUN_EXPOSE_ERRORS=given)["QUEUE_RUN_EXPOSE_ERRORS"] == told


@pytest.mark.parametrize(
    ("given", "more"),
    [
        ({}, ",127.0.0.1"),
        ({"QUEUE_RUN_HOST": "dev.example"}, ",dev.example"),
        ({"QUEUE_RUN_HOST": "0.0.0.0"}, ",0.0.0.0/0,::/0"),
        ({"QUEUE_RUN_ALLOWED_HOSTS": "a.example, b.example"}, ",127.0.0.1,a.example,b.example"),
    ],
)
def test_the_push_server_is_called_by_names_of_this_machine(
    tmp_path: Path, given: dict[str, str], more: str
) -> None:
    told = development(tmp_path, **given)
    assert told["QUEUE_RUN_ALLOWED_HOSTS"] == f"localhost,.localhost,127.0.0.0/8,::1{more}"
    assert Settings.from_env(told).allowed_hosts


def test_the_applications_public_folder_is_served_if_it_exists(tmp_path: Path) -> None:
    assert "QUEUE_RUN_PUBLIC_DIR" not in development(tmp_path)
    (tmp_path / "public").mkdir()
    assert development(tmp_path)["QUEUE_RUN_PUBLIC_DIR"] == str(tmp_path / "public")


def test_a_public_folder_is_the_one_below_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "app" / "public").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    told = development(tmp_path / "app", QUEUE_RUN_PUBLIC_DIR="site")
    assert told["QUEUE_RUN_PUBLIC_DIR"] == str(tmp_path / "site")
