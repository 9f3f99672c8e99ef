"""What a full Redis does with each script (`storage.fullness`): its first write decides."""

import ast
import importlib
import re

import pytest

from tests.unit.imports import PACKAGES, modules, tree

#: Writes that a full Redis refuses.
GROW = {
    *("SET", "HSET", "HSETNX", "HINCRBY", "INCR", "LPUSH", "RPUSH", "SADD", "ZADD", "XADD"),
    # Whatever a script is given: mostly what appends.
    "?",
}
#: Writes that it does, and all that comes after them in a script.
FREE = {
    *("DEL", "HDEL", "LPOP", "RPOP", "LTRIM", "LREM", "SREM", "SPOP", "ZREM", "XTRIM", "XDEL"),
    *("EXPIRE", "PEXPIRE", "PERSIST"),
}
#: The scripts that add something, and are refused whole.
REFUSED = {
    # Requests and jobs. PUSH frees first where its message makes room.
    *("push_server.requests.claims.CLAIM", "queue_run.jobs.lanes._PUSH"),
    # Messages, and who comes online.
    "queue_run.channel.memberships.SESSION_CHANGE",
    "queue_run.channel.memberships.USERS_CHANGE",
    "queue_run.presence._ARRIVE",
}
CALL = re.compile(r"redis\.p?call\((?:'([A-Z]+)'|unpack)|\b(?:note|take_down|remove)\((\w*)")
#: The functions of a script; those that write, `note`, `take_down` and `remove`, free first.
FUNCTION = re.compile(r"^local function .*?^end$", re.DOTALL | re.MULTILINE)


def scripts() -> dict[str, str]:
    """The Lua of our modules, by the names that it has there."""
    return {
        f"{module}.{name}": getattr(importlib.import_module(module), name)
        for module in modules()
        if module.partition(".")[0] in PACKAGES
        for name in texts(module)
    }


def texts(module: str) -> list[str]:
    """The names in a module of texts that have Lua in them."""
    return [
        node.targets[0].id
        for node in tree(module).body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and "redis.call(" in ast.unparse(node.value)
    ]


def first_write(script: str) -> str | None:
    """The first command that changes something, as far as the text tells."""
    for found in CALL.finditer(FUNCTION.sub("", script)):
        command = found[1] or ("?" if "unpack" in found[0] else "ZREM")
        if command in GROW | FREE:
            return command
    return None


@pytest.mark.parametrize(("name", "script"), scripts().items(), ids=scripts())
def test_a_script_frees_first_unless_it_adds(name: str, script: str) -> None:
    assert (first_write(script) in GROW) == (name in REFUSED)


def test_the_scripts_are_found() -> None:
    assert scripts().keys() >= REFUSED
    assert len(scripts()) > 40
    known = GROW | FREE
    used = {found[1] for each in scripts().values() for found in CALL.finditer(each)}
    reads = {
        *("TIME", "GET", "EXISTS", "PTTL", "HGET", "HMGET", "HGETALL", "HLEN", "HEXISTS"),
        *(
            "HVALS",
            "LINDEX",
            "LRANGE",
            "ZSCORE",
            "ZRANGEBYSCORE",
            "XINFO",
            "XLEN",
            "XRANGE",
            "MEMORY",
        ),
    }
    assert used - known - reads == {None}
