"""The worker of messages: `python -m ... FILE CELERY ARGUMENTS`; it makes the file when ready.

A new one is waited for before the old one stops. What it logs would tell too, but not at every log
level, nor in the application's own format.
"""

import sys
from pathlib import Path
from typing import Any

from celery import signals
from celery.__main__ import main as celery_main


def main() -> None:
    ready = Path(sys.argv.pop(1))

    def tell(**_: Any) -> None:
        ready.touch()

    signals.worker_ready.connect(tell, weak=False)
    sys.exit(celery_main())


if __name__ == "__main__":
    main()
