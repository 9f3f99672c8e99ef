"""`make check-versions`: the tests of what touches our dependencies, on every Python that we claim,
and with the lowest versions of packages that pyproject.toml allows.

Each has a virtual environment of its own below `.versions/`, which is made anew when pyproject.toml
has changed. A Python that is not installed is passed over, with a line that says so.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
ENVIRONMENTS = ROOT / ".versions"
LOWEST = ROOT / "tests" / "lowest.txt"
#: Their classifiers are in pyproject.toml.
PYTHONS = ("3.11", "3.12", "3.13")
#: Where packages are installed in their lowest versions.
OLDEST = PYTHONS[0]
#: What touches the dependencies: the transports, the scripts and links of Redis, Celery's insides,
#: Tornado's sockets and requests, and what all of it promises together.
TESTS = (
    "tests/unit/queue_run/broker",
    "tests/unit/queue_run/channel",
    "tests/unit/queue_run/storage",
    "tests/unit/push_server/http",
    "tests/unit/push_server/transport",
    "tests/unit/worker/celery_side",
    "tests/contract",
)


class Environment(NamedTuple):
    """One run of the tests."""

    name: str
    python: str
    #: A file that says which versions; None for the newest.
    constraints: Path | None = None


def environments() -> Iterator[Environment]:
    yield Environment(f"{OLDEST}-lowest", OLDEST, LOWEST)
    for python in PYTHONS:
        yield Environment(python, python)


def interpreter(python: str) -> str | None:
    """The path of a Python of this version; None when none is installed."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [shutil.which(f"python{python}"), sys.executable]
    found += [str(each / "bin" / "python") for each in sorted(versions.glob(f"{python}.*"))]
    return next((each for each in found if each and _version_of(each) == python), None)


def _version_of(path: str) -> str:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        # Of pyenv, there may be a name without an interpreter behind it.
        ran = subprocess.run([path, "-c", code], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return ran.stdout.strip()


def made(environment: Environment, base: str) -> Path:
    """The interpreter of an environment, with everything installed.

    Raises:
        subprocess.CalledProcessError: when pip could not.
    """
    folder = ENVIRONMENTS / environment.name
    python, stamp = folder / "bin" / "python", folder / ".installed"
    wanted = _fingerprint(environment)
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([base, "-m", "venv", str(folder)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    limits = ["--constraint", str(environment.constraints)] if environment.constraints else []
    subprocess.run([*pip, *limits, "--editable", ".[check-versions]"], cwd=ROOT, check=True)
    stamp.write_text(wanted)
    return python


def _fingerprint(environment: Environment) -> str:
    """What an environment was made of."""
    sources = [ROOT / "pyproject.toml"]
    if environment.constraints:
        sources.append(environment.constraints)
    return hashlib.sha256(b"".join(each.read_bytes() for each in sources)).hexdigest()


def tested(python: Path, arguments: list[str]) -> bool:
    """Whether all tests pass."""
    command = [str(python), "-m", "pytest", "--quiet", "-p", "no:cacheprovider", *arguments]
    environ = {**os.environ, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run([*command, *TESTS], cwd=ROOT, env=environ, check=False).returncode == 0


def main() -> int:
    """Exit code 1 when a test has failed in any of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [each.name for each in environments()]
    parser.add_argument("--only", nargs="*", choices=names, default=names)
    parser.add_argument("--without", nargs="*", default=[])
    options, arguments = parser.parse_known_args()
    failed = []
    for environment in environments():
        if environment.name not in options.only or environment.name in options.without:
            continue
        base = interpreter(environment.python)
        if base is None:
            print(f"{environment.name}: Python {environment.python} is not installed: not tested")
            continue
        print(f"{environment.name}:", flush=True)
        if not tested(made(environment, base), arguments):
            failed.append(environment.name)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
