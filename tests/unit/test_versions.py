"""The versions that we claim are those that are tested."""

import sys
import tomllib
from collections.abc import Iterator

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from queue_run.broker.fence import TESTED
from tests.processes import ROOT
from tests.versions import LOWEST, PYTHONS, TESTS, environments, interpreter

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
#: The extras that `make check-versions` installs, beside what is always installed.
EXTRAS = ("client", "dev", "jwt", "redbeat", "check-versions")
#: The packages of which private parts are used.
FENCED = sorted(TESTED)


def required() -> Iterator[Requirement]:
    extras = PROJECT["optional-dependencies"]
    for text in (*PROJECT["dependencies"], *(each for name in EXTRAS for each in extras[name])):
        requirement = Requirement(text)
        if requirement.name != PROJECT["name"]:
            yield requirement


def bound(requirement: Requirement, operator: str) -> Version | None:
    found = [each.version for each in requirement.specifier if each.operator == operator]
    return Version(found[0]) if found else None


def test_the_extras_of_the_tests_are_what_is_looked_at() -> None:
    [ours] = [
        each
        for each in map(Requirement, PROJECT["optional-dependencies"]["check-versions"])
        if each.name == PROJECT["name"]
    ]
    assert {*ours.extras, "check-versions"} == set(EXTRAS)


def test_the_lowest_versions_are_those_of_the_project() -> None:
    lines = [each for each in LOWEST.read_text().splitlines() if not each.startswith("#")]
    pinned = {each.name: bound(each, "==") for each in map(Requirement, lines)}
    assert pinned == {each.name: bound(each, ">=") for each in required()}


@pytest.mark.parametrize("package", FENCED)
def test_a_package_of_which_private_parts_are_used_has_an_upper_bound(package: str) -> None:
    [requirement] = [each for each in required() if each.name == package]
    upper = bound(requirement, "<")
    assert upper is not None
    assert requirement.specifier.contains(TESTED[package])
    # Any one of these may change them with a minor version.
    if package in ("celery", "kombu"):
        assert upper.release == (Version(TESTED[package]).major, Version(TESTED[package]).minor + 1)


def test_every_python_that_is_claimed_is_tested() -> None:
    claimed = [
        each.rpartition(" ")[2]
        for each in PROJECT["classifiers"]
        if each.startswith("Programming Language :: Python :: 3.")
    ]
    assert tuple(claimed) == PYTHONS
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"
    assert {each.python for each in environments()} == set(PYTHONS)


def test_an_interpreter_is_found_where_there_is_one() -> None:
    assert interpreter(f"{sys.version_info.major}.{sys.version_info.minor}") is not None
    assert interpreter("3.1") is None


@pytest.mark.parametrize("folder", TESTS)
def test_what_is_tested_is_there(folder: str) -> None:
    assert list((ROOT / folder).glob("test_*.py"))
