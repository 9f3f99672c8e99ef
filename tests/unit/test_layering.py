"""A room imports only from lower layers (`tests/unit/layers.py`, docs/architecture.md).

Imports are read, not executed; those inside functions and under TYPE_CHECKING count too.
"""

import ast
import importlib
from collections import Counter

import pytest

import queue_run
from tests.documents import between
from tests.processes import ROOT
from tests.unit.imports import (
    APPLICATION,
    PACKAGES,
    imported_by,
    is_within,
    modules,
    resolve,
    tree,
)
from tests.unit.layers import ARCHITECTURE, BEGIN, END, layer, placed, room, table

#: Entry points, which may look at the environment.
ENTRY_POINTS = (
    "push_server.__main__",
    "worker.__main__",
    "worker.celery_side.celery_app",
    "queue_run.process.runtime",
)
#: `worker.calls.django_care` looks at Django's own variable, where Django itself would.
READERS = (*ENTRY_POINTS, "queue_run.cli", "worker.calls.django_care")

OURS = [name for name in modules() if name.partition(".")[0] in PACKAGES]
APPLICATIONS = [name for name in modules() if name.partition(".")[0] in APPLICATION]


def test_the_modules_are_found() -> None:
    assert {name.partition(".")[0] for name in modules()} == {*PACKAGES, *APPLICATION}
    assert len(OURS) > 30


# Layers


@pytest.mark.parametrize("module", OURS)
def test_every_room_has_its_layer(module: str) -> None:
    assert layer(room(module)) is not None, (
        f"{room(module)} is new: place it in tests/unit/layers.py, above all that it imports"
    )


def test_the_table_places_nothing_that_is_gone() -> None:
    assert placed() == {room(module) for module in OURS}


@pytest.mark.parametrize("module", OURS)
def test_a_module_imports_only_from_its_own_room_and_lower_layers(module: str) -> None:
    package = module.partition(".")[0]
    others = {room(other) for other in imported_by(module) if is_within(other, package)}
    own = room(module)
    assert [each for each in sorted(others - {own}) if not _is_lower(each, own)] == []


def _is_lower(other: str, own: str) -> bool:
    there, here = layer(other), layer(own)
    return there is not None and here is not None and there < here


def test_the_document_shows_the_table() -> None:
    assert between(ARCHITECTURE, BEGIN, END) == table(), (
        "docs/architecture.md differs: run `python -m tests.unit.layers`"
    )


# Rooms

#: How many files of its own a folder may have, and how many names the top of a package.
FILES = 12
NAMES = {"queue_run": 24, "push_server": 12, "worker": 12}


def test_no_folder_holds_more_files_than_a_reader_takes_in() -> None:
    folders = Counter(path.parent for module, path in modules().items() if module in OURS)
    tops = {ROOT / package for package in PACKAGES}
    assert {
        str(folder.relative_to(ROOT)): count
        for folder, count in folders.items()
        if count > FILES and folder not in tops
    } == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_top_of_a_package_shows_few_names(package: str) -> None:
    names = {module.split(".")[1] for module in OURS if module.startswith(f"{package}.")}
    assert len({*names, "__init__"}) <= NAMES[package]


# Packages

#: Which of our packages and folders each of them may import, beside itself.
MAY_IMPORT: dict[str, set[str]] = {
    "queue_run": set(),
    "push_server": {"queue_run"},
    "worker": {"queue_run"},
    "sockets": {"queue_run", "queues"},
    "queues": {"queue_run"},
}

#: The one exception. The test kit runs an application as a worker does, in the process of the
#: test: with the loader and the runner of the worker, so that a test sees what production does.
TEST_KIT = "queue_run.testing"
TEST_KIT_MAY_IMPORT = {"worker"}

#: Modules that applications import beside `queue_run` itself; what is public says their __all__.
PUBLIC_MODULES = (
    "queue_run.middleware",
    "queue_run.jwt",
    "queue_run.dead_letters",
    "queue_run.client",
)


@pytest.mark.parametrize("module", [*OURS, *APPLICATIONS])
def test_a_module_imports_only_the_packages_that_it_may(module: str) -> None:
    package = module.partition(".")[0]
    others = {name.partition(".")[0] for name in imported_by(module)}
    allowed = MAY_IMPORT[package] | {package}
    if is_within(module, TEST_KIT):
        allowed |= TEST_KIT_MAY_IMPORT
    assert others & {*MAY_IMPORT, "tests", "benchmarks"} <= allowed


@pytest.mark.parametrize("module", [*OURS, *APPLICATIONS])
def test_nothing_but_tests_imports_the_test_kit(module: str) -> None:
    if not is_within(module, TEST_KIT):
        assert [name for name in imported_by(module) if is_within(name, TEST_KIT)] == []


@pytest.mark.parametrize("module", APPLICATIONS)
def test_applications_import_what_is_public(module: str) -> None:
    public = set(queue_run.__all__)
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.ImportFrom) and is_within(node.module or "", "queue_run"):
            names = {alias.name for alias in node.names}
            if node.module == "queue_run.process":
                # The demo keeps its data in the Redis of the runtime; applications have a store
                # of their own.
                assert names == {"runtime"}, f"line {node.lineno}"
            elif node.module in PUBLIC_MODULES:
                offered = set(importlib.import_module(node.module).__all__)
                assert names <= offered, f"line {node.lineno}"
            else:
                assert node.module == "queue_run", f"line {node.lineno}"
                assert names <= public, f"line {node.lineno}"
        elif isinstance(node, ast.Import):
            names = {alias.name for alias in node.names}
            assert not any(name.startswith("queue_run.") for name in names), f"line {node.lineno}"


# Cycles


def cycle(graph: dict[str, frozenset[str]]) -> list[str]:
    """The modules of one cycle; empty without any."""
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for other in sorted(graph.get(module, ())):
            found = visit(other, [*path, module])
            if found:
                return found
        done.add(module)
        return []

    return next(filter(None, (visit(module, []) for module in sorted(graph))), [])


def test_no_imports_form_a_cycle() -> None:
    assert cycle({module: imported_by(module) for module in modules()}) == []


def test_no_folders_form_a_cycle() -> None:
    # Also those below a room, each with what is directly in it.
    folder = {name: str(path.parent.relative_to(ROOT)) for name, path in modules().items()}
    graph: dict[str, set[str]] = {}
    for module in OURS:
        if module.count(".") > 1:
            others = {folder[other] for other in imported_by(module) if other in OURS}
            graph.setdefault(folder[module], set()).update(others - {folder[module]})
    assert cycle({each: frozenset(others) for each, others in graph.items()}) == []


# The environment


def environment_uses(source: ast.AST) -> list[int]:
    """Lines that look at the environment."""
    names = {"environ", "environb", "getenv", "getenvb", "putenv"}
    return [
        node.lineno
        for node in ast.walk(source)
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "os"
            and node.attr in names
        )
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and names & {alias.name for alias in node.names}
        )
    ]


@pytest.mark.parametrize("module", [*OURS, *APPLICATIONS])
def test_only_entry_points_look_at_the_environment(module: str) -> None:
    if not any(is_within(module, reader) for reader in READERS):
        assert environment_uses(tree(module)) == []


@pytest.mark.parametrize("module", ENTRY_POINTS)
def test_entry_points_read_settings_from_the_environment(module: str) -> None:
    assert environment_uses(tree(module)) != []


# The checks themselves


def imports(text: str) -> frozenset[str]:
    known = frozenset({"queue_run", "queue_run.process.context", "queue_run.process.runtime"})
    return resolve(ast.parse(text), "queue_run.socket", known)


def test_a_module_of_a_package_is_told_from_a_name_in_it() -> None:
    found = imports("from queue_run.process import context, Runtime")
    assert found == {"queue_run.process.context", "queue_run.process"}
    assert imports("import queue_run.process.runtime as r") == {"queue_run.process.runtime"}


def test_imports_are_found_wherever_they_stand() -> None:
    text = "def f():\n    import asyncio\nif TYPE_CHECKING:\n    from celery import Celery\n"
    assert imports(text) == {"asyncio", "celery"}


def test_a_relative_import_is_refused() -> None:
    with pytest.raises(AssertionError, match="a relative import; name the package"):
        imports("from . import context")


def test_a_cycle_is_found() -> None:
    graph = {"a": {"b"}, "b": {"c", "d"}, "c": {"os"}, "d": {"b"}}
    assert cycle({name: frozenset(others) for name, others in graph.items()}) == ["b", "d", "b"]


@pytest.mark.parametrize(
    "text", ["os.environ['X']", "x = os.getenv('X')", "from os import environ", "os.environ.get(1)"]
)
def test_a_look_at_the_environment_is_found(text: str) -> None:
    assert environment_uses(ast.parse(text)) == [1]


def test_a_parameter_of_that_name_is_no_look_at_the_environment() -> None:
    assert environment_uses(ast.parse("def from_env(environ): return environ.get('X')")) == []
