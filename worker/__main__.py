"""`python -m worker`: print what the application offers, without Redis and without running it."""

import os
import sys

from queue_run.errors import UsageError
from queue_run.settings import Settings
from worker import loader
from worker.listing import listing


def main() -> int:
    """Exit code 2 when the settings or the application cannot be used."""
    try:
        routes = loader.load(Settings.from_env(os.environ).app_path)
    except UsageError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{listing(routes)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
