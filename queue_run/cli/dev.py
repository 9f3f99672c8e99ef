"""`queue-run dev`."""

import asyncio
import os
import sys
from pathlib import Path

import click

from queue_run import logs
from queue_run.cli.command_line.environment import with_options
from queue_run.cli.development.checks import check_application, check_extra, usable_port
from queue_run.cli.development.console import Console
from queue_run.cli.development.run import DevelopmentRun
from queue_run.settings import Settings


@click.command("dev")
@click.option("--port", metavar="N", help="Port to listen on; 0 takes a free one [PORT, 8000].")
@click.option(
    "--app",
    "app_dir",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder that holds sockets/ and queues/ [QUEUE_RUN_APP_DIR, this one].",
)
def command(port: str | None, app_dir: Path | None) -> None:
    """Run everything on this machine, and restart workers when files change.

    Starts a Redis (unless REDIS_URL names one), the push server, a worker for messages, one for
    jobs and Celery beat for schedules, and shows what they write in one log. When a .py file of the
    application changes, only the workers and beat restart: connections stay open. Ctrl+C stops
    everything; what the private Redis held is gone then.

    \b
    Examples:
      queue-run dev
      queue-run dev --app examples/chat
      queue-run dev --port 8001
      REDIS_URL=redis://127.0.0.1:6379/3 queue-run dev
      QUEUE_RUN_LOG_LEVEL=DEBUG queue-run dev
    """
    environ = with_options(os.environ, port=port, app_dir=app_dir)
    settings = Settings.from_env(environ)
    logs.prepare(settings.secrets)
    check_extra()
    check_application(settings.app_path)
    session = DevelopmentRun(
        settings=settings,
        environ=environ,
        port=usable_port(settings.host, settings.port, shared=settings.reuse_port),
        console=Console(sys.stdout, environ=environ),
    )
    asyncio.run(session.run())
