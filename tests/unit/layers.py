"""The rooms of our packages and which of them may import which: the table of docs/architecture.md.

A room is a folder of a package, or a file on its top. It imports from the rooms of lower layers,
and from no other. `python -m tests.unit.layers` puts the table into the document.
"""

import ast

from tests.documents import put_between
from tests.processes import ROOT
from tests.unit.imports import modules, tree

ARCHITECTURE = ROOT / "docs" / "architecture.md"
BEGIN = "<!-- begin: written by `python -m tests.unit.layers` -->"
END = "<!-- end: written by `python -m tests.unit.layers` -->"

#: Lowest first; the empty name is the package itself.
LAYERS: dict[str, list[list[str]]] = {
    "queue_run": [
        ["errors", "threads"],
        ["contracts"],
        ["application", "settings"],
        ["logs"],
        ["storage"],
        ["broker", "channel", "client", "middleware", "presence"],
        ["jobs"],
        ["process"],
        ["socket", "queues", "dead_letters", "jwt", "asgi", "wsgi"],
        [""],
        ["cli", "testing"],
        ["__main__"],
    ],
    "push_server": [
        ["", "rfc6455"],
        ["clients", "transport"],
        ["requests"],
        ["delivery"],
        ["upkeep"],
        ["http"],
        ["parts"],
        ["app"],
        ["__main__"],
    ],
    "worker": [
        ["calls", "ending", "timekeeper"],
        ["announcer", "application"],
        ["running"],
        ["jobs", "presence"],
        ["celery_side"],
        [""],
        ["__main__"],
    ],
}


def room(module: str) -> str:
    """The room of a module of ours: `queue_run.channel` of `queue_run.channel.listener`."""
    return ".".join(module.split(".")[:2])


def layer(name: str) -> int | None:
    """The layer of a room within its package; None when the table does not place it."""
    package, _, rest = name.partition(".")
    return next((number for number, names in enumerate(LAYERS[package]) if rest in names), None)


def placed() -> set[str]:
    """All rooms of the table."""
    return {
        f"{package}.{name}".rstrip(".")
        for package, layers in LAYERS.items()
        for names in layers
        for name in names
    }


def table() -> str:
    """The rooms in Markdown, one table for each package, with what they say of themselves."""
    return "\n\n".join(_table_of(package) for package in LAYERS)


def _table_of(package: str) -> str:
    lines = [f"| | `{package}/` | what is there |", "|---|---|---|"]
    for number, names in enumerate(LAYERS[package], start=1):
        lines += [
            f"| {number} | {_shown(package, each)} | {_said(package, each)} |" for each in names
        ]
    return "\n".join(lines)


def _shown(package: str, name: str) -> str:
    path = modules()[f"{package}.{name}".rstrip(".")]
    return f"`{name}/`" if name and path.name == "__init__.py" else f"`{name or '__init__'}.py`"


def _said(package: str, name: str) -> str:
    text = ast.get_docstring(tree(f"{package}.{name}".rstrip("."))) or ""
    return " ".join(text.partition("\n\n")[0].split())


if __name__ == "__main__":
    put_between(ARCHITECTURE, BEGIN, END, table())
