"""The demo application, tested as its author would: with the kit, in one process."""

from collections.abc import Iterator

import pytest

from queue_run import Refuse
from queue_run.testing import Application
from tests.processes import ROOT


@pytest.fixture
def app() -> Iterator[Application]:
    with Application(ROOT) as app:
        yield app


def test_the_echo_answers_in_kind(app: Application) -> None:
    with app.connected(user="ann") as client:
        client.send({"a": 1})
        client.send("text")
        assert client.received == [{"echo": {"a": 1}}, {"echo": "text"}]


def test_a_report_tells_its_progress_in_every_tab_of_its_user_and_nobody_else(
    app: Application,
) -> None:
    with (
        app.connected(user="ann", path="/reports") as asking,
        app.connected(user="ann") as other_tab,
        app.connected(user="bob") as bob,
    ):
        asking.send({"start": "report", "pages": 2})
        [job] = app.pushed
        assert (job.queue, job.payload) == ("report", {"pages": 2})
        assert asking.received == [{"job": job.id, "pages": 2}]
        app.run_jobs()
        told = [
            {"event": "progress", "job": job.id, "done": 1, "of": 2},
            {"event": "progress", "job": job.id, "done": 2, "of": 2},
            {"event": "report", "job": job.id, "text": "Your 2 pages are ready."},
            {"event": "finished", "job": job.id, "queue": "report"},
        ]
        assert asking.received[1:] == told
        assert other_tab.received == told
        assert bob.received == []


@pytest.mark.parametrize("pages", [0, 101, "ten", None])
def test_a_report_of_an_impossible_length_is_refused(app: Application, pages: object) -> None:
    with app.connected(user="ann", path="/reports") as client:
        client.send({"start": "report", "pages": pages})
        [answer] = client.received
        assert "1 to 100 pages" in answer["error"]
        assert app.pushed == []


def test_a_name_that_is_none_is_refused(app: Application) -> None:
    with pytest.raises(Refuse, match="a user name is"), app.connected(query={"user": "no/name"}):
        pass
