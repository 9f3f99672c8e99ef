"""The public surface of the package."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import queue_run
from queue_run import errors, queues, socket
from tests.processes import environment
from tests.waiting import DEADLINE


def imported_names() -> set[str]:
    """But for what the package keeps to itself."""
    tree = ast.parse(Path(inspect.getfile(queue_run)).read_text())
    return {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if not (alias.asname or "").startswith("_")
    }


def test_all_names_exactly_what_the_package_exposes() -> None:
    assert sorted(queue_run.__all__) == sorted(imported_names())


@pytest.mark.parametrize("name", queue_run.__all__)
def test_every_public_name_explains_itself(name: str) -> None:
    assert (getattr(queue_run, name).__doc__ or "").strip()


@pytest.mark.parametrize("module", [socket, queues], ids=lambda module: module.__name__)
def test_every_function_of_the_two_verbs_explains_itself(module: object) -> None:
    for name in getattr(module, "__all__"):  # noqa: B009
        assert (getattr(module, name).__doc__ or "").strip(), name


def test_socket_and_queues_are_modules_that_type_checkers_see() -> None:
    assert inspect.ismodule(queue_run.socket)
    assert inspect.ismodule(queue_run.queues)


def test_every_error_that_users_meet_is_public() -> None:
    # The branches are for our own code, and invalid envelopes never reach an application.
    own = {"UsageError", "InfrastructureError", "InvalidEnvelope"}
    classes = {
        name
        for name, each in vars(errors).items()
        if inspect.isclass(each) and each.__module__ == errors.__name__
    }
    assert classes - own <= set(queue_run.__all__)


@pytest.mark.parametrize("arguments", [["-m", "queue_run", "--help"], ["-m", "queue_run", "-h"]])
def test_no_module_of_ours_shadows_one_of_pythons_own(arguments: list[str]) -> None:
    ran = subprocess.run(
        [sys.executable, *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "Usage: queue-run" in ran.stdout
