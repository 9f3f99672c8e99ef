"""What a command says before it gives up."""

import click

from queue_run.cli import EXIT_FAILURE, EXIT_USAGE


class CommandError(click.ClickException):
    """Raised for what the user must change: its text on stderr, no traceback, exit code 2."""

    exit_code = EXIT_USAGE


class CommandFailed(click.ClickException):
    """Raised for what could not be done as things are: the same, with exit code 1."""

    exit_code = EXIT_FAILURE
