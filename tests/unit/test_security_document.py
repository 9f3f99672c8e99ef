"""docs/security.md: each attack that it says is defended has a test, which exists."""

import ast
import re
from pathlib import Path

import pytest

from queue_run.settings import Settings, variable_name
from tests.processes import ROOT

DOCUMENT = ROOT / "docs" / "security.md"
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def rows() -> list[list[str]]:
    """The rows of its tables, without their heads."""
    lines = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines]
    return [row for row in cells if row[0] != "attack"]


def names_in(path: Path) -> set[str]:
    return {
        each.name
        for each in ast.walk(ast.parse(path.read_text()))
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_there_are_rows() -> None:
    assert len(rows()) > 30


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_each_attack_has_tests_that_exist(row: list[str]) -> None:
    named = TEST.findall(row[-1])
    assert named, "this row names no test"
    # Nothing else stands in that cell.
    assert TEST.sub("", row[-1]).strip(" ,") == ""
    for file, test in named:
        assert (ROOT / file).is_file(), file
        assert test in names_in(ROOT / file), f"{file} has no {test}"


def test_each_setting_that_it_names_is_one() -> None:
    known = {variable_name(name) for name in Settings.__struct_fields__}
    assert set(re.findall(r"QUEUE_RUN_[A-Z_]+", DOCUMENT.read_text())) <= known
