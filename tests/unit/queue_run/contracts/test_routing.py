"""Which route answers a path."""

import pytest

from queue_run.contracts.routing import KNOWN_PATHS, Router, compile_pattern, normal


def router(*patterns: str, fallbacks: tuple[str, ...] = ()) -> Router[str]:
    """A router whose targets are their patterns."""
    made: Router[str] = Router()
    for pattern in patterns:
        made.add(pattern, pattern)
    for pattern in fallbacks:
        made.add(pattern, pattern, fallback=True)
    return made


def target(made: Router[str], path: str) -> str | None:
    found = made.match(path)
    return found[0] if found else None


def test_a_path_finds_its_route() -> None:
    made = router("/", "/chat", "/chat/history")
    for path in ("/", "/chat", "/chat/history"):
        assert made.match(path) == (path, {})


def test_without_a_route_nothing_is_found() -> None:
    made = router("/chat")
    for path in ("/", "/cha", "/chats", "/chat/history", "/CHAT"):
        assert made.match(path) is None


def test_slashes_at_the_ends_make_no_difference() -> None:
    made = router("/chat/")
    for path in ("/chat", "/chat/", "//chat//", "chat"):
        assert target(made, path) == "/chat/"


def test_parameters_take_one_segment_each() -> None:
    made = router("/rooms/{room}/users/{user_id}")
    assert made.match("/rooms/lobby/users/7") == (
        "/rooms/{room}/users/{user_id}",
        {"room": "lobby", "user_id": "7"},
    )
    for path in ("/rooms/lobby/users", "/rooms/a/b/users/7", "/rooms//users/7"):
        assert made.match(path) is None


def test_a_parameter_may_share_its_segment() -> None:
    assert router("/files/{name}.txt").match("/files/a.txt") == ("/files/{name}.txt", {"name": "a"})


def test_what_an_expression_treats_specially_is_literal_in_a_path() -> None:
    made = router("/a.b/{x}", "/c+d")
    assert made.match("/axb/1") is None
    assert target(made, "/a.b/1") == "/a.b/{x}"
    assert target(made, "/c+d") == "/c+d"
    assert made.match("/ccd") is None


def test_values_of_parameters_are_decoded() -> None:
    made = router("/rooms/{room}")
    for path, value in (
        ("/rooms/a%20b", "a b"),
        ("/rooms/gr%C3%BC%C3%9Fe", "grüße"),
        ("/rooms/a%2Fb", "a/b"),
        ("/rooms/a+b", "a+b"),
    ):
        assert made.match(path) == ("/rooms/{room}", {"room": value})


@pytest.mark.parametrize(
    ("pattern", "path"),
    [("/räume", "/r%C3%A4ume"), ("/two words", "/two%20words"), ("/räume/{x}", "/r%C3%A4ume/1")],
)
def test_a_path_that_clients_must_encode_is_found(pattern: str, path: str) -> None:
    assert target(router(pattern), path) == pattern


@pytest.mark.parametrize("order", [1, -1])
def test_an_exact_path_wins_over_parameters(order: int) -> None:
    made = router(*["/rooms/{room}", "/rooms/lobby"][::order])
    assert target(made, "/rooms/lobby") == "/rooms/lobby"
    assert target(made, "/rooms/other") == "/rooms/{room}"


@pytest.mark.parametrize("order", [1, -1])
def test_more_literal_text_at_the_beginning_wins(order: int) -> None:
    made = router(*["/{kind}/{x}", "/rooms/{x}", "/rooms/lobby-{x}"][::order])
    assert target(made, "/rooms/lobby-1") == "/rooms/lobby-{x}"
    assert target(made, "/rooms/1") == "/rooms/{x}"
    assert target(made, "/files/1") == "/{kind}/{x}"


@pytest.mark.parametrize("order", [1, -1])
def test_literal_text_wins_over_a_parameter_at_the_same_place(order: int) -> None:
    made = router(*["/rooms/{room}/{x}", "/rooms/{room}/users"][::order])
    assert target(made, "/rooms/1/users") == "/rooms/{room}/users"


@pytest.mark.parametrize("name", ["~ann", "über"])
def test_literal_text_of_any_letters_wins_over_a_parameter(name: str) -> None:
    made = router("/rooms/{room}/{x}", f"/rooms/{{room}}/{name}")
    assert target(made, f"/rooms/1/{name}") == f"/rooms/{{room}}/{name}"


def test_the_nearest_fallback_upward_answers_what_nothing_else_does() -> None:
    made = router("/chat/history", fallbacks=("/", "/chat"))
    assert target(made, "/chat/history") == "/chat/history"
    assert target(made, "/chat") == "/chat"
    assert target(made, "/chat/x/y") == "/chat"
    assert target(made, "/chat/history/old") == "/chat"
    assert target(made, "/chats") == "/"
    assert target(made, "/") == "/"


def test_a_pattern_wins_over_a_fallback() -> None:
    made = router("/{any}", fallbacks=("/",))
    assert target(made, "/x") == "/{any}"
    assert target(made, "/x/y") == "/"


def test_without_a_fallback_upward_nothing_answers() -> None:
    made = router("/chat", fallbacks=("/rooms",))
    assert target(made, "/rooms/1") == "/rooms"
    assert made.match("/chat/1") is None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("/chat", "/chat"),
        ("/chat", "/chat/"),
        ("/", ""),
        ("/rooms/{room}", "/rooms/{id}"),
    ],
)
def test_a_path_is_taken_once(first: str, second: str) -> None:
    made = router(first)
    with pytest.raises(ValueError, match="is taken already"):
        made.add(second, second)
    assert target(made, first.replace("{room}", "1")) == first


@pytest.mark.parametrize(
    "pattern", ["/{", "/}", "/{}", "/{a", "/a}", "/{a-b}", "/{1}", "/{{a}}", "/{a}/{", "/{a b}"]
)
def test_braces_that_are_no_parameter_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"has braces that are no parameter, like \{name\}"):
        router(pattern)


def test_a_parameter_is_named_once() -> None:
    with pytest.raises(ValueError, match="names a parameter twice"):
        router("/{x}/{y}/{x}")


def test_a_refused_pattern_leaves_no_trace() -> None:
    made = router()
    for pattern in ("/{", "/{x}/{x}"):
        with pytest.raises(ValueError, match=r"."):
            made.add(pattern, pattern, fallback=True)
    assert made.match("/a/b") is None


def test_an_expression_matches_whole_paths() -> None:
    expression = compile_pattern("/rooms/{room}")
    assert expression.fullmatch("/rooms/1")
    assert not expression.fullmatch("/rooms/1/2")
    assert not expression.fullmatch("/rooms/1\n/2")


def test_the_normal_form_has_one_leading_slash() -> None:
    assert [normal(path) for path in ("", "/", "a", "/a/", "//a/b//")] == [
        "/",
        "/",
        "/a",
        "/a",
        "/a/b",
    ]


def test_what_is_remembered_of_a_path_is_not_the_callers_to_change() -> None:
    router: Router[str] = Router()
    router.add("/rooms/{room}", "room")
    for _ in range(2):
        found = router.match("/rooms/tea")
        assert found == ("room", {"room": "tea"})
        found[1].clear()


def test_a_route_that_is_added_later_is_found() -> None:
    router: Router[str] = Router()
    assert router.match("/chat") is None
    router.add("/chat", "chat")
    assert router.match("/chat") == ("chat", {})


def test_clients_that_make_up_paths_fill_no_memory() -> None:
    router: Router[str] = Router()
    router.add("/", "index", fallback=True)
    for number in range(2 * KNOWN_PATHS + 1):
        assert router.match(f"/{number}") == ("index", {})
    assert len(router._known) <= KNOWN_PATHS
