"""What the source files import, read without importing them."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.processes import ROOT

#: Our packages; each has its own rules.
PACKAGES = ("queue_run", "push_server", "worker")
#: The folders of an application, which are no packages.
APPLICATION = ("sockets", "queues")


@cache
def modules() -> dict[str, Path]:
    """Every module of ours by its dotted name; a package has the name of its folder."""
    found = {}
    for name in (*PACKAGES, *APPLICATION):
        for path in sorted((ROOT / name).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text())


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def imported_by(module: str) -> frozenset[str]:
    """All that a module imports, anywhere in it: our modules by their names, others as written."""
    return resolve(tree(module), module, frozenset(modules()))


def resolve(source: ast.AST, module: str, known: frozenset[str]) -> frozenset[str]:
    found: set[str] = set()
    for node in ast.walk(source):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.update(_from(node, module, known))
    return frozenset(found - {module})


def _from(node: ast.ImportFrom, module: str, known: frozenset[str]) -> Iterator[str]:
    """`from package import name` imports a module of the package, or something out of it."""
    if node.level:
        raise AssertionError(f"{module}, line {node.lineno}: a relative import; name the package")
    package = node.module or ""
    for alias in node.names:
        name = f"{package}.{alias.name}"
        yield name if name in known else package
