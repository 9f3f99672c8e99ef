"""The process groups that this process started, known to a reaper that outlives it."""

import contextlib
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
    still registered and remove the folder. A reaper that was killed itself is replaced when the
    next group starts or ends.

    Args:
        folder: a folder for temporary files; None where there are none.
        grace: seconds between SIGTERM and SIGKILL.
    """

    def __init__(self, folder: Path | None, *, grace: float = REAPER_GRACE) -> None:
        # Isolated (-I -S): it starts at once and imports nothing of ours. By its text and by the
        # interpreter itself: a deployment may remove the files, and a virtual environment, that
        # this process was started from.
        self._command = [
            *(os.path.realpath(sys.executable), "-I", "-S"),
            *("-c", Path(reaper.__file__).read_text(encoding="utf-8"), str(grace)),
            *([str(folder)] if folder else []),
        ]
        self._groups: set[int] = set()

    def __enter__(self) -> "ProcessGroups":
        self._reaper, self._pipe = self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._pipe)
        self._reaper.wait()

    def add(self, process_group: int) -> None:
        """Let the reaper end this group when this process ends.

        Raises:
            OSError: if the reaper is gone, and no other can be started.
        """
        self._groups.add(process_group)
        try:
            self._tell(f"+{process_group}\n")
        except OSError:
            self._groups.discard(process_group)
            raise

    def remove(self, process_group: int) -> None:
        """Forget a group that has ended: its number may soon belong to another one."""
        self._groups.discard(process_group)
        # A reaper that cannot be started is the trouble of whoever starts the next process.
        with contextlib.suppress(OSError):
            self._tell(f"-{process_group}\n")

    def _tell(self, line: str) -> None:
        try:
            # One write below PIPE_BUF: it arrives whole, and is kept even if this process ends now.
            os.write(self._pipe, line.encode())
        except BrokenPipeError:
            self._replace()

    def _replace(self) -> None:
        """Start another reaper, and tell it of all groups."""
        process, pipe = self._start()
        os.close(self._pipe)
        self._reaper.wait()
        self._reaper, self._pipe = process, pipe
        for group in self._groups:
            os.write(self._pipe, f"+{group}\n".encode())

    def _start(self) -> tuple["subprocess.Popen[bytes]", int]:
        reading, writing = os.pipe()
        try:
            process = subprocess.Popen(
                self._command, stdin=reading, stdout=subprocess.DEVNULL, start_new_session=True
            )
        except OSError:
            os.close(writing)
            raise
        finally:
            os.close(reading)
        return process, writing
