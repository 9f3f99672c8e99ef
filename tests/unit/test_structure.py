"""Every module has its file of tests, at the same place below tests/unit."""

import ast
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
        if path.name != "__main__.py"
        and (path.name != "__init__.py" or (path.parent.parent != ROOT and has_code(path)))
        and not set(ELSEWHERE) & set(path.relative_to(ROOT).parts)
    ]


def has_code(path: Path) -> bool:
    """Whether a folder's own file is more than a docstring and imports."""
    return any(
        isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.parse(path.read_text()).body
    )


def file_of_tests(source: Path) -> Path:
    """Where the tests of a module are; those of a folder's own file are named like the folder."""
    name = source.parent.name + ".py" if source.name == "__init__.py" else source.name
    return source.parent / f"test_{name}"


@pytest.mark.parametrize("source", sources(), ids=str)
def test_every_module_has_its_tests(source: Path) -> None:
    expected = UNIT / file_of_tests(source)
    assert expected.is_file(), f"{source} has no {expected.relative_to(ROOT)}"
    assert "def test_" in expected.read_text()


def test_every_file_of_tests_has_its_module() -> None:
    # What is about a package as a whole.
    whole = {
        Path("queue_run/test_exports.py"),
        Path("push_server/test_rooms.py"),
        Path("push_server/test_rooms_model.py"),
    }
    of_modules = {file_of_tests(source) for source in sources()}
    files = [path for package in PACKAGES for path in (UNIT / package).rglob("test_*.py")]
    assert {path.relative_to(UNIT) for path in files} - whole - of_modules == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_of_tests_is_a_package(package: str) -> None:
    folders = {path.parent for path in (UNIT / package).rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []
