"""What `queue-run queue push` makes of its payload, and of options that cannot be used."""

import io
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from queue_run.cli import main
from queue_run.cli.command_line.errors import CommandError
from queue_run.cli.queue import _payload


def payload(argument: str | None, *, as_text: bool = False) -> object:
    return _payload(argument, as_text=as_text)


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    """Standard input, still empty."""
    stream = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream))
    return stream


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        (None, None),
        ("null", None),
        ('{"to": ["ann", 1, 2.5, true]}', {"to": ["ann", 1, 2.5, True]}),
        ('"@text"', "@text"),
        ("-5", -5),
    ],
)
def test_an_argument_is_json(argument: str | None, value: object) -> None:
    assert payload(argument) == value


def test_a_text_may_stand_as_it_is() -> None:
    for text in ("hello", "{", " é ", ""):
        assert payload(text, as_text=True) == text
    with pytest.raises(CommandError, match="--text needs a payload"):
        payload(None, as_text=True)


def test_a_file_and_standard_input_are_read(tmp_path: Path, stdin: io.BytesIO) -> None:
    path = tmp_path / "mail.json"
    path.write_bytes(b'\xef\xbb\xbf{"to": "ann"}\n')
    assert payload(f"@{path}") == {"to": "ann"}
    assert payload(f"@{path}", as_text=True) == '{"to": "ann"}\n'
    stdin.write(b"[1]\n")
    stdin.seek(0)
    assert payload("-") == [1]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("hello", "the payload is not JSON (invalid character (byte 0))"),
        ("", "the payload is not JSON (it is empty)"),
        ("{} {}", "the payload is not JSON (trailing characters (byte "),
        ("[" * 100_000, "the payload is not JSON (the JSON is nested too deeply)"),
    ],
)
def test_what_is_not_json_is_refused_with_what_to_do(text: str, problem: str) -> None:
    with pytest.raises(CommandError) as caught:
        payload(text)
    assert caught.value.message.startswith(problem)
    assert caught.value.message.endswith("quote a text as JSON does, '\"text\"', or add --text")


def test_what_cannot_be_read_is_named(tmp_path: Path, stdin: io.BytesIO) -> None:
    with pytest.raises(CommandError, match=r"^@.*/missing: No such file or directory$"):
        payload(f"@{tmp_path}/missing")
    with pytest.raises(CommandError, match=r"^@.*: Is a directory$"):
        payload(f"@{tmp_path}")
    (tmp_path / "latin").write_bytes(b'"\xe9"')
    with pytest.raises(CommandError, match=r"/latin is not UTF-8"):
        payload(f"@{tmp_path}/latin")
    with pytest.raises(CommandError, match=r"standard input is not JSON.*it is empty"):
        payload("-")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["push"], "Missing argument 'NAME'"),
        (["push", "mail", "--group", ""], "'--group': it is empty"),
        (["push", "mail", "--user", ""], "'--user': it is empty"),
        (["push", "mail", "--param", "a"], "'a' is not NAME=VALUE"),
        (["push", "mail", "--param", "=a"], "'=a' is not NAME=VALUE"),
        (["dead", "list", "--limit", "0"], "0 is not in the range"),
        (["dead", "retry"], "name dead letters by ids, or with --queue NAME, or with --all"),
        (["dead", "drop", "1", "--all"], "name dead letters by ids, or with"),
    ],
)
def test_options_that_cannot_be_used_are_refused(arguments: list[str], problem: str) -> None:
    result = CliRunner().invoke(main, ["queue", *arguments])
    assert result.exit_code == 2
    assert problem in result.output
