"""The keys of programs: who may push what, and which lists are refused."""

import pytest

from queue_run.settings import api_keys
from queue_run.settings.api_keys import ApiKey, InvalidApiKeys

KEY = "a-secret-of-22-letters"
OTHER = "another-secret-of-27-letter"


def test_a_list_without_items_has_no_keys() -> None:
    assert api_keys.parse("") == api_keys.parse(" , ,") == []


def test_a_key_alone_may_push_to_every_queue() -> None:
    [key] = api_keys.parse(f" {KEY} ")
    assert key == ApiKey(KEY, None)
    assert key.may_push_to("mail")


def test_a_key_with_queues_may_push_to_these_alone() -> None:
    first, second = api_keys.parse(f"{KEY}:mail+mail.welcome,{OTHER}:über-uns")
    assert first == ApiKey(KEY, frozenset({"mail", "mail.welcome"}))
    assert second.queues == frozenset({"über-uns"})
    assert first.may_push_to("mail.welcome")
    for name in ("welcome", "mail.other", "", "mail+mail.welcome", "Mail"):
        assert not first.may_push_to(name)


@pytest.mark.parametrize("key", [f"{KEY}+/=~.-_", "schlüssel-mit-umlaut"])
def test_a_key_has_any_characters_but_the_lists_own(key: str) -> None:
    assert [each.key for each in api_keys.parse(key)] == [key]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("k" * 15, "at least 16 characters, this one 15"),
        ("k" * 15 + ":mail", "at least 16 characters, this one 15"),
        (":mail", "at least 16 characters, this one 0"),
        (f"{KEY}:", "names queues"),
        (f"{KEY}:mail+", "names queues"),
        (f"{KEY}:+", "names queues"),
        (f"{KEY}::mail", "names queues"),
        (f"{KEY}:mail:report", "names queues"),
        (f"{KEY}:mail report", "names queues"),
        (f"{KEY}:*", "names queues"),
        (f"{KEY}:mail..x", "names queues"),
        (f"{KEY} {OTHER}", "separate keys with commas"),
        (f"{KEY}\n{OTHER}", "separate keys with commas"),
        (f"{KEY}\0", "cannot be seen"),
        (f"{KEY}\u200b", "cannot be seen"),
        (f"{KEY}\x7f:mail", "cannot be seen"),
    ],
)
def test_an_item_that_is_no_key_is_refused_without_a_word_of_it(text: str, words: str) -> None:
    with pytest.raises(InvalidApiKeys) as caught:
        api_keys.parse(f"{'x' * 16},{text}")
    [problem] = caught.value.problems
    assert problem.startswith("item 2 of 2: ")
    assert words in problem
    assert KEY[:4] not in problem
    assert "kkk" not in problem


def test_a_key_that_is_listed_twice_is_refused_since_it_would_be_unclear_what_it_may() -> None:
    with pytest.raises(InvalidApiKeys) as caught:
        api_keys.parse(f"{KEY},{OTHER},{KEY}:mail,short")
    assert [each.partition(":")[0] for each in caught.value.problems] == [
        "item 3 of 4",
        "item 4 of 4",
    ]


def test_the_form_for_people_has_no_key_in_it() -> None:
    [key] = api_keys.parse(f"{KEY}:mail")
    assert KEY not in f"{key!r} {key} {[key]}"
