"""The command `queue-run`.

Each subcommand is a file of this folder with a function `command`, imported when it is run and not
before: `queue-run --help` stays quick. Commands start the framework's processes by module name and
import neither `push_server` nor `worker`.
"""

import importlib
from typing import Any

import click

from queue_run import logs
from queue_run.cli.command_line.errors import EXIT_FAILURE, EXIT_USAGE
from queue_run.errors import InfrastructureError, UsageError

#: Subcommand and summary; the file is named like the subcommand.
SUMMARIES = {
    "dev": "Run everything on this machine, and restart workers when files change.",
    "start": "Run the processes of a Procfile on this host, in production.",
    "push-server": "Run a push server: it holds the WebSockets.",
    "worker": "Run a worker: it runs the application's handlers and jobs.",
    "routes": "Show which file answers which path, and the queues with their schedules.",
    "queue": "Push jobs, cancel them, and look after those that have failed.",
}


class LazyGroup(click.Group):
    """Imports the file of the subcommand that is asked for, and no other."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(SUMMARIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in SUMMARIES:
            return None
        module = importlib.import_module(f"{__name__}.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))

    def invoke(self, ctx: click.Context) -> Any:
        logs.prepare()
        try:
            return super().invoke(ctx)
        except UsageError as error:
            click.echo(f"Error: {logs.without_secrets(str(error))}", err=True)
            ctx.exit(EXIT_USAGE)
        except InfrastructureError as error:
            click.echo(f"Error: {logs.without_secrets(str(error))}", err=True)
            ctx.exit(EXIT_FAILURE)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="'queue-run COMMAND --help' shows a command's options and examples.",
)
@click.version_option(package_name="queue-run", message="%(prog)s %(version)s")
def main() -> None:
    """Realtime WebSockets and job queues: an application is two folders of small files.

    \b
    Examples:
      queue-run dev                      everything, with an embedded Redis
      queue-run dev --app examples/chat  another folder than this one
      queue-run routes                   which file answers which path, and the schedules
      queue-run queue push mail '{"to": "ann"}'
      queue-run queue dead list          the jobs that have failed for good
      queue-run start --processes web=2  in production, everything of a Procfile
      queue-run push-server --port 8001  or each process by itself:
      queue-run worker --serve sockets
      queue-run worker --serve jobs -- -c 4

    Settings come from the environment: REDIS_URL, BROKER_URL, PORT and QUEUE_RUN_...
    """
