"""What a taker asks of its last question, on a real Redis."""

from queue_run.broker.unheard import Questions
from queue_run.storage.script_files import Script
from tests.processes import RedisServer

#: A script that takes something under a tag, which it is given.
TAKE = Script(
    "take",
    """\
-- KEYS: notes
-- ARGV: tag number kept
-- INCLUDE: notes
if spent() then return 'spent' end
gave(ARGV[1])
return 'taken'
""",
)


def test_a_taker_learns_what_its_last_question_got(
    redis_server: RedisServer, namespace: str
) -> None:
    questions = Questions(f"{namespace}.unacked", kept=60)
    with redis_server.client() as client:
        for tag in ("one", "two words"):
            assert client.eval(*TAKE.given([questions.key], [tag, *questions.next()])) == "taken"
        number = questions.unanswered()
        assert number == 2
        # As often as it is asked: the answer may be lost, too.
        assert [questions.recall(client, number) for _ in range(3)] == ["two words"] * 3
        assert 0 < client.pttl(questions.key) <= 60_000


def test_a_question_that_got_nothing_is_spent(redis_server: RedisServer, namespace: str) -> None:
    questions = Questions(f"{namespace}.unacked", kept=60)
    with redis_server.client() as client:
        client.eval(*TAKE.given([questions.key], ["one", *questions.next()]))
        late = questions.next()
        assert questions.recall(client, late[0]) == ""
        assert client.eval(*TAKE.given([questions.key], ["two", *late])) == "spent"
        assert questions.recall(client, late[0]) == ""
        assert client.eval(*TAKE.given([questions.key], ["two", *questions.next()])) == "taken"


def test_only_a_question_without_an_answer_is_asked_about() -> None:
    questions = Questions("unacked", kept=60)
    assert questions.unanswered() is None
    questions.next()
    questions.answered()
    assert questions.unanswered() is None
    questions.next()
    assert (questions.unanswered(), questions.unanswered()) == (2, None)


def test_the_notes_of_two_takers_are_apart() -> None:
    assert Questions("unacked", kept=60).key != Questions("unacked", kept=60).key
