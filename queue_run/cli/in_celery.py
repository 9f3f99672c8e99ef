"""`celery queue-run …`: the command, offered by Celery's own.

Celery imports this before it imports what `-A` names, which is the one moment at which our code is
reached when an application's own `worker.py` stands where it would find ours.
"""

import re
import sys
from pathlib import Path

from queue_run.application import hidden_modules
from queue_run.cli import main
from queue_run.cli.command_line.errors import EXIT_USAGE

OURS = re.compile(r"(-A|--app=)?worker([:.]\w+)*")


def refuse_hidden_modules(arguments: list[str], folder: Path) -> None:
    """End a `celery -A worker` in an application's folder that hides what it would run."""
    named = [
        each
        for before, each in zip(arguments, [*arguments[1:], ""], strict=True)
        if before in ("-A", "--app")
    ] + [each for each in arguments if each.startswith(("-A", "--app=")) and each != "-A"]
    if not any(OURS.fullmatch(each) for each in named):
        return
    if not any((folder / name).is_dir() for name in ("sockets", "queues")):
        return
    if found := hidden_modules.problems(folder):
        sys.stderr.write("\n".join(found) + "\n")
        sys.exit(EXIT_USAGE)


refuse_hidden_modules(sys.argv[1:], Path.cwd())

command = main
