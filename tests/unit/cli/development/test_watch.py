"""Which changes restart the workers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from watchfiles import Change

from queue_run.cli.development.watch import SourceFilter, changes, describe
from tests.waiting import DEADLINE


@pytest.mark.parametrize(
    ("name", "matters"),
    [
        ("sockets/index.py", True),
        ("sockets/rooms/chat.py", True),
        ("queues/mail.py", True),
        ("models.py", True),
        ("lib/deep/models.py", True),
        ("public/index.html", False),
        ("sockets/notes.txt", False),
        ("sockets/.index.py.swp", False),
        ("sockets/.#index.py", False),
        ("sockets/__pycache__/index.cpython-311.pyc", False),
        (".venv/lib/site-packages/a.py", False),
        ("env/lib/python3.11/site-packages/a.py", False),
        (".git/hooks/a.py", False),
        ("node_modules/a/b.py", False),
        ("tests/test_chat.py", False),
        # What is loaded is watched.
        ("sockets/tests/chat.py", True),
        ("queues/node_modules/mail.py", True),
    ],
)
@pytest.mark.parametrize("change", list(Change))
def test_python_files_of_the_application_matter(name: str, matters: bool, change: Change) -> None:
    # The folder's own path holds names that are ignored inside it.
    app = Path("/home/ann/.projects/tests/app")
    assert SourceFilter(app)(change, str(app / name)) is matters


def test_a_folder_with_code_that_comes_matters(tmp_path: Path) -> None:
    (tmp_path / "sockets/rooms").mkdir(parents=True)
    (tmp_path / "sockets/empty").mkdir(parents=True)
    (tmp_path / "sockets/rooms/chat.py").touch()
    matters = SourceFilter(tmp_path)
    assert matters(Change.added, str(tmp_path / "sockets/rooms"))
    assert not matters(Change.modified, str(tmp_path / "sockets/rooms"))
    assert not matters(Change.added, str(tmp_path / "sockets/empty"))


def test_a_folder_that_goes_matters_where_handlers_are(tmp_path: Path) -> None:
    matters = SourceFilter(tmp_path)
    assert matters(Change.deleted, str(tmp_path / "sockets/rooms"))
    assert not matters(Change.deleted, str(tmp_path / "build"))
    assert not matters(Change.deleted, str(tmp_path.parent / "sockets"))


async def test_a_change_is_seen_and_named(tmp_path: Path) -> None:
    (tmp_path / "sockets").mkdir()
    seen = changes(tmp_path)
    waiting = asyncio.ensure_future(anext(seen))
    await asyncio.sleep(0)  # Watching begins with the first step.
    (tmp_path / "sockets/notes.txt").write_text("not code")
    (tmp_path / "sockets/index.py").write_text("handler = None")
    assert await asyncio.wait_for(waiting, DEADLINE) == ["sockets/index.py"]
    await close(seen)


def test_what_a_link_leads_to_matters_wherever_it_is(tmp_path: Path) -> None:
    (tmp_path / "app/sockets").mkdir(parents=True)
    (tmp_path / "app/.shared/admin").mkdir(parents=True)
    (tmp_path / "other.py").touch()
    (tmp_path / "app/sockets/admin").symlink_to("../.shared/admin")
    (tmp_path / "app/sockets/other.py").symlink_to(tmp_path / "other.py")
    matters = SourceFilter(tmp_path / "app")
    assert matters(Change.modified, str(tmp_path / "app/.shared/admin/index.py"))
    assert matters(Change.modified, str(tmp_path / "other.py"))
    assert not matters(Change.modified, str(tmp_path / "app/.shared/admin/.index.py.swp"))
    assert not matters(Change.modified, str(tmp_path / "third.py"))


async def test_a_mount_of_kubernetes_that_is_put_in_place_of_another_is_seen(
    tmp_path: Path,
) -> None:
    sockets = tmp_path / "sockets"
    for version in ("..1", "..2"):
        (sockets / version).mkdir(parents=True)
        (sockets / version / "index.py").write_text(f"version = '{version}'")
    (sockets / "..data").symlink_to("..1")
    (sockets / "index.py").symlink_to("..data/index.py")
    seen = changes(tmp_path)
    waiting = asyncio.ensure_future(anext(seen))
    await asyncio.sleep(0)
    (sockets / "..data_tmp").symlink_to("..2")
    (sockets / "..data_tmp").rename(sockets / "..data")
    assert await asyncio.wait_for(waiting, DEADLINE)
    await close(seen)


@pytest.mark.parametrize("folder", [False, True])
async def test_a_change_behind_a_link_is_seen_each_time(tmp_path: Path, folder: bool) -> None:
    app, shared = tmp_path / "app", tmp_path / "shared"
    (app / "sockets").mkdir(parents=True)
    shared.mkdir()
    (shared / "index.py").touch()
    name = "shared" if folder else "index.py"
    (app / "sockets" / name).symlink_to(shared if folder else shared / "index.py")
    seen = changes(app)
    for number in range(3):
        waiting = asyncio.ensure_future(anext(seen))
        await asyncio.sleep(0)
        # As editors do: another file takes its place.
        (shared / "new").write_text(f"number = {number}")
        (shared / "new").rename(shared / "index.py")
        assert await asyncio.wait_for(waiting, DEADLINE)
    await close(seen)


async def close(iterator: AsyncIterator[list[str]]) -> None:
    pending = asyncio.ensure_future(anext(iterator))
    await asyncio.sleep(0)
    pending.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await pending


def test_many_changes_are_described_in_one_line() -> None:
    assert describe(["a.py"]) == "a.py"
    assert describe(["a.py", "b.py", "c.py"]) == "a.py, b.py, c.py"
    assert describe([f"{n}.py" for n in range(10)]) == "0.py, 1.py, 2.py and 7 more"
