"""The errors with which a command ends."""

import os

import click

from queue_run import logs
from queue_run.application import hidden_modules

#: What was asked for could not be done as things are: it may work later, unchanged.
EXIT_FAILURE = 1

#: Settings, options or a machine that the command cannot work with; Celery and click use it too.
EXIT_USAGE = 2


class _Told(click.ClickException):
    """An error whose text is shown without secrets: Redis and the broker quote their URLs."""

    def format_message(self) -> str:
        return logs.without_secrets(super().format_message())


class CommandError(_Told):
    """Raised for what the user must change: its text on stderr, no traceback, exit code 2."""

    exit_code = EXIT_USAGE


class CommandFailed(_Told):
    """Raised for what could not be done as things are: the same, with exit code 1."""

    exit_code = EXIT_FAILURE


def check_not_hidden(*folders: str | os.PathLike[str]) -> None:
    """Check that no file of the application hides a module of the framework.

    The processes that a command starts look for modules in the application's folder, and in the
    folder that they are started in.

    Raises:
        CommandError: naming each file that is in the way.
    """
    if found := hidden_modules.problems(*folders):
        raise CommandError("\n".join(found))
