"""Lists of a command: for people, and for scripts."""

import json

import pytest

from queue_run.cli.command_line.listing import Listing

LISTING: Listing[int] = Listing(
    ("number", "since"),
    lambda number, now: (str(number), f"{now - number:g} s"),
    lambda number: {"number": number},
    "Do:  something",
)


def test_people_get_a_table_and_what_can_be_done(capsys: pytest.CaptureFixture[str]) -> None:
    LISTING.echo_table([1, 20], 100.0, more=None)
    assert capsys.readouterr().out == (
        "number  since\n1       99 s\n20      80 s\n\nDo:  something\n"
    )


def test_who_sees_not_all_learns_how_to(capsys: pytest.CaptureFixture[str]) -> None:
    LISTING.echo_table([1], 100.0, more="There are 7 more")
    assert "\n\nThere are 7 more: show them with --limit N.\n\nDo:" in capsys.readouterr().out


def test_scripts_get_a_line_of_json_each(capsys: pytest.CaptureFixture[str]) -> None:
    LISTING.echo_lines([1, 20])
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [{"number": 1}, {"number": 20}]
