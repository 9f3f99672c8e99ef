"""Processes whose system clock is wrong, by libfaketime; their monotonic clocks are left alone."""

import os
from pathlib import Path

from tests.parts import require
from tests.processes import ROOT

#: Where it may be.
FOLDERS = ("/usr/lib", "/usr/local/lib", "/usr/lib64")
#: Mends what libfaketime breaks in Python.
SITE = ROOT / "tests" / "wrong_clock" / "site"


def clock_off_by(seconds: float) -> dict[str, str]:
    """Variables for a process whose clock is so many seconds ahead; negative for one behind."""
    return {**_loaded(), "FAKETIME": f"{seconds:+g}"}


def clock_as_in(file: Path) -> dict[str, str]:
    """The same, by as many seconds as the file says; it may be changed while the process runs."""
    return {**_loaded(), "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1"}


def _loaded() -> dict[str, str]:
    found = library()
    require(found, "libfaketime (the package faketime)")
    return {
        "LD_PRELOAD": str(found),
        "DONT_FAKE_MONOTONIC": "1",
        "PYTHONPATH": os.pathsep.join((str(SITE), str(ROOT))),
    }


def library() -> Path | None:
    """The library; None where it is not installed."""
    places = (path for folder in FOLDERS for path in Path(folder).glob("**/libfaketime.so.1"))
    return next(places, None)
