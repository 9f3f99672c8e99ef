"""The process groups that this process started, known to a reaper that outlives it."""

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from queue_run.cli.supervision import reaper

#: From SIGTERM to SIGKILL when the supervisor has been killed.
REAPER_GRACE = 5.0


class ProcessGroups:
    """The supervisor's end of the reaper's pipe; a context manager.

    Leaving the context, or the death of this process, makes the reaper end every group that is
    still registered and remove the folder.

    Args:
        folder: a folder for temporary files.
        grace: seconds between SIGTERM and SIGKILL.
    """

    def __init__(self, folder: Path, *, grace: float = REAPER_GRACE) -> None:
        self._folder = folder
        self._grace = grace

    def __enter__(self) -> "ProcessGroups":
        reading, self._pipe = os.pipe()
        # By file name and isolated (-I -S): as a module it would import this package first.
        self._reaper = subprocess.Popen(
            [sys.executable, "-I", "-S", reaper.__file__, str(self._grace), str(self._folder)],
            stdin=reading,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(reading)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._pipe)
        self._reaper.wait()

    def add(self, group: int) -> None:
        """From now on, the group ends when this process ends.

        Raises:
            BrokenPipeError: if the reaper is gone.
        """
        self._tell(f"+{group}\n")

    def remove(self, group: int) -> None:
        """The group has ended: its number may soon be another's."""
        self._tell(f"-{group}\n")

    def _tell(self, line: str) -> None:
        # One write below PIPE_BUF: it arrives whole, and is kept even if this process ends now.
        os.write(self._pipe, line.encode())
