"""The worker: runs an application's handlers and jobs under Celery.

`celery -A worker worker` finds `app` here. It is made when it is first asked for, so that the
parts of this package can be imported without an environment.
"""

from typing import Any

# Of `python -m worker`, first: it takes the working directory off the path, where a file may have
# the name of what is imported next.
import queue_run as _queue_run  # noqa: F401

__all__ = ["app"]


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Imported here, because making the application loads the user's files.
    from worker.celery_side.celery_app import create_app

    globals()["app"] = app = create_app()
    return app
