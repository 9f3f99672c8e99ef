"""A question before something that cannot be undone."""

import click

from queue_run.cli.command_line.errors import CommandFailed


def confirm(question: str) -> None:
    """
    Raises:
        CommandFailed: unless the answer is yes.
    """
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        # Ctrl+C, or nobody there to answer.
        click.echo(err=True)
        agreed = False
    if not agreed:
        raise CommandFailed("nothing was dropped (--yes drops without asking)")
