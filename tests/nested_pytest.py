"""pytest as its own process, as the author of an application runs it."""

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

from tests.processes import ROOT
from tests.waiting import DEADLINE

PLUGIN = "queue_run.testing.plugin"


def run_pytest(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the tests in a folder, with no Redis to be reached."""
    registered = any(each.value == PLUGIN for each in entry_points(group="pytest11"))
    plugin = [] if registered else ["-p", PLUGIN]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        # Port 1 is nobody's.
        "REDIS_URL": "redis://127.0.0.1:1/0",
    }
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *plugin, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE,
        check=False,
    )
