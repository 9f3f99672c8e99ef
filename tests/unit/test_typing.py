"""Type checkers see the public API: a good application passes, and mistakes are reported."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.parts import require
from tests.processes import ROOT
from tests.waiting import DEADLINE

APP = ROOT / "tests" / "apps" / "typed"
WRONG = APP / "wrong.py"


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "MYPYPATH": str(ROOT), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=cwd,
        env=environ,
        capture_output=True,
        text=True,
        timeout=3 * DEADLINE,
        check=False,
    )


def mypy(*files: str, cache: Path) -> dict[int, str]:
    """The errors by line."""
    options = ("--strict", "--cache-dir", str(cache), "--no-error-summary")
    result = run("mypy", *options, *files, cwd=APP)
    assert result.stderr == ""
    found = re.findall(r"^[^:\n]+:(\d+): error: (.*)$", result.stdout, re.MULTILINE)
    return {int(line): text for line, text in found}


def pyright(files: list[str], folder: Path) -> dict[int, str]:
    """The errors by line; the application is copied, for pyright reads its settings beside it."""
    shutil.copytree(APP, folder)
    settings = {
        "include": files,
        "extraPaths": [str(ROOT)],
        "typeCheckingMode": "strict",
        "pythonVersion": "3.11",
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    result = run("pyright", "--outputjson", "--pythonpath", sys.executable, cwd=folder)
    require(result.stdout.startswith("{"), "pyright, which npm's registry brings")
    report = json.loads(result.stdout)
    assert report["summary"]["filesAnalyzed"] == len(files)
    return {
        each["range"]["start"]["line"] + 1: each["message"]
        for each in report["generalDiagnostics"]
        if each["severity"] == "error"
    }


def marked_lines() -> set[int]:
    lines = WRONG.read_text().splitlines()
    return {number for number, line in enumerate(lines, start=1) if line.endswith("# wrong")}


def test_mypy_strict_accepts_an_application(tmp_path: Path) -> None:
    assert mypy("sockets/index.py", cache=tmp_path) == {}
    assert mypy("queues/answer.py", "queues/order.py", "pushes.py", cache=tmp_path) == {}


def test_mypy_strict_reports_wrong_arguments(tmp_path: Path) -> None:
    assert set(mypy("wrong.py", cache=tmp_path)) == marked_lines()


@pytest.mark.timeout(400)
def test_pyright_strict_accepts_an_application(tmp_path: Path) -> None:
    files = ["sockets/index.py", "queues/answer.py", "queues/order.py", "pushes.py"]
    assert pyright(files, tmp_path / "app") == {}


@pytest.mark.timeout(400)
def test_pyright_strict_reports_wrong_arguments(tmp_path: Path) -> None:
    assert set(pyright(["wrong.py"], tmp_path / "app")) == marked_lines()


# What the quickstart says


def quickstart_application(folder: Path) -> Path:
    """The files and the settings of the quickstart, as they stand there."""
    text = (ROOT / "docs" / "quickstart.md").read_text()
    files = re.findall(r"```python\n# ((?:sockets|queues)/\S+\.py)\b.*?\n(.*?)```", text, re.DOTALL)
    assert {name for name, _ in files} == {
        "sockets/count.py",
        "queues/count.py",
        "sockets/_middleware.py",
    }
    # Applications have middleware on both sides, with one name.
    files.append(("queues/_middleware.py", "def on_job_started(job):\n    print(job.job_id)\n"))
    [settings] = re.findall(r"```toml\n(\[tool\.mypy\].*?)```", text, re.DOTALL)
    for name, code in [*files, ("pyproject.toml", settings)]:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
    return folder


def test_mypy_passes_an_application_with_the_settings_of_the_quickstart(tmp_path: Path) -> None:
    folder = quickstart_application(tmp_path / "hello")
    result = run("mypy", "--cache-dir", str(tmp_path / "cache"), cwd=folder)
    assert (result.stdout, result.stderr) == (
        "Success: no issues found in 4 source files\n",
        "",
    )


def test_without_these_settings_mypy_takes_two_files_for_one(tmp_path: Path) -> None:
    folder = quickstart_application(tmp_path / "hello")
    (folder / "pyproject.toml").unlink()
    options = ("--cache-dir", str(tmp_path / "cache"), "sockets", "queues")
    result = run("mypy", *options, cwd=folder)
    assert "Duplicate module named" in result.stdout
