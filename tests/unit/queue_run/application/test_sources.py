"""Which files are an application's."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from queue_run.application.sources import find
from tests.conftest import WriteApp, write_files

HANDLER = "def handler(data):\n    return data\n"
NOBODY = 65534


def names(folder: Path, kind: str = "sockets") -> list[str]:
    found = find(folder, kind)
    assert found.problems == []
    return [str(file) for file in found.files]


def test_python_files_are_found_in_all_folders_a_folders_own_file_first(
    write_app: WriteApp,
) -> None:
    app = write_app(
        {
            "sockets/rooms/chat.py": "",
            "sockets/rooms.py": "",
            "sockets/_middleware.py": "",
            "sockets/notes.txt": "",
            "queues/mail.py": "",
            "models.py": "",
        }
    )
    assert names(app) == ["sockets/_middleware.py", "sockets/rooms.py", "sockets/rooms/chat.py"]
    assert names(app, "queues") == ["queues/mail.py"]


def test_a_folder_that_is_not_there_has_no_files(tmp_path: Path) -> None:
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "name",
    [
        ".hidden.py",
        "._index.py",
        ".#index.py",
        ".ipynb_checkpoints/index-checkpoint.py",
        "..2024_11_30/index.py",
        "__pycache__/index.py",
        ".git/hooks/check.py",
        "index.py~",
        "#index.py#",
        "index.py.orig",
    ],
)
def test_hidden_files_and_what_editors_leave_are_passed_over(
    write_app: WriteApp, name: str
) -> None:
    app = write_app({"sockets/index.py": "", f"sockets/{name}": "syntax error ("})
    assert names(app) == ["sockets/index.py"]


def test_a_lock_of_an_editor_which_is_a_link_to_nowhere_is_passed_over(
    write_app: WriteApp,
) -> None:
    app = write_app({"sockets/index.py": ""})
    (app / "sockets/.#index.py").symlink_to("ann@host.1234:1700000000")
    assert names(app) == ["sockets/index.py"]


def test_a_mount_of_kubernetes_has_each_file_once(write_app: WriteApp) -> None:
    app = write_app(
        {
            "sockets/..2024_11_30_12_00/index.py": "",
            "sockets/..2024_11_30_12_00/admin/index.py": "",
        }
    )
    (app / "sockets/..data").symlink_to("..2024_11_30_12_00")
    (app / "sockets/index.py").symlink_to("..data/index.py")
    (app / "sockets/admin").symlink_to("..data/admin")
    assert names(app) == ["sockets/index.py", "sockets/admin/index.py"]


def test_linked_folders_are_followed_under_their_own_names(write_app: WriteApp) -> None:
    app = write_app({"shared/admin/users.py": "", "shared/deep/more.py": "", "real/index.py": ""})
    (app / "sockets").symlink_to("real")
    (app / "real/admin").symlink_to(app / "shared/admin")
    (app / "real/staff").symlink_to("../shared/admin")
    (app / "shared/admin/deep").symlink_to("../deep")
    assert names(app) == [
        "sockets/index.py",
        "sockets/admin/users.py",
        "sockets/staff/users.py",
        "sockets/admin/deep/more.py",
        "sockets/staff/deep/more.py",
    ]
    assert set(find(app, "sockets").targets) == {
        app / "real",
        app / "shared/admin",
        app / "shared/deep",
    }


@pytest.mark.parametrize("target", [".", "..", "../../sockets"])
def test_a_circle_is_told(write_app: WriteApp, target: str) -> None:
    app = write_app({"sockets/index.py": "", "sockets/rooms/chat.py": ""})
    (app / "sockets/rooms/loop").symlink_to(target)
    real = os.path.realpath(app / "sockets/rooms" / target)
    assert find(app, "sockets").problems == [
        f"sockets/rooms/loop: a link to a folder that it is in itself ({real})"
    ]


@pytest.mark.parametrize("name", ["index.py", "admin", "rooms/chat.py"])
def test_a_broken_link_is_told(write_app: WriteApp, name: str) -> None:
    app = write_app({"sockets/rooms/other.py": ""})
    (app / "sockets" / name).symlink_to("../gone")
    assert find(app, "sockets").problems == [
        f"sockets/{name}: a link to ../gone, which is not there"
    ]


def test_a_broken_link_to_no_code_is_nobodys_business(write_app: WriteApp) -> None:
    app = write_app({"sockets/index.py": ""})
    (app / "sockets/notes.txt").symlink_to("gone")
    assert names(app) == ["sockets/index.py"]


@pytest.mark.parametrize("target", ["gone", "sockets"], ids=["broken", "a circle"])
def test_a_broken_link_in_place_of_the_folder_is_told(tmp_path: Path, target: str) -> None:
    (tmp_path / "sockets").symlink_to(target)
    problem = f"sockets: a link to {target}, which is not there"
    assert find(tmp_path, "sockets").problems == [problem]


def test_a_link_to_itself_is_told(write_app: WriteApp) -> None:
    app = write_app({"sockets/index.py": ""})
    (app / "sockets/self.py").symlink_to("self.py")
    assert find(app, "sockets").problems == [
        "sockets/self.py: a link to self.py, which is not there"
    ]


@pytest.mark.parametrize("name", ["v1.0.py", "v1.0/index.py", "a.b/c/d.py"])
def test_a_name_that_cannot_be_imported_is_told(write_app: WriteApp, name: str) -> None:
    app = write_app({f"sockets/{name}": ""})
    assert find(app, "sockets").problems == [
        (
            f"sockets/{name}: it cannot be imported: a dot in the name of a file or folder; "
            "use '_' or '-'"
        )
    ]


def test_a_name_that_cannot_be_shown_is_told(write_app: WriteApp) -> None:
    app = write_app({"sockets/a\nb.py": ""})
    assert find(app, "sockets").problems == [
        "'sockets/a\\nb.py': its name has characters that cannot be shown: rename it"
    ]


def test_what_is_no_file_is_not_opened(write_app: WriteApp) -> None:
    app = write_app({"sockets/index.py": ""})
    os.mkfifo(app / "sockets/pipe.py")
    assert find(app, "sockets").problems == ["sockets/pipe.py: it is no regular file"]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that others may look into, unlike those of pytest."""
    folder = Path(tempfile.mkdtemp(prefix="queue-run-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_what_cannot_be_read_is_told(open_folder: Path) -> None:
    app = write_files(open_folder, {"sockets/index.py": "", "sockets/rooms/chat.py": ""})
    (app / "sockets/index.py").chmod(0)
    (app / "sockets/rooms").chmod(0)
    # Root may read everything.
    child = os.fork()
    if child == 0:
        if os.getuid() == 0:
            os.setuid(NOBODY)
        expected = [
            "sockets/index.py: it cannot be read (Permission denied)",
            "sockets/rooms: the folder cannot be read (Permission denied)",
        ]
        os._exit(0 if find(app, "sockets").problems == expected else 1)
    assert os.waitpid(child, 0)[1] == 0
    (app / "sockets/rooms").chmod(0o755)
