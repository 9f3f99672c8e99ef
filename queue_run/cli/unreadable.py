"""`queue-run queue unreadable`: what lay where messages lie, and nobody could read."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click
import redis
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from queue_run.broker import unreadable as lists
from queue_run.broker.celery_app import is_redis
from queue_run.broker.unreadable import SetAside
from queue_run.cli.command_line.confirmation import confirm
from queue_run.cli.command_line.errors import CommandError, CommandFailed
from queue_run.cli.command_line.listing import Listing, limit_option, lines_option
from queue_run.cli.command_line.text import ago, as_json, one_line, printable
from queue_run.process import runtime
from queue_run.settings import without_password

T = TypeVar("T")

HINT = """\
Show one:  queue-run queue unreadable show ID
Drop:      queue-run queue unreadable drop ID...   (or --all)"""


@click.group("unreadable")
def unreadable() -> None:
    """Look at what workers have set aside because nobody could read it.

    The list keeps the newest 1,000 entries. Nothing in it runs again: whoever has sent it must
    send it anew, in a form that can be read.

    \b
    Examples:
      queue-run queue unreadable list
      queue-run queue unreadable show ID
      queue-run queue unreadable drop --all
    """


@unreadable.command("list")
@limit_option
@lines_option
def list_(limit: int, as_lines: bool) -> None:
    """List what was set aside, the newest first.

    \b
    Examples:
      queue-run queue unreadable list
      queue-run queue unreadable list --json | jq -r .reason
    """
    entries = _newest()
    listing = Listing(("id", "from", "set aside", "reason"), _row, facts, HINT)
    others = len(entries) - limit
    if as_lines:
        listing.echo_lines(entries[:limit])
    elif not entries:
        click.echo("nothing was set aside")
    else:
        more = f"There are {others} more" if others > 0 else None
        listing.echo_table(entries[:limit], time.time(), more=more)


@unreadable.command("show")
@click.argument("entry_id", metavar="ID")
@click.option("--json", "as_object", is_flag=True, help="As a JSON object.")
def show(entry_id: str, as_object: bool) -> None:
    """Show all that was kept of an entry.

    \b
    Examples:
      queue-run queue unreadable show ID
      queue-run queue unreadable show ID --json | jq -r .data
    """
    for entry in _newest():
        if entry.id == entry_id:
            click.echo(
                as_json(facts(entry), indent=2) if as_object else described(entry, time.time())
            )
            return
    raise _missing([entry_id])


@unreadable.command("drop")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that is there now.")
@click.option("--yes", is_flag=True, help="Do not ask before several are dropped.")
def drop(ids: tuple[str, ...], everything: bool, yes: bool) -> None:
    """Forget entries for good.

    \b
    Examples:
      queue-run queue unreadable drop ID
      queue-run queue unreadable drop --all --yes
    """
    if bool(ids) == everything:
        raise CommandError("name entries by ids, or with --all")
    chosen = list(dict.fromkeys(ids or [entry.id for entry in _newest()]))
    if not chosen:
        click.echo("nothing was set aside")
        return
    if len(chosen) > 1 and not yes:
        confirm(f"Drop {len(chosen)} entries? They cannot be brought back")
    dropped = set().union(*_at_each(lambda client, key: lists.drop(client, key, chosen)))
    for each in chosen:
        if each in dropped:
            click.echo(f"dropped {each}")
    if missing := [each for each in chosen if each not in dropped]:
        raise _missing(missing)


def facts(entry: SetAside) -> dict[str, Any]:
    """An entry for scripts, with the names of its fields in Redis; the time is a Unix time."""
    return {
        "id": entry.id,
        "at": entry.at,
        "from": entry.source,
        "reason": entry.reason,
        "length": entry.length,
        "data": entry.data,
    }


def described(entry: SetAside, now: float) -> str:
    """An entry for people."""
    rows = {
        "id": entry.id,
        "from": entry.source,
        "set aside": ago(now, entry.at),
        "reason": entry.reason,
        "length": f"{entry.length:,}{_kept(entry)}",
    }
    lines = "\n".join(f"{name:<9}  {one_line(text)}" for name, text in rows.items())
    data = "\n".join(f"  {line}" for line in printable(entry.data).split("\n"))
    return f"{lines}\n\ndata\n{data}\n\nDrop: queue-run queue unreadable drop {entry.id}"


def _kept(entry: SetAside) -> str:
    longest = lists.LONGEST_KEPT
    return f", of which the first {longest:,} were kept" if entry.length > longest else ""


def _row(entry: SetAside, now: float) -> tuple[str, ...]:
    return (entry.id, one_line(entry.source, 40), ago(now, entry.at), entry.reason)


def _missing(ids: Sequence[str]) -> CommandFailed:
    names = ", ".join(map(one_line, ids))
    return CommandFailed(
        f"no {'entry' if len(ids) == 1 else 'entries'} {names}: "
        "list them with 'queue-run queue unreadable list'"
    )


def _newest() -> list[SetAside]:
    """The entries of all lists, the newest first, each once."""
    # Two URLs may stand for one Redis.
    found = {entry.id: entry for part in _at_each(lists.newest) for entry in part}
    return sorted(found.values(), key=lambda entry: entry.at, reverse=True)


def _at_each(ask: Callable[["redis.Redis", str], T]) -> list[T]:
    """Ask each Redis in which workers set something aside: that of REDIS_URL, and the broker's.

    Raises:
        CommandFailed: when one does not answer.
    """
    here = runtime.current()
    answers = [_answered(here.settings.redis_url, lambda: ask(here.store.client, _key()))]
    if is_redis(here.settings) and here.settings.broker_url not in ("", here.settings.redis_url):

        def ask_broker() -> T:
            with _broker() as client:
                return ask(client, _key())

        answers.append(_answered(here.settings.broker, ask_broker))
    return answers


def _key() -> str:
    return runtime.current().keys.unreadable


@contextmanager
def _broker() -> Iterator["redis.Redis"]:
    """The broker's Redis, over a link of Celery's, which knows all forms of its URL."""
    with runtime.current().celery.connection_for_read() as connection:
        connection.connect()
        channel: Any = connection.default_channel
        with channel.conn_or_acquire() as client:
            yield client


def _answered(url: str, ask: Callable[[], T]) -> T:
    try:
        return ask()
    except (RedisError, OSError, KombuError) as error:
        where = without_password(url)
        raise CommandFailed(f"Redis at {where} does not answer: {error}") from None
