"""Every script runs, on every Redis, with the least that it may be given."""

from typing import Any

import pytest
from redis.exceptions import ResponseError

from queue_run.storage.script_files import ANY_NUMBER, Given, Script, load
from tests.contract.jobs import Jobs
from tests.unit.test_scripts_in_redis import SCRIPTS

#: What the embedded Redis in Python cannot do; `channel.bounds` goes on without it.
MISSING = {"channel/cut": "MEMORY USAGE"}


def least(given: Given) -> list[str]:
    return [name for name in given.names if not name.endswith(ANY_NUMBER)]


def given_to(script: Script, namespace: str) -> tuple[list[str], list[str]]:
    """The fewest keys and arguments that make sense."""
    keys = [f"{namespace}:{script.name}:{name}" for name in least(script.keys)]
    # A number is right for most: times, how many, names. Of `requests/claim` no key is a session.
    arguments = ["0" if name == "sessions" else "1" for name in least(script.arguments)]
    if f"append{ANY_NUMBER}" in script.arguments.names:
        arguments += ["XADD", keys[0], "*", "e", "entry"]
    return keys, arguments


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_runs(jobs: Jobs, request: pytest.FixtureRequest, name: str) -> None:
    script = load(name)
    keys, arguments = given_to(script, jobs.settings.namespace)
    client: Any = jobs.client
    if name in MISSING and "fakeredis" in request.node.callspec.params.values():
        client.xadd(keys[0], {"e": b"entry"})
        with pytest.raises(ResponseError):
            client.eval(*script.given(keys, arguments))
        return
    # Twice, as all are written: a call whose answer was lost is repeated.
    for _ in range(2):
        client.eval(*script.given(keys, arguments))
    assert client.script_load(script.text) in (script.sha, script.sha.encode())
