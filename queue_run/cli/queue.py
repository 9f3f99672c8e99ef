"""`queue-run queue`: push jobs, cancel them, and look after those that have failed for good and
after what nobody could read."""

import io
import os
import sys
from pathlib import Path
from typing import Any

import click

from queue_run import as_user, dead_letters, logs, queues
from queue_run.cli.command_line.errors import CommandError, CommandFailed
from queue_run.cli.command_line.text import printable
from queue_run.cli.dead import dead
from queue_run.cli.unreadable import unreadable
from queue_run.contracts.messages import decode_json
from queue_run.errors import UnknownDeadLetter
from queue_run.process import runtime
from queue_run.settings import Settings


@click.group("queue")
def command() -> None:
    """Push jobs, cancel them, and look after those that have failed.

    Needs Redis (REDIS_URL) and the broker (BROKER_URL), and none of the application's files.

    \b
    Examples:
      queue-run queue push mail '{"to": "ann@example.com"}'
      queue-run queue cancel 0b5f7f53-6f0c-4a52-9d1c-4f0a8b1f4d55
      queue-run queue dead list
      queue-run queue dead retry --queue mail
      queue-run queue unreadable list

    Exit code 1: something failed now, for example Redis does not answer. Exit code 2: something
    must be changed, for example the name of a queue.
    """
    # Wrong settings end here, before anything is done.
    logs.prepare(Settings.from_env(os.environ).secrets)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that cannot show a character shows its number.
        sys.stdout.reconfigure(errors="backslashreplace")


command.add_command(dead)
command.add_command(unreadable)


# Push


def _not_empty(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value == "":
        raise click.BadParameter("it is empty")
    return value


def _pairs(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    found = {}
    for each in values:
        name, equals, value = each.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"{each!r} is not NAME=VALUE")
        found[name] = value
    return found


@command.command("push")
@click.argument("name", metavar="NAME")
@click.argument("payload", metavar="[JSON|@FILE|-]", required=False)
@click.option("--text", "as_text", is_flag=True, help="The payload is text as it stands, not JSON.")
@click.option(
    "--group",
    "group_id",
    metavar="ID",
    callback=_not_empty,
    help="FIFO queues: jobs of one group run in order, one at a time.",
)
@click.option(
    "--dedupe",
    "dedupe_id",
    metavar="ID",
    callback=_not_empty,
    help="FIFO queues: the same push to a group within five minutes is dropped.",
)
@click.option(
    "--user", "user_id", metavar="ID", callback=_not_empty, help="The user whom the job belongs to."
)
@click.option(
    "--param",
    "params",
    metavar="NAME=VALUE",
    multiple=True,
    callback=_pairs,
    help="A text beside the payload, for the handler's params; may be repeated.",
)
def push(
    name: str,
    payload: str | None,
    as_text: bool,
    group_id: str | None,
    dedupe_id: str | None,
    user_id: str | None,
    params: dict[str, str],
) -> None:
    """Push a job to the queue NAME, and print the job's id.

    The payload is JSON: the argument itself, a file's (@FILE) or that of standard input (-).
    Without one it is null. A push that a FIFO queue has already prints the first one's id.

    \b
    Examples:
      queue-run queue push mail '{"to": "ann@example.com"}'
      queue-run queue push mail @letter.json --user ann
      queue-run queue push greet '"hello"'            text, as JSON
      queue-run queue push greet --text hello         the same
      queue-run queue push add -- -5                  a payload that begins with a dash
      queue-run queue push orders --group customer-7 '{"order": 12}'
      id=$(queue-run queue push nightly) && echo "$id runs"
    """
    value = _payload(payload, as_text=as_text)
    known = runtime.current().queue(name)
    if known is not None:
        _check_group(name, group_id, dedupe_id, fifo=known.facts.fifo)
    queue = queues.get(name)
    if group_id is not None:
        queue = queue.group(group_id)
    if dedupe_id is not None:
        queue = queue.dedupe(dedupe_id)
    with as_user({"id": user_id} if user_id is not None else None):
        job_id = queue.push(value, params=params).value
    click.echo(str(job_id))
    if known is None:
        click.echo("note: no worker has run here yet; the job waits for one", err=True)


def _check_group(name: str, group: str | None, dedupe: str | None, *, fifo: bool) -> None:
    """The same as `push` checks, in the words of the command."""
    if fifo and group is None:
        raise CommandError(f"{name} is a FIFO queue: say which group keeps its order, --group ID")
    if not fifo and (group is not None or dedupe is not None):
        raise CommandError(f"{name} is no FIFO queue: push without --group and --dedupe")


def _payload(argument: str | None, *, as_text: bool) -> Any:
    """
    Raises:
        CommandError: for a file that cannot be read, and for what is not JSON.
    """
    if argument is None:
        if as_text:
            raise CommandError("--text needs a payload")
        return None
    source, text = _read(argument)
    if as_text:
        return text
    try:
        return decode_json(text)
    except ValueError as error:
        problem = str(error).removeprefix("JSON is malformed: ") if text.strip() else "it is empty"
        hint = "quote a text as JSON does, '\"text\"', or add --text"
        raise CommandError(f"{source} is not JSON ({problem}): {hint}") from None


def _read(argument: str) -> tuple[str, str]:
    """Read a payload given as an argument, from a file (`@name`) or from standard input (`-`).

    Returns:
        The name of the source, for error messages, and the text.

    Raises:
        CommandError: when it cannot be read, or is not UTF-8.
    """
    source = "the payload"
    try:
        if argument == "-":
            source, data = "standard input", sys.stdin.buffer.read()
        elif argument.startswith("@"):
            source = argument.removeprefix("@")
            data = Path(source).read_bytes()
        else:
            data = os.fsencode(argument)
        return source, data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CommandError(f"{source} is not UTF-8: {error.reason}") from None
    except OSError as error:
        raise CommandError(f"{argument}: {error.strerror}") from None


# Cancel


@command.command("cancel", short_help="Cancel a job, whether or not it runs.")
@click.argument("job_id", metavar="ID")
def cancel(job_id: str) -> None:
    """Cancel a job: one that waits does not run, one that runs is told by its signal.

    A job that does not look at its signal runs to its end. That of an id that nobody has pushed
    cannot be told from one that waits.

    \b
    Example:
      queue-run queue cancel 0b5f7f53-6f0c-4a52-9d1c-4f0a8b1f4d55
    """
    try:
        dead_letters.get(job_id)
    except UnknownDeadLetter:
        pass
    else:
        raise CommandFailed(
            f"{printable(job_id)} has failed already: forget it with "
            f"'queue-run queue dead drop {printable(job_id)}'"
        )
    if not runtime.current().attempts.cancel(job_id):
        raise CommandFailed(f"{printable(job_id)} has ended already")
    click.echo(f"cancelled {printable(job_id)}")
