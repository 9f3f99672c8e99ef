"""The Lua scripts in `queue_run/storage/lua`: each says what it is given, and keeps to the rules.

What they do is tested where they are called; that they run on every Redis, in tests/contract.
"""

import re

import pytest

from queue_run.storage.script_files import ANY_NUMBER, Script, header, included_by, load, read
from tests.processes import ROOT
from tests.unit.imports import PACKAGES, modules

LUA = ROOT / "queue_run" / "storage" / "lua"
#: How many files a folder may have, as elsewhere.
FILES = 12


def names(folder: str = "*") -> list[str]:
    """The files of Lua, `attempts/begin` for example."""
    found = sorted(LUA.glob(f"{folder}/*.lua"))
    return [str(path.relative_to(LUA).with_suffix("")) for path in found]


INCLUDED = names("include")
SCRIPTS = [name for name in names() if name not in INCLUDED]


def with_included(name: str) -> str:
    """The source of a script behind those of the files that it includes."""
    source = read(name)
    others = included_by(source, lambda each: read(f"include/{each}"))
    return "\n".join([*(read(f"include/{each}") for each in others), source])


def code_of(source: str) -> str:
    """Without comments."""
    return re.sub(r"^\s*--.*$", "", source, flags=re.MULTILINE)


# Files


def test_the_scripts_are_found() -> None:
    assert len(SCRIPTS) > 40
    assert {path.suffix for path in LUA.rglob("*") if path.is_file()} == {".lua"}
    assert max(len(names(path.name)) for path in LUA.iterdir()) <= FILES


def ours() -> list[str]:
    return [name for name in modules() if name.partition(".")[0] in PACKAGES]


def test_there_is_no_lua_in_python() -> None:
    calls = re.compile(r"redis\.p?call\(")
    assert [name for name in ours() if calls.search(modules()[name].read_text())] == []


def test_every_script_is_loaded_by_one_module_and_there_are_no_others() -> None:
    used = [
        found
        for name in ours()
        for found in re.findall(r'\bload\("([a-z_]+/[a-z_]+)"\)', modules()[name].read_text())
    ]
    assert sorted(used) == SCRIPTS


def test_every_included_file_is_included() -> None:
    used = {each for name in names() for each in header(read(name)).get("INCLUDE", "").split()}
    assert {f"include/{each}" for each in used} == set(INCLUDED)


# Headers

#: `local job, delayed = KEYS[1], KEYS[2]`, also where the right side is on the next line.
LOCALS = re.compile(
    r"^local ([\w, ]+) =\s+((?:tonumber\()?(?:KEYS|ARGV)\[[^\n]*\])\)?(?=\n)", re.MULTILINE
)
INDEX = re.compile(r"\b(KEYS|ARGV)\[([^\[\]]+)\]")


def bound(source: str) -> dict[tuple[str, str], str]:
    """The local names of keys and arguments, by (KEYS or ARGV, index)."""
    return {
        key: name
        for found in LOCALS.finditer(code_of(source))
        for name, key in zip(found[1].split(", "), INDEX.findall(found[2]), strict=True)
    }


def named(script: Script) -> dict[tuple[str, str], str]:
    """The same, as the header has it; without what may come any number of times."""
    found = {}
    for what, given in (("KEYS", script.keys), ("ARGV", script.arguments)):
        is_behind = False
        for number, name in enumerate(given.names, start=1):
            if name.endswith(ANY_NUMBER):
                is_behind = True
                continue
            left = len(given.names) - number
            last = f"#{what} - {left}" if left else f"#{what}"
            found[what, last if is_behind else str(number)] = name
    return found


@pytest.mark.parametrize("name", names())
def test_a_header_says_first_what_the_script_does(name: str) -> None:
    first = read(name).splitlines()[0]
    assert re.match(r"-- [A-Z`].{10,}", first)
    assert not re.match(r"-- [A-Z]+:", first)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_begins_with_locals_named_as_in_its_header(name: str) -> None:
    assert bound(with_included(name)) == named(load(name))


@pytest.mark.parametrize("name", names())
def test_keys_and_arguments_have_their_numbers_in_these_locals_only(name: str) -> None:
    rest = LOCALS.sub("", code_of(read(name)))
    numbers = [index for _, index in INDEX.findall(rest) if re.fullmatch(r"#?[A-Z]*[-\d ]*", index)]
    assert numbers == []
    if name in SCRIPTS:
        # What may come any number of times stands behind the others.
        keys, arguments = load(name).keys, load(name).arguments
        for what, given in (("KEYS", keys), ("ARGV", arguments)):
            named_first = sum(1 for each in given.names if not each.endswith(ANY_NUMBER))
            for found in re.findall(rf"= (\d+), #{what}\b|unpack\({what}, (\d+)\)", rest):
                assert int("".join(found)) in (named_first + 1, named_first), found


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_locals_come_before_everything_else(name: str) -> None:
    code = code_of(read(name)).lstrip()
    places = [found.end() for found in LOCALS.finditer(code)]
    before = code[: max(places, default=-1) + 1]
    assert LOCALS.sub("", before).strip() == ""


# Keys

KEY = re.compile(r"redis\.p?call\('[A-Z]+', ('[A-Z]+', )?([^,()]+?)(?=[,)])")
FUNCTION_NAMES = re.compile(r"function \w*\(([\w, ]*)\)")
MADE = re.compile(r"\b(\w+) = [^\n=]*\.\. ")


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_key_is_declared_or_built_from_a_prefix_that_the_header_names(name: str) -> None:
    source = with_included(name)
    script = load(name)
    declared = {*script.keys.names, *(key for key in loop_names(source))}
    declared |= {each for found in FUNCTION_NAMES.findall(source) for each in found.split(", ")}
    made = {found[1] for found in MADE.finditer(code_of(source))}
    built = set()
    for found in KEY.finditer(code_of(source)):
        key = found[2].strip()
        if " .. " in key or key in made - {"now"}:
            built.add(key)
        elif not key.startswith("KEYS["):
            assert key in declared, f"the key {key} is not declared"
    prefixes = set(re.findall(r"BUILDS: <(\w+)>", source))
    assert bool(built) == bool(prefixes), built
    assert prefixes <= set(script.arguments.names)


def loop_names(source: str) -> list[str]:
    """What loops over the keys call each of them."""
    return re.findall(r"for \w+, (\w+) in ipairs\(KEYS\)", source)


# Names

KEYWORDS = {
    *("and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "in"),
    *("local", "nil", "not", "or", "repeat", "return", "then", "true", "until", "while"),
}
#: What fakeredis knows, too: it has no cmsgpack, bit, struct and sha1hex.
PERMITTED = {
    *("redis", "KEYS", "ARGV", "cjson", "string", "table", "math", "tonumber", "tostring"),
    *("ipairs", "pairs", "type", "unpack", "assert", "pcall"),
}
FUNCTIONS = {"redis": {"call", "pcall"}, "cjson": {"encode", "decode"}}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_uses_what_every_redis_has(name: str) -> None:
    code = re.sub(r"'[^'\n]*'", "''", code_of(with_included(name)))
    local = {"..."}
    for found in re.findall(r"\blocal ([\w, ]+?)(?= =|\n)|\bfor ([\w, ]+?)(?= =| in )", code):
        local.update("".join(found).split(", "))
    local.update(re.findall(r"\blocal function (\w+)", code))
    local.update(each for found in FUNCTION_NAMES.findall(code) for each in found.split(", "))
    used = set(re.findall(r"(?<![\w.])[A-Za-z_]\w*|(?<=\.\.)[A-Za-z_]\w*", code))
    assert used - KEYWORDS - local - PERMITTED == set()
    for module, functions in FUNCTIONS.items():
        assert set(re.findall(rf"\b{module}\.(\w+)", code)) <= functions


# A full Redis (`storage.fullness`): the first write of a script decides.

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
READS = {
    *("TIME", "GET", "EXISTS", "PTTL", "HGET", "HMGET", "HGETALL", "HLEN", "HEXISTS", "HVALS"),
    *("LINDEX", "LRANGE", "ZSCORE", "ZRANGEBYSCORE", "XINFO", "XLEN", "XRANGE", "MEMORY"),
}
#: The scripts that add something, and are refused whole.
REFUSED = {
    # Requests and jobs. `broker/push` frees first where its message makes room.
    *("requests/claim", "groups/push"),
    # Messages, and who comes online.
    *("channel/session_change", "channel/users_change", "presence/arrive"),
}
CALL = re.compile(
    r"redis\.p?call\((?:'([A-Z]+)'|unpack)|\b(?:note|note_server|take_down|take_back|remove)\((\w*)"
)
#: The functions of a script; those that write, and are named above, free first.
FUNCTION = re.compile(r"^local function .*?^end$", re.DOTALL | re.MULTILINE)


def first_write(source: str) -> str | None:
    """The first command that changes something, as far as the text tells."""
    for found in CALL.finditer(FUNCTION.sub("", source)):
        command = found[1] or ("?" if "unpack" in found[0] else "ZREM")
        if command in GROW | FREE:
            return command
    return None


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_frees_first_unless_it_adds(name: str) -> None:
    assert (first_write(code_of(with_included(name))) in GROW) == (name in REFUSED)


def test_it_is_known_what_the_commands_do() -> None:
    used = {found[1] for name in names() for found in CALL.finditer(code_of(read(name)))}
    assert used - {None} <= GROW | FREE | READS
    assert set(SCRIPTS) >= REFUSED
