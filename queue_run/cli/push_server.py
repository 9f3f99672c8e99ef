"""`queue-run push-server`."""

import os
import sys
from pathlib import Path

import click

from queue_run.cli.command_line.environment import with_options
from queue_run.cli.command_line.errors import check_not_hidden
from queue_run.settings import Settings


@click.command("push-server")
@click.option("--host", metavar="ADDRESS", help="Address to listen on [QUEUE_RUN_HOST, 127.0.0.1].")
@click.option("--port", metavar="N", help="Port to listen on [PORT, 8000].")
@click.option(
    "--app",
    "app_dir",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder that holds sockets/ and queues/ [QUEUE_RUN_APP_DIR, this one].",
)
def command(host: str | None, port: str | None, app_dir: Path | None) -> None:
    """Run a push server: it holds the WebSockets.

    It runs none of the application's code and needs Redis (REDIS_URL) and, to answer messages, a
    worker. The same as 'python -m push_server', with options.

    \b
    Examples:
      queue-run push-server
      queue-run push-server --host 0.0.0.0 --port 8001
      REDIS_URL=redis://10.0.0.5:6379/0 queue-run push-server

    \b
    Two processes that share one port (the kernel spreads connections over them):
      QUEUE_RUN_REUSE_PORT=true queue-run push-server &
      QUEUE_RUN_REUSE_PORT=true queue-run push-server &
    """
    environ = with_options(os.environ, host=host, port=port, app_dir=app_dir)
    settings = Settings.from_env(environ)  # Wrong settings end here, before another process starts.
    check_not_hidden(Path.cwd(), settings.app_path)
    os.execve(sys.executable, [sys.executable, "-m", "push_server"], environ)
