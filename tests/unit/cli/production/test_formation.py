"""Which processes run, and what each of them is told."""

import os
import sys
from pathlib import Path

import pytest

from queue_run.cli.command_line.errors import CommandError
from queue_run.cli.production.formation import Place, for_production, places, read_counts
from queue_run.cli.production.procfile import parse
from queue_run.cli.supervision.reporter import StopStage
from queue_run.settings import Settings

ENTRIES = parse(
    "web: python -m push_server\nworker: celery -A worker worker\nbeat: celery -A worker beat\n"
)


def placed(processes: str, settings: Settings | None = None) -> dict[str, Place]:
    found = places(
        ENTRIES,
        read_counts(processes, ENTRIES),
        settings=settings or Settings(),
        environ={"A": "1"},
        cwd=Path("/app"),
    )
    return {place.program.name: place for place in found}


def test_there_is_one_of_each_unless_told_otherwise() -> None:
    assert list(placed("")) == ["web.1", "worker.1", "beat.1"]
    assert list(placed(" web = 2, worker=0 ,")) == ["web.1", "web.2", "beat.1"]


@pytest.mark.parametrize("text", ["web", "web=", "web=two", "web=-1", "web=1.5", "web=²"])
def test_a_number_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(CommandError, match="expected NAME=NUMBER") as caught:
        read_counts(f"worker=2,{text}", ENTRIES)
    assert repr(text) in caught.value.message


def test_a_name_that_the_procfile_lacks_is_refused() -> None:
    with pytest.raises(CommandError, match="'jobs=1': the Procfile has no line 'jobs', only web,"):
        read_counts("web=1,jobs=1", ENTRIES)


def test_a_second_beat_is_refused() -> None:
    with pytest.raises(CommandError, match="every scheduled job twice"):
        read_counts("beat=2", ENTRIES)


def test_nothing_to_run_is_refused() -> None:
    with pytest.raises(CommandError, match="no process"):
        read_counts("web=0,worker=0,beat=0", ENTRIES)


def test_each_process_is_a_shell_s_with_its_number() -> None:
    program = placed("worker=2")["worker.2"].program
    assert program.command == ("/bin/sh", "-c", "celery -A worker worker")
    assert program.shell
    assert program.environ == {"A": "1", "QUEUE_RUN_PROCESS": "2"}
    assert program.cwd == Path("/app")


def test_several_push_servers_share_their_port_and_may_overlap() -> None:
    several = placed("web=2")["web.1"]
    assert several.program.environ["QUEUE_RUN_REUSE_PORT"] == "1"
    assert several.overlaps
    single = placed("web=1")["web.1"]
    assert "QUEUE_RUN_REUSE_PORT" not in single.program.environ
    assert not single.overlaps
    told = placed("web=1", Settings(reuse_port=True))["web.1"]
    assert told.overlaps


def test_workers_may_overlap_and_beat_may_not() -> None:
    found = placed("web=2")
    assert found["worker.1"].overlaps
    assert not found["beat.1"].overlaps
    assert "QUEUE_RUN_REUSE_PORT" not in found["worker.1"].program.environ


def test_push_servers_stop_before_all_others() -> None:
    assert {name: place.program.stops for name, place in placed("").items()} == {
        "web.1": StopStage.FIRST,
        "worker.1": StopStage.SECOND,
        "beat.1": StopStage.SECOND,
    }


def test_a_successor_differs_in_its_number_alone_and_the_next_one_has_the_first_again() -> None:
    place = placed("worker=2")["worker.2"]
    first = place.program
    place.program = second = place.successor()
    assert second.name == first.name
    assert second.environ == {"A": "1", "QUEUE_RUN_PROCESS": "2b"}
    assert place.successor() == first


def test_commands_are_found_beside_this_one_unless_the_path_has_that_folder() -> None:
    beside = str(Path(sys.executable).parent)
    assert for_production({"PATH": "/usr/bin"})["PATH"] == f"{beside}{os.pathsep}/usr/bin"
    listed = f"/usr/bin{os.pathsep}{beside}"
    assert for_production({"PATH": listed})["PATH"] == listed


def test_output_is_not_held_back_unless_told_otherwise() -> None:
    assert for_production({})["PYTHONUNBUFFERED"] == "1"
    assert for_production({"PYTHONUNBUFFERED": ""})["PYTHONUNBUFFERED"] == ""
