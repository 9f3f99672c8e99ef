"""Scripts in files: their headers, what Redis gets of them, and what they take."""

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from queue_run.storage.script_files import ANY_NUMBER, Script, header, included_by, load, read
from tests.parts import require
from tests.processes import ROOT

SOURCE = """\
-- Does something to a job,
-- for a reason.
-- KEYS: job others...
-- ARGV: token end
-- INCLUDE: now rooms
-- RETURNS: the job,
-- and more
local job = KEYS[1]

-- Why it does this.
if job then
  return job
end
"""
FILES = {
    "now": "-- The time.\nlocal clock = 1\nlocal now = 2\n",
    "rooms": "-- Rooms.\n-- INCLUDE: now\nlocal function f()\n  return now\nend\n",
}


def script(source: str = SOURCE) -> Script:
    return Script("job/do", source, FILES.__getitem__)


def given(keys: str, arguments: str) -> Script:
    return Script("do", f"-- Does.\n-- KEYS: {keys}\n-- ARGV: {arguments}\nreturn 1\n")


def test_a_header_names_what_a_script_is_given() -> None:
    made = script()
    assert made.keys.names == ("job", "others...")
    assert made.arguments.names == ("token", "end")
    assert header(SOURCE)["INCLUDE"] == "now rooms"
    assert given("none", "none").keys.names == ()


@pytest.mark.parametrize("missing", ["KEYS", "ARGV"])
def test_a_header_without_keys_or_arguments_is_refused(missing: str) -> None:
    with pytest.raises(ValueError, match="the header of the script job/do lacks KEYS or ARGV"):
        script(SOURCE.replace(f"-- {missing}: ", "-- "))


def test_redis_gets_the_code_without_comments_on_the_lines_of_the_file() -> None:
    lines = script().text.splitlines()
    assert lines[0] == "local clock = 1 local now = 2 local function f() return now end"
    assert not any("--" in line for line in lines)
    of_file = [line.strip() for line in SOURCE.splitlines()]
    assert [line for line in lines[1:] if line] == [
        line for line in of_file if line and not line.startswith("--")
    ]
    assert all(line in ("", of_file[number]) for number, line in enumerate(lines) if number)


def test_each_file_is_included_once_and_before_those_that_need_it() -> None:
    assert included_by("-- INCLUDE: rooms now\n", FILES.__getitem__) == ["now", "rooms"]
    assert included_by("return 1\n", FILES.__getitem__) == []


def test_a_script_has_the_name_that_redis_gives_it() -> None:
    made = script()
    assert made.sha == hashlib.sha1(made.text.encode()).hexdigest()


def test_a_command_has_the_script_its_keys_and_its_arguments() -> None:
    made = script()
    assert made.given(["a"], ["t", 5]) == (made.text, 1, "a", "t", 5)
    assert made.given_by_sha(["a", "b"], ("t", 5)) == (made.sha, 2, "a", "b", "t", 5)


@pytest.mark.parametrize(
    ("keys", "arguments", "number_of_keys", "number_of_arguments"),
    [
        ("job", "token end", 2, 2),
        ("job", "token end", 0, 2),
        ("job", "token end", 1, 1),
        ("job", "token end", 1, 3),
        ("none", "none", 1, 0),
        ("none", "none", 0, 1),
        ("job others...", "token", 0, 1),
        ("job", "token times... last", 1, 1),
    ],
)
def test_other_numbers_of_keys_and_arguments_are_refused(
    keys: str, arguments: str, number_of_keys: int, number_of_arguments: int
) -> None:
    made = given(keys, arguments)
    some = ([""] * number_of_keys, [""] * number_of_arguments)
    for call in (made.check, made.given, made.given_by_sha):
        with pytest.raises(ValueError, match="the script do takes the keys") as error:
            call(*some)
        assert str(error.value).endswith(
            f"and was given {number_of_keys} keys and {number_of_arguments} arguments"
        )


def test_what_may_come_any_number_of_times_may() -> None:
    made = given(f"job others{ANY_NUMBER}", f"a times{ANY_NUMBER} b")
    for keys, arguments in ((1, 2), (2, 2), (100, 1000)):
        made.check([""] * keys, [""] * arguments)


def test_a_script_is_read_once() -> None:
    assert load("attempts/begin") is load("attempts/begin")
    assert repr(load("attempts/begin")) == "<script attempts/begin>"
    with pytest.raises(FileNotFoundError):
        load("attempts/nothing")


def test_a_wheel_has_all_scripts_and_reads_them(tmp_path: Path) -> None:
    try:
        import hatchling
    except ImportError:
        require(None, "hatchling")
    del hatchling
    build = ["-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run([sys.executable, *build], cwd=ROOT, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    files = {
        str(path.relative_to(ROOT)) for path in (ROOT / "queue_run/storage/lua").rglob("*.lua")
    }
    assert len(files) > 40
    assert {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".lua")} == files
    code = (
        "from queue_run.storage import script_files; print(script_files.__file__);"
        "print(script_files.load('attempts/begin').sha)"
    )
    environment = {**os.environ, "PYTHONPATH": str(wheel)}
    ran = [sys.executable, "-c", code]
    output = subprocess.check_output(ran, cwd=tmp_path, env=environment, text=True)
    place, sha = output.split()
    assert place.startswith(str(wheel))
    assert sha == load("attempts/begin").sha


def test_the_text_of_a_file_is_read() -> None:
    assert read("include/now").startswith("-- Redis' own clock")
