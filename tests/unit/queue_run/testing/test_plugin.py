"""The fixtures, in a pytest of their own."""

import pytest

from tests.conftest import WriteApp
from tests.nested_pytest import run_pytest


@pytest.mark.parametrize(
    ("option", "folder", "started_in"),
    [
        ("queue_run_app = server/app", "server/app", "."),
        ("", "server", "server"),
        ("", ".", "tests"),
    ],
)
def test_the_plugin_finds_the_application(
    write_app: WriteApp, option: str, folder: str, started_in: str
) -> None:
    here = write_app(
        {
            "pytest.ini": f"[pytest]\n{option}\n",
            f"{folder}/sockets/index.py": "def handler(data): return {'echo': data}",
            "tests/test_echo.py": "def test_echo(connect):\n"
            "    client = connect()\n"
            "    client.send(1)\n"
            "    assert client.received == [{'echo': 1}]\n",
            f"{started_in}/placeholder.txt": "",
        }
    )
    ended = run_pytest(here / started_in, str(here / "tests"))
    assert ended.returncode == 0, ended.stdout + ended.stderr
