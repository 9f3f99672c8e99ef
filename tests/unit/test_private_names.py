"""Nothing private of our dependencies is used that the fence does not name
(`queue_run.broker.fence`).

Private is what begins with `_`, wherever it is read or set; and what a class of ours has in the
place of something that a class of theirs has, public or not, except where theirs is made for that.
"""

import ast
import dis
import importlib
import types
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import redis.asyncio
import redis.connection

from queue_run.broker.fence import MODULES, TESTED, USES
from tests.unit.imports import PACKAGES, imported_by, modules, tree

#: The modules of the dependencies that are fenced in.
FENCED = {*TESTED, *MODULES} - {*MODULES.values()}
#: Names that begin with `_` and are documented, of the standard library.
DOCUMENTED = {"_asdict", "_exit", "_replace"}
#: Looked for, and done without where they are not: not all versions of Django have pools.
DISPENSABLE = {"_connection_pools"}
#: Classes that are made to be derived from, by their modules.
OPEN = ("tornado.web", "tornado.routing", "redis.exceptions", "amqp.exceptions")
#: Classes that are derived from a class that is known when the program runs, by their modules.
DERIVED = {
    "queue_run.storage.patience": redis.connection.Connection,
    "queue_run.storage.links": redis.asyncio.Connection,
}

#: A constant: we set what it says.
REDBEAT = "REDBEAT_REDIS_KEY"

OURS = [name for name in modules() if name.partition(".")[0] in PACKAGES]


class Found(NamedTuple):
    """A private name that is used."""

    line: int
    name: str


def defined(source: ast.AST) -> set[str]:
    """The names that a module gives to something of its own; a bare annotation is none."""
    found: set[str] = set()
    for node in ast.walk(source):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}:
                found.add(node.attr)
        elif isinstance(node, ast.alias):
            found.add(node.asname or "")
    bare = {
        node.target
        for node in ast.walk(source)
        if isinstance(node, ast.AnnAssign) and node.value is None
    }
    return found - {node.id for node in bare if isinstance(node, ast.Name)} | slots(source)


def slots(source: ast.AST) -> set[str]:
    return {
        str(name.value)
        for node in ast.walk(source)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__slots__"
        for name in ast.walk(node.value)
        if isinstance(name, ast.Constant)
    }


def own_names(module: str) -> set[str]:
    """What a module, and those of ours that it imports, call their own."""
    return set().union(*(defined(tree(each)) for each in {module, *imported_by(module)} & {*OURS}))


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def uses(source: ast.AST, own: set[str]) -> Iterator[Found]:
    """Private names that are read or set, and are none of our own."""
    for node in ast.walk(source):
        if isinstance(node, ast.Attribute):
            names = [node.attr]
        elif isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id] if node.value is None else []
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            looked_up = node.func.id in {"getattr", "setattr", "hasattr"} and len(node.args) > 1
            names = [ast.literal_eval(node.args[1])] if looked_up and is_text(node.args[1]) else []
        else:
            continue
        for name in names:
            if is_private(name) and name not in own | DOCUMENTED | DISPENSABLE:
                yield Found(node.lineno, name)


def is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


NAMED = {use.name for uses_of in USES.values() for use in uses_of}


@pytest.mark.parametrize("module", OURS)
def test_the_fence_names_every_private_name(module: str) -> None:
    found = uses(tree(module), own_names(module))
    assert [each for each in found if each.name not in NAMED] == []


# Classes


def classes(module: str) -> Iterator[tuple[ast.ClassDef, type]]:
    """The classes of a module that are derived from others, with what they are derived from."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.ClassDef) and node.bases:
            found = getattr(importlib.import_module(module), node.name, DERIVED.get(module))
            if isinstance(found, type):
                yield node, found


def has(node: ast.ClassDef) -> set[str]:
    """What a class of ours has, gives its instances, or says that they have."""
    found = {
        each.attr
        for each in ast.walk(node)
        if isinstance(each, ast.Attribute)
        and isinstance(each.ctx, ast.Store)
        and isinstance(each.value, ast.Name)
        and each.value.id == "self"
    }
    for each in node.body:
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(each.name)
        elif isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            found.add(each.target.id)
        elif isinstance(each, ast.Assign):
            found.update(target.id for target in each.targets if isinstance(target, ast.Name))
    return {name for name in found if not name.startswith("__")}


def place(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def is_fenced(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in FENCED and kind.__module__ not in OPEN


def theirs(kind: type) -> set[str]:
    """What a class of a dependency has itself, or gives its instances."""
    found = {name for name in vars(kind) if not name.startswith("__")}
    for value in vars(kind).values():
        function = getattr(value, "__wrapped__", getattr(value, "fget", value))
        if isinstance(function, types.FunctionType):
            found |= stored(function.__code__)
    return found


def stored(code: types.CodeType) -> set[str]:
    found = {each.argval for each in dis.get_instructions(code) if each.opname == "STORE_ATTR"}
    inner = [each for each in code.co_consts if isinstance(each, types.CodeType)]
    return found.union(*map(stored, inner))


def unnamed(node: ast.ClassDef, kind: type) -> set[str]:
    """What a class of ours shares with classes of dependencies that it is derived from, and the
    fence does not name."""
    bases = [each for each in kind.__mro__ if is_fenced(each)]
    shared = has(node) & set().union(*(theirs(base) for base in bases))
    return shared - {use.name for base in bases for use in USES.get(place(base), ())}


@pytest.mark.parametrize("module", OURS)
def test_the_fence_names_all_that_our_classes_have_in_the_place_of_theirs(module: str) -> None:
    if module.endswith("__main__") or module == "queue_run.cli.in_celery":
        # These run when they are imported, and have no classes.
        assert not any(isinstance(node, ast.ClassDef) for node in ast.walk(tree(module)))
        return
    found = {node.name: unnamed(node, kind) for node, kind in classes(module)}
    assert {name: names for name, names in found.items() if names} == {}


# What the fence names


def test_the_fence_names_nothing_that_nobody_uses() -> None:
    texts = [path.read_text() for path in modules().values() if path.name != "fence.py"]
    assert [
        f"{where} {use.name}"
        for where, uses_of in USES.items()
        for use in uses_of
        if use.name not in ("__init__", REDBEAT) and not any(use.name in text for text in texts)
    ] == []


def test_redbeat_takes_what_our_beat_makes_for_it() -> None:
    schedulers = importlib.import_module("redbeat.schedulers")
    assert (
        f"app.{getattr(schedulers, REDBEAT)} = " in modules()["worker.celery_side.beat"].read_text()
    )


def test_every_place_is_there() -> None:
    for where in USES:
        module, _, kind = where.partition(":")
        found = importlib.import_module(module)
        assert not kind or isinstance(getattr(found, kind), type), where


# The checks themselves


@pytest.mark.parametrize(
    "text",
    [
        "link._sock",
        "self._lookup(1)",
        "from tornado.util import _websocket_mask as unmask",
        "getattr(message, '_raw', None)",
        "class Ours(Theirs):\n    _heap: list",
        "pools._track = 1",
    ],
)
def test_a_private_name_is_found(text: str) -> None:
    source = ast.parse(text)
    assert len(list(uses(source, defined(source)))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "class Ours:\n    def __init__(self):\n        self._lock = 1\n    def f(self): self._lock",
        "class Ours:\n    _ahead = 1\nours._ahead",
        "def _f(): pass\n_f()",
        "link.__class__",
    ],
)
def test_an_own_name_is_none(text: str) -> None:
    source = ast.parse(text)
    assert list(uses(source, defined(source))) == []


def test_what_a_class_shares_with_theirs_is_found() -> None:
    text = (
        "class Ours(Link):\n"
        "    def pack_command(self): self._sock = self._mine = 1\n"
        "    def connect(self): pass\n"
    )
    [node] = ast.parse(text).body
    assert isinstance(node, ast.ClassDef)
    # The fence names the others.
    assert unnamed(node, redis.connection.Connection) == {"connect"}
