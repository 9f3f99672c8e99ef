"""What a development session runs, and what it announces."""

from pathlib import Path

from queue_run.cli.development import banner
from queue_run.cli.development.processes.programs import jobs_worker, push_server, sockets_worker
from queue_run.cli.supervision.reporter import Program
from queue_run.settings import Settings


def programs_of(settings: Settings, *, own_broker: bool = False) -> list[Program]:
    folder = Path("/session")
    return [
        push_server(settings, {}),
        sockets_worker(settings, {}, folder / "ready", False),
        jobs_worker(settings, {}, folder=folder, own_broker=own_broker),
    ]


def test_a_worker_beside_another_one_has_a_name_of_its_own() -> None:
    beside = " ".join(sockets_worker(Settings(), {}, Path("/session/ready"), True).command)
    assert beside.endswith(" -n sockets2@%h")


def test_only_the_workers_restart_on_a_change(tmp_path: Path) -> None:
    programs = programs_of(Settings(app_dir=str(tmp_path)))
    assert {each.name: each.reloads for each in programs} == {
        "web": False,
        "sockets": True,
        "jobs": True,
    }
    assert {each.cwd for each in programs} == {tmp_path}


def test_the_push_server_stops_before_the_workers() -> None:
    web, *workers = programs_of(Settings())
    assert [web.stops < each.stops for each in workers] == [True, True]


def test_each_worker_serves_its_queue_of_the_namespace() -> None:
    settings = Settings(namespace="shop", log_level="DEBUG")
    _, sockets, jobs = (" ".join(each.command) for each in programs_of(settings))
    own = "-m queue_run.cli.development.processes.sockets_worker /session/ready"
    assert f"{own} --quiet -A worker worker -P solo -Q shop.sockets " in sockets
    assert sockets.endswith("-n sockets@%h -l DEBUG")
    assert "-m celery --quiet -A worker worker -P threads -c 10 -X shop.sockets " in jobs
    for command in (sockets, jobs):
        assert "--without-gossip --without-mingle --without-heartbeat" in command


def test_beat_is_with_the_worker_of_jobs_and_keeps_its_file_in_the_sessions_folder() -> None:
    _, sockets, jobs = (" ".join(each.command) for each in programs_of(Settings()))
    assert jobs.endswith(" -B -s /session/beat-schedule")
    assert "-B" not in sockets.split()


def test_only_what_nobody_else_may_hold_is_put_back_at_the_start() -> None:
    module = "queue_run.cli.development.processes.jobs_worker"
    for own_broker in (False, True):
        _, sockets, jobs = programs_of(Settings(), own_broker=own_broker)
        assert (module in jobs.command) is own_broker
        assert module not in sockets.command


def test_the_banner_has_what_one_copies() -> None:
    rows = banner.rows(
        host="::1", port=8001, app=Path("/home/ann/chat"), redis_url="redis://127.0.0.1:1234/0"
    )
    assert rows[0] == "Ready: http://[::1]:8001/"
    assert "REDIS_URL=redis://127.0.0.1:1234/0" in rows
    assert "WebSocket    ws://[::1]:8001/" in rows
    assert "Application  /home/ann/chat" in rows
