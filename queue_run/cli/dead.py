"""`queue-run queue dead`: jobs that have failed for good."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

import click

from queue_run import Answer, dead_letters
from queue_run.cli.command_line.confirmation import confirm
from queue_run.cli.command_line.errors import CommandError, CommandFailed
from queue_run.cli.command_line.listing import Listing, limit_option, lines_option
from queue_run.cli.command_line.text import ago, as_json, one_line, printable
from queue_run.errors import InvalidName, UnknownDeadLetter, UnknownQueue
from queue_run.jobs.stored import DeadLetter
from queue_run.process import runtime

HINT = """\
Show one:  queue-run queue dead show ID
Retry:     queue-run queue dead retry ID...   (or --queue NAME, or --all)
Drop:      queue-run queue dead drop ID...    (or --queue NAME, or --all)"""


@click.group("dead")
def dead() -> None:
    """Look after dead letters: jobs that have failed for good.

    They are kept until they are retried or dropped.

    \b
    Examples:
      queue-run queue dead list
      queue-run queue dead show ID
      queue-run queue dead retry --queue mail
      queue-run queue dead drop --all
    """


# Look


@dead.command("list")
@click.argument("queue", metavar="[QUEUE]", required=False)
@limit_option
@lines_option
def list_(queue: str | None, limit: int, as_lines: bool) -> None:
    """List dead letters, the newest first: of one queue, or of all.

    \b
    Examples:
      queue-run queue dead list
      queue-run queue dead list mail --limit 100
      queue-run queue dead list --json | jq .payload
    """
    letters = dead_letters.newest(queue, limit=limit + 1).value
    listing = Listing(("id", "queue", "failed", "attempts", "error"), _row, facts, HINT)
    if as_lines:
        listing.echo_lines(letters[:limit])
    elif not letters:
        _say_none(queue)
    else:
        more = f"There are more than these {limit}" if len(letters) > limit else None
        listing.echo_table(letters[:limit], _now(), more=more)


@dead.command("show")
@click.argument("job_id", metavar="ID")
@click.option("--json", "as_object", is_flag=True, help="As a JSON object.")
def show(job_id: str, as_object: bool) -> None:
    """Show all that is known of a dead letter.

    \b
    Examples:
      queue-run queue dead show ID
      queue-run queue dead show ID --json | jq .payload > payload.json
    """
    try:
        letter = dead_letters.get(job_id).value
    except UnknownDeadLetter as error:
        raise CommandFailed(printable(str(error))) from None
    click.echo(as_json(facts(letter), indent=2) if as_object else described(letter, _now()))


def _now() -> float:
    """The present time, by the clock that gives letters their times."""
    here = runtime.current()
    here.measure_clock()
    return here.clock.now()


def facts(letter: DeadLetter) -> dict[str, Any]:
    """A letter for scripts; times are Unix times."""
    job = letter.job
    return {
        "id": job.id,
        "queue": job.queue,
        "payload": job.payload,
        "user": job.facts.user,
        "group": job.facts.group,
        "sequence": letter.sequence,
        "params": job.facts.params,
        "queued_at": job.facts.queued_at,
        "failed_at": letter.failed_at,
        "attempts": letter.attempts,
        "retried": job.facts.revived,
        "error": letter.error,
        "traceback": letter.traceback,
    }


def described(letter: DeadLetter, now: float) -> str:
    """A letter for people."""
    job = letter.job
    queued = job.facts.queued_at
    rows = {
        "id": job.id,
        "queue": job.queue,
        "user": as_json(job.facts.user) if job.facts.user is not None else "nobody's",
        "group": job.facts.group,
        "params": as_json(job.facts.params) if job.facts.params else None,
        "queued": ago(now, queued) if queued is not None else "at an unknown time",
        "failed": ago(now, letter.failed_at),
        "attempts": f"{letter.attempts}{_since_retry(job.facts.revived)}",
        "error": letter.error,
    }
    lines = [f"{name:<8}  {one_line(text)}" for name, text in rows.items() if text is not None]
    parts = ["\n".join(lines), f"payload\n{_indented(as_json(job.payload, indent=2))}"]
    if letter.traceback:
        # Tabs and the lines of the error's own text, which may be anything.
        parts.append(f"traceback\n{_indented(printable(letter.traceback.expandtabs(4)))}")
    shown = one_line(job.id)
    parts.append(
        f"Retry: queue-run queue dead retry {shown}\nDrop:  queue-run queue dead drop {shown}"
    )
    return "\n\n".join(parts)


def _row(letter: DeadLetter, now: float) -> tuple[str, ...]:
    # A job that came another way than through `queue_run` may have any id.
    return (
        one_line(letter.job.id),
        one_line(letter.job.queue),
        ago(now, letter.failed_at),
        str(letter.attempts),
        letter.error,
    )


def _since_retry(times: int) -> str:
    if not times:
        return ""
    return f", since it was retried from here {'once' if times == 1 else f'{times} times'}"


def _indented(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.rstrip("\n").split("\n"))


def _say_none(queue: str | None) -> None:
    click.echo("no dead letters" if queue is None else f"no dead letters of {printable(queue)}")
    if queue is None:
        return
    try:
        runtime.current().queue(queue)
    except UnknownQueue as error:
        # It may be gone with all its jobs looked after; more often it is misspelt.
        click.echo(f"note: {error}", err=True)


# Do

_ids = click.argument("ids", metavar="[ID]...", nargs=-1)
_queue = click.option("--queue", metavar="NAME", help="All of this queue.")
_all = click.option("--all", "everything", is_flag=True, help="All of all queues.")


@dead.command("retry", short_help="Run jobs again.")
@_ids
@_queue
@_all
def retry(ids: tuple[str, ...], queue: str | None, everything: bool) -> None:
    """Run jobs again, under their ids and with all their attempts, the oldest first.

    A job of a FIFO queue becomes the last of its group.

    \b
    Examples:
      queue-run queue dead retry ID
      queue-run queue dead retry --queue mail
      queue-run queue dead retry --all
    """
    _do("retried", dead_letters.retry, _chosen(ids, queue, everything))


@dead.command("drop")
@_ids
@_queue
@_all
@click.option("--yes", is_flag=True, help="Do not ask before several are dropped.")
def drop(ids: tuple[str, ...], queue: str | None, everything: bool, yes: bool) -> None:
    """Forget jobs for good.

    \b
    Examples:
      queue-run queue dead drop ID
      queue-run queue dead drop --queue mail
      queue-run queue dead drop --all --yes
    """
    chosen = _chosen(ids, queue, everything)
    if len(chosen) > 1 and not yes:
        confirm(f"Drop {len(chosen)} dead letters? They cannot be brought back")
    _do("dropped", dead_letters.drop, chosen)


def _chosen(ids: tuple[str, ...], queue: str | None, everything: bool) -> Mapping[str, str | None]:
    """The ids that are meant, each with its queue where that is known.

    Raises:
        CommandError: unless they are named in exactly one way.
    """
    if sum((bool(ids), queue is not None, everything)) != 1:
        raise CommandError("name dead letters by ids, or with --queue NAME, or with --all")
    if ids:
        return dict.fromkeys(ids)
    # All at once: one that fails again meanwhile is not meant. Oldest first keeps a group's order.
    letters = {
        each.job.id: each.job.queue for each in dead_letters.newest(queue, limit=sys.maxsize).value
    }
    if not letters:
        _say_none(queue)
    return dict(reversed(letters.items()))


def _do(done: str, act: Callable[[str], Answer[None]], chosen: Mapping[str, str | None]) -> None:
    """Do it to each, and say so.

    Raises:
        CommandFailed: at the end, if some were not there.
    """
    missing = []
    for job_id, queue in chosen.items():
        try:
            act(job_id)
        except (UnknownDeadLetter, InvalidName):
            missing.append(job_id)
            continue
        of = f" of {one_line(queue)}" if queue is not None else ""
        click.echo(f"{done} {one_line(job_id)}{of}")
    if missing:
        names = ", ".join(map(one_line, missing))
        raise CommandFailed(
            f"no dead letter{'s' * (len(missing) > 1)} {names}: "
            "list them with 'queue-run queue dead list'"
        )
