"""What a development session runs, and what it announces."""

from pathlib import Path

from queue_run.cli.development import banner
from queue_run.cli.development.programs import application_programs
from queue_run.settings import Settings


def test_only_the_workers_restart_on_a_change(tmp_path: Path) -> None:
    programs = application_programs(Settings(app_dir=str(tmp_path)), {})
    assert {each.name: each.reloads for each in programs} == {
        "web": False,
        "sockets": True,
        "jobs": True,
    }
    assert {each.cwd for each in programs} == {tmp_path}


def test_each_worker_serves_its_queue_of_the_namespace() -> None:
    settings = Settings(namespace="shop", log_level="DEBUG")
    _, sockets, jobs = (" ".join(each.command) for each in application_programs(settings, {}))
    assert "-m celery --quiet -A worker worker -P solo -Q shop.sockets " in sockets
    assert sockets.endswith("-n sockets@%h -l DEBUG")
    assert "-m celery --quiet -A worker worker -P threads -c 10 -Q shop.jobs " in jobs
    for command in (sockets, jobs):
        assert "--without-gossip --without-mingle --without-heartbeat" in command


def test_the_banner_has_what_one_copies() -> None:
    rows = banner.rows(
        host="::1", port=8001, app=Path("/home/ann/chat"), redis_url="redis://127.0.0.1:1234/0"
    )
    assert rows[0] == "Ready: http://[::1]:8001/"
    assert "REDIS_URL=redis://127.0.0.1:1234/0" in rows
    assert "WebSocket    ws://[::1]:8001/" in rows
    assert "Application  /home/ann/chat" in rows
