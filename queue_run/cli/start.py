"""`queue-run start`."""

import asyncio
import os
import sys
from pathlib import Path

import click

from queue_run import logs
from queue_run.cli.development.console import Console
from queue_run.cli.production import formation, procfile
from queue_run.cli.production.session import ProductionSession
from queue_run.settings import Settings


@click.command("start")
@click.argument("path", metavar="[PROCFILE]", default="Procfile", type=click.Path(path_type=Path))
@click.option(
    "--processes",
    metavar="NAME=N,...",
    default="",
    help="How many processes of each line; 0 for none [one of each].",
)
def command(path: Path, processes: str) -> None:
    """Run the processes of a Procfile on this host, in production.

    Each line 'name: command' is run by /bin/sh, in this folder. A process that ends is started
    again. Several push servers of one line share their port. What all of them write is one log, its
    lines marked web.1, worker.1 and so on; each process has its number in QUEUE_RUN_PROCESS.

    \b
    SIGTERM, SIGINT  Stop: push servers first, whose clients still get their answers, then the
                     rest. Workers finish what they run. A second signal kills.
    SIGHUP           Rolling restart, for new code: each worker is replaced when its successor is
                     ready, then beat, then the push servers.

    \b
    Examples:
      queue-run start
      queue-run start --processes web=2,worker=4
      queue-run start --processes beat=0             on every host but one
      queue-run start deploy/Procfile --processes web=0,beat=0
    """
    settings = Settings.from_env(os.environ)  # Wrong settings end here, before anything starts.
    logs.prepare(settings.secrets)
    entries = procfile.read(path)
    counts = formation.read_counts(processes, entries)
    places = formation.places(
        entries,
        counts,
        settings=settings,
        environ=formation.for_production(os.environ),
        cwd=Path.cwd(),
    )
    console = Console(
        sys.stdout,
        environ=os.environ,
        own="start",
        names=[place.program.name for place in places],
        again="a second signal kills at once",
    )
    asyncio.run(ProductionSession(places, settings=settings, console=console).run())
