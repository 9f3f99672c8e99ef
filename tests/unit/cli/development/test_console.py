"""The one log: prefixes, colours, and a reader that goes away."""

import io
from pathlib import Path

from queue_run.cli.development.console import Console
from queue_run.cli.supervision.reporter import Program


def program(name: str, *, quiet: bool = False) -> Program:
    return Program(name=name, command=(), environ={}, cwd=Path(), quiet=quiet)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class ClosedPipe(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_every_line_has_the_name_of_its_process_in_a_column() -> None:
    stream = io.StringIO()
    console = Console(stream, environ={})
    for name in ("redis", "web", "sockets", "jobs"):
        console.output(program(name), "text")
    console.output(program("web"), "")
    console.say("own")
    assert stream.getvalue().splitlines() == [
        "redis   | text",
        "web     | text",
        "sockets | text",
        "jobs    | text",
        "web     |",
        "dev     | own",
    ]


def test_a_terminal_gets_a_colour_for_each_process() -> None:
    stream = Terminal()
    console = Console(stream, environ={})
    console.output(program("web"), "text")
    console.output(program("jobs"), "text")
    first, second = stream.getvalue().splitlines()
    assert first == "\x1b[32mweb     |\x1b[0m text"
    assert second == "\x1b[35mjobs    |\x1b[0m text"


def test_another_command_has_its_own_name_and_names() -> None:
    stream = Terminal()
    console = Console(
        stream, environ={}, own="start", names=["web.1", "worker.12"], again="again kills"
    )
    console.output(program("worker.12"), "text")
    console.stopping()
    assert stream.getvalue() == (
        "\x1b[36mworker.12 |\x1b[0m text\n\r\x1b[33mstart     |\x1b[0m stopping (again kills)\n"
    )


def test_no_color_is_obeyed() -> None:
    stream = Terminal()
    console = Console(stream, environ={"NO_COLOR": "1"})
    console.output(program("web"), "text")
    console.announce(["Ready"])
    assert "\x1b" not in stream.getvalue()


def test_a_quiet_program_is_heard_only_when_it_fails() -> None:
    stream = io.StringIO()
    console = Console(stream, environ={})
    redis = program("redis", quiet=True)
    console.output(redis, "chatter")
    assert not stream.getvalue()
    console.exited(redis, 1, delay=0.5, output=["out of memory"])
    assert stream.getvalue().splitlines() == [
        "redis   | out of memory",
        "dev     | redis ended (exit code 1): it starts again in 0.5 s",
    ]


def test_the_end_of_a_program_is_told_with_what_comes_next() -> None:
    stream = io.StringIO()
    console = Console(stream, environ={})
    console.exited(program("web"), -9, delay=15.0, output=["seen already"])
    console.exited(program("jobs"), 2, delay=None, output=["seen already"])
    console.killed(program("jobs"), after=5.0)
    assert stream.getvalue().splitlines() == [
        "dev     | web ended (killed by SIGKILL): it starts again in 15 s",
        "dev     | jobs ended (exit code 2, see above): it starts again when a file changes",
        "dev     | jobs did not end within 5 s: killed",
    ]


def test_a_reader_that_has_gone_is_reported_once() -> None:
    console = Console(ClosedPipe(), environ={})
    closed: list[bool] = []
    console.on_closed = lambda: closed.append(True)
    console.say("one")
    console.say("two")
    console.stopping()
    assert closed == [True]


def test_a_character_that_the_terminal_lacks_is_escaped() -> None:
    raw = io.BytesIO()
    console = Console(io.TextIOWrapper(raw, encoding="ascii"), environ={})
    console.say("café")
    assert raw.getvalue() == b"dev     | caf\\xe9\n"


def test_what_cannot_be_started_is_told_with_the_reason() -> None:
    stream = io.StringIO()
    console = Console(stream, environ={})
    error = FileNotFoundError(2, "No such file or directory", "/srv/shop/current")
    console.not_started(program("web"), error, delay=0.5)
    assert "web cannot be started (No such file or directory: /srv/shop/current): it is" in (
        stream.getvalue()
    )
