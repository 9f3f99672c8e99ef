"""`python -m push_server`: one push server process, with settings from the environment."""

import asyncio
import logging
import os
import sys

from push_server.app import LOST_TIME, PushServer
from push_server.transport.event_loop import new_loop
from push_server.upkeep.lifetime import CannotStart, PartLost
from queue_run import logs
from queue_run.application import hidden_modules
from queue_run.errors import ApplicationError, UsageError
from queue_run.logs.complaints import Few
from queue_run.settings import Settings
from queue_run.threads.vital import EXIT_LOST, end_process_within


def main() -> int:
    """Run until SIGTERM; exit code 2 when it cannot start, 1 when it has lost a part of itself."""
    logs.prepare()
    try:
        settings = Settings.from_env(os.environ)
        logs.prepare(settings.secrets)
        if found := hidden_modules.problems(os.curdir, settings.app_path):
            raise ApplicationError(found)
        logging.basicConfig(
            level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
        )
        # Of requests that are malformed.
        tornado_log = logging.getLogger("tornado.general")
        tornado_log.addFilter(Few(tornado_log, first=20))
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(_serve(settings))
    except (UsageError, CannotStart) as error:
        sys.stderr.write(f"{logs.without_secrets(str(error))}\n")
        return 2
    except PartLost as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_LOST
    return 0


async def _serve(settings: Settings) -> None:
    try:
        await PushServer(settings).run()
    except PartLost:
        # Threads that asyncio waits for may be what was lost.
        end_process_within(LOST_TIME)
        raise


if __name__ == "__main__":
    sys.exit(main())
