"""Under which name a folder was entered, and what that name stands for later."""

import os
from pathlib import Path

import pytest

from queue_run.cli.command_line.errors import CommandError
from queue_run.cli.production.folder import Folder, working_folder


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A deployment by link; the working directory is its release 1."""
    for release in ("1", "2"):
        (tmp_path / "shop/releases" / release / "venv/bin").mkdir(parents=True)
    turn(tmp_path / "shop", "1")
    monkeypatch.chdir(tmp_path / "shop/current")
    return tmp_path / "shop"


def turn(shop: Path, release: str) -> None:
    (shop / "new").symlink_to(f"releases/{release}")
    (shop / "new").rename(shop / "current")


def found(shop: Path, folder: Folder) -> str:
    return str(folder.name.relative_to(shop))


def test_a_shell_s_name_is_kept(shop: Path) -> None:
    folder = working_folder({"PWD": f"{shop}/current"}, [])
    assert found(shop, folder) == "current"
    assert folder.now() == shop / "releases/1"
    turn(shop, "2")
    assert folder.now() == shop / "releases/2"
    assert folder.described() == f"{shop}/current (now {shop}/releases/2)"


def test_a_release_that_was_entered_by_its_own_name_is_kept(shop: Path) -> None:
    folder = working_folder({"PWD": f"{shop}/releases/1"}, [f"{shop}/current/Procfile"])
    assert found(shop, folder) == "releases/1"
    assert folder.described() == f"{shop}/releases/1"


@pytest.mark.parametrize("pwd", ["/", "relative", "{shop}/releases/2", "{shop}/x/../current", ""])
@pytest.mark.parametrize("hint", ["current", "current/Procfile", "current/venv/bin/queue-run"])
def test_a_path_that_was_given_tells_the_name_where_no_shell_does(
    shop: Path, pwd: str, hint: str
) -> None:
    # A second link: which one is meant, only the hint tells.
    (shop / "blue").symlink_to("releases/1")
    (shop / "x").mkdir()
    hints: list[str | Path] = [
        "relative/Procfile",
        "/no/such/file",
        shop / "releases/1/Procfile",
        shop / hint,
    ]
    assert found(shop, working_folder({"PWD": pwd.format(shop=shop)}, hints)) == "current"


def test_the_only_link_nearby_is_the_name_where_nothing_tells_it(shop: Path) -> None:
    assert found(shop, working_folder({}, [])) == "current"
    (shop / "blue").symlink_to("releases/1")
    assert found(shop, working_folder({}, [])) == "releases/1"


def test_a_folder_within_the_release_is_found_by_the_link_to_the_release(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shop / "current/venv")
    assert found(shop, working_folder({}, [])) == "current/venv"


def test_paths_into_the_folder_are_by_its_name(shop: Path) -> None:
    folder = working_folder({"PWD": f"{shop}/current"}, [])
    environ = folder.environ(
        {
            "PATH": f"{shop}/releases/1/venv/bin{os.pathsep}/usr/bin",
            "VIRTUAL_ENV": f"{shop}/releases/1/venv",
            "OTHER": f"{shop}/releases/1",
        }
    )
    assert environ == {
        "PATH": f"{shop}/current/venv/bin{os.pathsep}/usr/bin",
        "VIRTUAL_ENV": f"{shop}/current/venv",
        "OTHER": f"{shop}/releases/1",
        "PWD": f"{shop}/current",
    }


def test_a_folder_that_is_gone_is_told(shop: Path) -> None:
    folder = working_folder({"PWD": f"{shop}/current"}, [])
    (shop / "current").unlink()
    with pytest.raises(CommandError, match=r"the folder .*/current is not there \(No such file"):
        folder.now()
    (shop / "current").symlink_to("current")
    with pytest.raises(CommandError, match=r"the folder .*/current is not there \(Too many"):
        folder.now()
    (shop / "current").unlink()
    (shop / "current").touch()
    with pytest.raises(CommandError, match="is no folder"):
        folder.now()


def test_a_working_directory_that_was_removed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(CommandError, match="the working directory is not there"):
        working_folder({}, [])
