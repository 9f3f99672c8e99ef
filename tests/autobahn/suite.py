"""Autobahn TestSuite: its environment of Python 2.7, and its fuzzing client."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.processes import ROOT, Process, environment

#: What is installed; git ignores it.
CACHE = ROOT / ".autobahn"
#: The last virtualenv that makes environments of Python 2.7.
VIRTUALENV = "virtualenv==20.21.1"
SUITE = "autobahntestsuite==25.10.1"

#: Prints the ids of the cases that patterns name, in order.
_LIST = """
import json, sys
from autobahntestsuite.case import CaseBasename, CaseCategories, Cases, CaseSetname
from autobahntestsuite.case import CaseSubCategories
from autobahntestsuite.caseset import CaseSet
cases = CaseSet(CaseSetname, CaseBasename, Cases, CaseCategories, CaseSubCategories)
print(json.dumps(cases.parseSpecCases({"cases": sys.argv[1:]})))
"""


class CannotInstall(Exception):
    """The environment could not be made; the text is what was printed."""


def find_python2(named: str | None) -> Path | None:
    """A Python 2.7 that runs: the one that was named, else one of this machine."""
    if named is not None:
        candidates = [Path(named)]
    else:
        on_path = shutil.which("python2.7")
        candidates = [Path(on_path)] if on_path else []
        # pyenv's own command runs only where a version is selected.
        candidates += sorted(Path.home().glob(".pyenv/versions/2.7*/bin/python2.7"), reverse=True)
    return next((path for path in candidates if _is_python2(path)), None)


def _is_python2(path: Path) -> bool:
    code = "import sys; sys.exit(sys.version_info[:2] != (2, 7))"
    try:
        return subprocess.run([path, "-c", code], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def install(python2: Path, folder: Path = CACHE) -> Path:
    """Install the suite, unless it is there.

    Returns:
        the folder of its commands.

    Raises:
        CannotInstall: when pip fails.
    """
    stamp = folder / ".installed"
    wanted = f"{VIRTUALENV} {SUITE}\n"
    commands = folder / "suite" / "bin"
    if stamp.is_file() and stamp.read_text() == wanted:
        return commands
    print(f"installing {SUITE} for {python2} …", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    tools, suite = folder / "tools", folder / "suite"
    pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    _run(sys.executable, "-m", "venv", tools)
    _run(tools / "bin" / "python", *pip, VIRTUALENV)
    _run(tools / "bin" / "python", "-m", "virtualenv", "--python", python2, suite)
    _run(commands / "python", *pip, SUITE)
    stamp.write_text(wanted)
    return commands


def _run(*command: str | Path) -> str:
    """What a command prints.

    Raises:
        CannotInstall: when it fails.
    """
    # Not this project's modules, which the suite's Python cannot read.
    environ = {name: value for name, value in environment().items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command], env=environ, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CannotInstall(f"{' '.join(done.args[:4])} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def case_ids(commands: Path, patterns: Sequence[str]) -> list[str]:
    """The cases that patterns like `7.*` name."""
    return list(json.loads(_run(commands / "python", "-c", _LIST, *patterns)))


def run_cases(
    commands: Path, cases: Sequence[str], *, way: str, url: str, reports: Path, seconds: float
) -> str:
    """Let the fuzzing client run cases, and write its reports.

    Returns:
        "" when it came to its end in time; else the last lines that it printed.
    """
    # Reports of an earlier run must not be taken for those of one that did not end.
    shutil.rmtree(reports, ignore_errors=True)
    reports.mkdir(parents=True)
    spec = reports / "spec.json"
    spec.write_text(
        json.dumps(
            {
                "outdir": str(reports),
                "servers": [{"agent": way, "url": url}],
                "cases": list(cases),
                "exclude-cases": [],
                "exclude-agent-cases": {},
            }
        )
    )
    environ = {name: value for name, value in environment().items() if name != "PYTHONPATH"}
    client = Process(
        [str(commands / "wstest"), "--mode", "fuzzingclient", "--spec", str(spec)],
        environ=environ,
        cwd=reports,
    )
    try:
        deadline = time.monotonic() + seconds
        while client.running and time.monotonic() < deadline:
            time.sleep(0.1)
        if client.running or client.wait():
            return "\n".join(client.output.splitlines()[-5:]) or "it printed nothing"
        return ""
    finally:
        client.kill()
        client.end()
