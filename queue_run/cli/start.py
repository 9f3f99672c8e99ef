"""`queue-run start`."""

import asyncio
import os
import sys
from pathlib import Path

import click

from queue_run import logs
from queue_run.cli.development.console import Console
from queue_run.cli.production.folder import working_folder
from queue_run.cli.production.formation import Formation, for_production
from queue_run.cli.production.procfile import ProcfileSource
from queue_run.cli.production.run import ProductionRun
from queue_run.settings import Settings


@click.command("start")
@click.argument("path", metavar="[PROCFILE]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--processes",
    metavar="NAME=N,...",
    default="",
    help="How many processes of each line; 0 for none [one of each].",
)
def command(path: Path | None, processes: str) -> None:
    """Run the processes of a Procfile on this host, in production.

    Without PROCFILE, the one in this folder; where there is none, one that comes with queue-run:
    web, worker, jobs, beat. Each line 'name: command' is run by /bin/sh, in this folder. A process
    that ends, or cannot be started, is started again. Several push servers of one line share their
    port. What all of them write is one log, its lines marked web.1, worker.1 and so on; each
    process has its number in QUEUE_RUN_PROCESS.

    \b
    SIGTERM, SIGINT  Stop: push servers first, whose clients still get their answers, then the
                     rest. Workers finish what they run. A second signal kills.
    SIGHUP           Rolling restart, for new code and a new Procfile: each worker is replaced when
                     its successor is ready, then beat, then the push servers. A folder that was
                     entered by a link is entered by it anew.

    \b
    Examples:
      queue-run start
      queue-run start --processes web=2,worker=4
      queue-run start --processes beat=0             on every host but one
      queue-run start deploy/Procfile --processes web=0,beat=0
    """
    settings = Settings.from_env(os.environ)  # Wrong settings end here, before anything starts.
    logs.prepare(settings.secrets)
    given = (path or "", settings.app_dir, sys.argv[0], sys.executable)
    folder = working_folder(os.environ, given)
    formation = Formation(
        folder=folder,
        procfile=ProcfileSource(folder.name, path),
        processes=processes,
        settings=settings,
        environ=folder.environ(for_production(os.environ)),
    )
    console = Console(
        sys.stdout,
        environ=os.environ,
        own="start",
        names=[place.program.name for place in formation.places()],
        again="a second signal kills at once",
    )
    asyncio.run(ProductionRun(formation, settings=settings, console=console).run())
