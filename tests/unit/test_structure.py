"""Every module has its file of tests, at the same place below tests/unit."""

from pathlib import Path

import pytest

from tests.processes import ROOT
from tests.unit.imports import PACKAGES

UNIT = ROOT / "tests" / "unit"
#: The command is tested by what it does; see tests/unit/cli.
ELSEWHERE = ("cli",)


def sources() -> list[Path]:
    return [
        path.relative_to(ROOT)
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if path.name not in ("__init__.py", "__main__.py")
        and not set(ELSEWHERE) & set(path.relative_to(ROOT).parts)
    ]


@pytest.mark.parametrize("source", sources(), ids=str)
def test_every_module_has_its_tests(source: Path) -> None:
    expected = UNIT / source.parent / f"test_{source.name}"
    assert expected.is_file(), f"{source} has no {expected.relative_to(ROOT)}"
    assert "def test_" in expected.read_text()


def test_every_file_of_tests_has_its_module() -> None:
    # What is about a package as a whole.
    whole = {
        Path("queue_run/test_exports.py"),
        Path("push_server/test_rooms.py"),
        Path("push_server/test_rooms_model.py"),
    }
    of_modules = {source.parent / f"test_{source.name}" for source in sources()}
    files = [path for package in PACKAGES for path in (UNIT / package).rglob("test_*.py")]
    assert {path.relative_to(UNIT) for path in files} - whole - of_modules == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_of_tests_is_a_package(package: str) -> None:
    folders = {path.parent for path in (UNIT / package).rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []
