"""`queue-run routes`."""

import os
import sys
from pathlib import Path

import click

from queue_run.cli.command_line.environment import with_options
from queue_run.cli.command_line.errors import check_not_hidden
from queue_run.settings import Settings


@click.command("routes")
@click.option(
    "--app",
    "app_dir",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder that holds sockets/ and queues/ [QUEUE_RUN_APP_DIR, this one].",
)
def command(app_dir: Path | None) -> None:
    """Show which file answers which path, and the queues with their schedules.

    Each route with its middleware, each queue with when it runs next, if it has a schedule. Loads
    the application, and needs neither Redis nor a worker. A path that ends in … is answered by its
    file, and so are the paths below it that have no file.

    \b
    Examples:
      queue-run routes
      queue-run routes --app examples/chat
    """
    environ = with_options(os.environ, app_dir=app_dir)
    settings = Settings.from_env(environ)  # Wrong settings end here, before another process starts.
    check_not_hidden(Path.cwd(), settings.app_path)
    os.execve(sys.executable, [sys.executable, "-m", "worker"], environ)
