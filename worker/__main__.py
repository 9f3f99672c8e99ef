"""`python -m worker`: print what the application offers, without Redis and without running it."""

import os
import sys

from queue_run import logs
from queue_run.application import hidden_modules
from queue_run.errors import ApplicationError, UsageError
from queue_run.settings import Settings
from worker.application import loader
from worker.application.listing import listing


def main() -> int:
    """Exit code 2 when the settings or the application cannot be used."""
    try:
        settings = Settings.from_env(os.environ)
        logs.prepare(settings.secrets)
        if found := hidden_modules.problems(os.curdir, settings.app_path):
            raise ApplicationError(found)
        hidden_modules.bring_back_working_directory()
        routes = loader.load(settings.app_path)
    except UsageError as error:
        sys.stderr.write(f"{logs.without_secrets(str(error))}\n")
        return 2
    sys.stdout.write(f"{listing(routes)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
