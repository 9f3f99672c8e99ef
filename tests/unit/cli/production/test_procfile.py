"""Lines of a Procfile, and what each of them is for."""

from pathlib import Path

import pytest

from queue_run.cli.command_line.errors import CommandError
from queue_run.cli.production.procfile import DEFAULT, ProcfileLine, Role, parse, read
from tests.processes import ROOT


def test_lines_have_a_name_and_a_command() -> None:
    text = "# all of it\n\nweb: A=1 python -m push_server --x\n  my-job_2 :run: it  \n"
    assert parse(text) == [
        ProcfileLine(name="web", command="A=1 python -m push_server --x"),
        ProcfileLine(name="my-job_2", command="run: it"),
    ]


@pytest.mark.parametrize("line", ["web", "web:", "web:   ", ": command", "we b: command", "é: c"])
def test_a_line_that_is_none_is_named_with_its_number(line: str) -> None:
    with pytest.raises(CommandError) as caught:
        parse(f"# comment\nok: command\n{line}\n", source="deploy/Procfile")
    assert "deploy/Procfile, line 3: expected 'name: command'" in caught.value.message
    assert repr(line.strip()) in caught.value.message


def test_a_name_that_comes_twice_is_refused() -> None:
    with pytest.raises(CommandError, match="line 3: the name 'web' is taken"):
        parse("web: a\nworker: b\nweb: c\n")


def test_a_file_without_lines_is_refused() -> None:
    with pytest.raises(CommandError, match="has no line"):
        parse("# later\n")


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="No such file"):
        read(tmp_path / "Procfile")
    (tmp_path / "Procfile").write_bytes(b"web: \xff\n")
    with pytest.raises(CommandError, match="cannot be read"):
        read(tmp_path / "Procfile")


def test_the_repository_s_own_has_each_role() -> None:
    assert {entry.name: entry.role for entry in read(ROOT / "Procfile")} == {
        "web": Role.PUSH_SERVER,
        "worker": Role.WORKER,
        "jobs": Role.WORKER,
        "beat": Role.BEAT,
    }


@pytest.mark.parametrize(
    ("command", "role"),
    [
        ("QUEUE_RUN_HOST=::1 python -m push_server", Role.PUSH_SERVER),
        ("queue-run push-server --port 1", Role.PUSH_SERVER),
        ("queue-run worker --serve sockets", Role.WORKER),
        ("celery --app worker worker -P solo", Role.WORKER),
        ("celery --app=worker worker", Role.WORKER),
        ("celery -A worker beat", Role.BEAT),
        ("celery -A worker worker -n beater@%h", Role.WORKER),
        # The application's name, and not what it does.
        ("celery -A worker flower", Role.OTHER),
        ("gunicorn site:app --workers 4", Role.OTHER),
    ],
)
def test_a_command_tells_its_role(command: str, role: Role) -> None:
    assert ProcfileLine(name="any", command=command).role is role


def test_the_default_is_the_repository_s_own() -> None:
    assert DEFAULT.read_text() == (ROOT / "Procfile").read_text()
