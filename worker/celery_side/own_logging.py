"""The application's own logging, which a worker leaves as it is.

Celery takes all handlers off the root logger when a worker or beat starts, and puts its own there.
Here an application that has put a handler there while its files were loaded (`dictConfig`,
`basicConfig`, Django's LOGGING) has decided on handlers, formats and levels. Any other gets ours.
"""

import logging
from collections.abc import Callable
from typing import Any

from celery import signals

#: Loggers that `disable_existing_loggers`, the default of `dictConfig`, must not silence: errors
#: of handlers would be told to nobody.
KEPT = ("queue_run", "worker", "celery", "kombu", "amqp")


class OwnLogging:
    """Looks at the loggers before and after the application's files are loaded.

    Args:
        quiet: makes loggers quieter; called when logging is set up, whoever has done it.
    """

    def __init__(self, quiet: Callable[[], None]) -> None:
        self._quiet = quiet
        #: Of what runs this program: monitoring agents put one there.
        self._before = list(logging.getLogger().handlers)

    def settle(self) -> bool:
        """Settle, after the files are loaded, whether the application has its own logging.

        Returns:
            Whether it has.
        """
        _enable_ours()
        signals.after_setup_logger.connect(self._celery_has_set_up, weak=False)
        root = logging.getLogger()
        if any(_writes(each) for each in root.handlers if each not in self._before):
            # With a receiver Celery sets up nothing.
            signals.setup_logging.connect(self._leave_it, weak=False)
            return True
        # Else Celery would take them for a logging that is set up.
        for each in self._before:
            root.removeHandler(each)
        return False

    def _leave_it(self, **_: Any) -> None:
        self._quiet()

    def _celery_has_set_up(self, **_: Any) -> None:
        for each in self._before:
            logging.getLogger().addHandler(each)
        self._quiet()


def _writes(handler: logging.Handler) -> bool:
    return not isinstance(handler, logging.NullHandler)


def _enable_ours() -> None:
    for name, logger in logging.root.manager.loggerDict.items():
        if name.partition(".")[0] in KEPT and isinstance(logger, logging.Logger):
            logger.disabled = False
