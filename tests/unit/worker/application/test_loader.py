"""Loading an application: files become routes, and all that is wrong is told at once."""

import inspect
from pathlib import Path
from typing import Any

import pytest

from queue_run import ApplicationError, ClientError
from queue_run.application import schedules
from queue_run.contracts.manifest import QueueFacts
from tests.conftest import WriteApp
from tests.unit.worker.conftest import Load
from worker.application import loader
from worker.application.loader import JOB_PARAMETERS, REQUEST_PARAMETERS
from worker.application.routes import JobHandler, Route, Routes

HANDLER = "def handler(data): return data\n"
JOB = "def handler(job): pass\n"
CONFIG = "from queue_run import Config\n"


def problems(load: Load, files: dict[str, str]) -> list[str]:
    with pytest.raises(ApplicationError) as caught:
        load(files)
    return list(caught.value.problems)


def problem(load: Load, file: str, text: str) -> str:
    """What is wrong with a file, without its name."""
    [found] = problems(load, {file: text})
    name, colon, sentence = found.partition(": ")
    assert (name, colon) == (file, ": ")
    return sentence


def by_pattern(routes: Routes) -> dict[str, Route]:
    return {route.pattern: route for route in routes.sockets}


def only_route(load: Load, text: str) -> Route:
    [route] = load({"sockets/a.py": text}).sockets
    return route


# Routes


def test_the_place_of_a_file_is_its_path(load: Load) -> None:
    files = ["index", "chat", "rooms/index", "rooms/users", "a/b/c"]
    routes = load({f"sockets/{name}.py": HANDLER for name in files})
    assert {pattern: route.file for pattern, route in by_pattern(routes).items()} == {
        "/": "sockets/index.py",
        "/chat": "sockets/chat.py",
        "/rooms": "sockets/rooms/index.py",
        "/rooms/users": "sockets/rooms/users.py",
        "/a/b/c": "sockets/a/b/c.py",
    }


def test_an_index_also_answers_below_itself(load: Load) -> None:
    routes = load(
        {"sockets/index.py": HANDLER, "sockets/chat.py": HANDLER, "sockets/rooms/index.py": HANDLER}
    )
    assert {pattern for pattern, route in by_pattern(routes).items() if route.fallback} == {
        "/",
        "/rooms",
    }


def test_a_path_of_its_own_takes_the_place_of_the_files(load: Load) -> None:
    route = only_route(load, f"path = '/rooms/{{room}}'\n{HANDLER}")
    assert (route.pattern, route.fallback) == ("/rooms/{room}", False)


def test_an_index_with_a_path_of_its_own_answers_that_path_alone(load: Load) -> None:
    [route] = load({"sockets/index.py": f"path = '/start'\n{HANDLER}"}).sockets
    assert (route.pattern, route.fallback) == ("/start", False)


def test_files_that_begin_with_an_underscore_are_no_routes(load: Load) -> None:
    routes = load(
        {
            "sockets/_store.py": "value = 1",
            "sockets/__init__.py": "",
            "sockets/index.py": f"from sockets._store import value\n{HANDLER}",
        }
    )
    assert [route.file for route in routes.sockets] == ["sockets/index.py"]


def test_other_files_are_left_alone(load: Load) -> None:
    routes = load(
        {
            "sockets/index.py": HANDLER,
            "sockets/notes.txt": "no python",
            "sockets/__pycache__/old.py": "syntax error (",
        }
    )
    assert len(routes.sockets) == 1


def test_a_handler_may_be_plain_or_asynchronous(load: Load) -> None:
    routes = load({"sockets/a.py": HANDLER, "sockets/b.py": f"async {HANDLER}"})
    assert [route.is_async for route in routes.sockets] == [False, True]


def test_options_come_from_config(load: Load) -> None:
    route = only_route(
        load, f"{CONFIG}config = Config(timeout=2, type='json', ordered=False)\n{HANDLER}"
    )
    assert (route.timeout, route.type, route.ordered) == (2, "json", False)


def test_without_config_options_have_their_defaults(load: Load) -> None:
    route = only_route(load, HANDLER)
    assert (route.timeout, route.type, route.ordered) == (10.0, "auto", True)


def test_config_sets_what_it_names_and_nothing_else(load: Load) -> None:
    route = only_route(load, f"{CONFIG}config = Config(ordered=False)\n{HANDLER}")
    assert (route.timeout, route.type, route.ordered) == (10.0, "auto", False)


def test_an_object_that_can_be_called_is_a_handler(load: Load) -> None:
    text = "class Handler:\n    def __call__(self, data): return data * 2\nhandler = Handler()\n"
    route = only_route(load, text)
    assert route.parameters == ("data",)
    assert route.handler("x") == "xx"


# Parameters


@pytest.mark.parametrize("name", REQUEST_PARAMETERS)
def test_a_handler_may_take_each_of_the_known_parameters(load: Load, name: str) -> None:
    route = only_route(load, f"def handler({name}): pass")
    assert (route.parameters, route.takes_request) == ((name,), False)


def test_a_handler_may_take_all_of_them(load: Load) -> None:
    route = only_route(load, f"async def handler(*, {', '.join(REQUEST_PARAMETERS)}): pass")
    assert route.parameters == REQUEST_PARAMETERS


def test_a_handler_may_take_nothing(load: Load) -> None:
    route = only_route(load, "def handler(): pass")
    assert (route.parameters, route.takes_request) == ((), False)


@pytest.mark.parametrize("signature", ["message", "message, /", "self_chosen_name=None"])
def test_a_single_parameter_of_another_name_gets_the_whole_request(
    load: Load, signature: str
) -> None:
    route = only_route(load, f"def handler({signature}): pass")
    assert (route.parameters, route.takes_request) == ((), True)


def test_an_unknown_parameter_is_named_with_the_list_of_those_that_exist(load: Load) -> None:
    sentence = problem(load, "sockets/chat.py", "def handler(data, usr): pass")
    assert sentence == (
        "handler has an unknown parameter 'usr': it may take "
        "connection, data, request_id, user, path, params, signal, request"
    )


def test_an_unknown_parameter_with_a_default_is_the_authors_own(load: Load) -> None:
    assert only_route(load, "def handler(data, clock=None): pass").parameters == ("data",)


@pytest.mark.parametrize("signature", ["data, *rest", "data, **rest", "*rest", "**rest"])
def test_parameters_without_names_are_refused(load: Load, signature: str) -> None:
    sentence = problem(load, "sockets/a.py", f"def handler({signature}): pass")
    assert sentence.startswith("handler takes its parameters by name: *")


def test_parameters_without_use_of_their_names_are_refused(load: Load) -> None:
    sentence = problem(load, "sockets/a.py", "def handler(data, user, /): pass")
    assert sentence == "handler's parameter 'data' must not be positional-only"


# Queues


def test_a_file_in_queues_is_a_queue(load: Load) -> None:
    routes = load({"queues/mail.py": JOB, "queues/mail_out/welcome.py": f"async {JOB}"})
    assert {name: job.is_async for name, job in routes.queues.items()} == {
        "mail": False,
        "mail_out.welcome": True,
    }
    assert routes.queues["mail_out.welcome"].file == "queues/mail_out/welcome.py"


def test_a_job_takes_its_payload_first_and_known_parameters_after_it(load: Load) -> None:
    text = f"def handler(anything, *, {', '.join(JOB_PARAMETERS)}): pass"
    assert load({"queues/mail.py": text}).queues["mail"].parameters == JOB_PARAMETERS


def test_a_job_has_a_timeout_of_its_own(load: Load) -> None:
    routes = load(
        {"queues/long.py": f"{CONFIG}config = Config(timeout=900)\n{JOB}", "queues/mail.py": JOB}
    )
    assert {name: job.timeout for name, job in routes.queues.items()} == {
        "long": 900,
        "mail": 300.0,
    }


@pytest.mark.parametrize("signature", ["", "*, job", "*jobs", "**job"])
def test_a_job_without_a_payload_is_refused(load: Load, signature: str) -> None:
    sentence = problem(load, "queues/mail.py", f"def handler({signature}): pass")
    assert sentence.startswith("handler must take the payload as its first parameter")


def test_an_unknown_parameter_of_a_job_is_named_with_the_list(load: Load) -> None:
    sentence = problem(load, "queues/mail.py", "def handler(job, *, connection): pass")
    assert sentence == (
        "handler has an unknown parameter 'connection': it may take "
        "user, job_id, queue_name, queued_at, attempt, group_id, sequence_number, signal, params"
    )


def only_queue(load: Load, options: str) -> JobHandler:
    return load({"queues/mail.py": f"{CONFIG}config = Config({options})\n{JOB}"}).queues["mail"]


def test_a_queue_has_the_options_of_its_config(load: Load) -> None:
    queue = only_queue(
        load, "retries=7, backoff=2.5, fifo=True, celery_queue='slow', notify=True, http='user'"
    )
    assert (queue.retries, queue.attempts, queue.backoff) == (7, 8, 2.5)
    assert (queue.fifo, queue.celery_queue, queue.notify) == (True, "slow", True)
    assert queue.facts == QueueFacts(fifo=True, celery_queue="slow", http="user")


def test_a_queue_without_config_has_the_defaults(load: Load) -> None:
    queue = load({"queues/mail.py": JOB}).queues["mail"]
    assert (queue.retries, queue.backoff, queue.timeout) == (3, 5.0, 300.0)
    assert (queue.fifo, queue.schedule, queue.celery_queue, queue.notify) == (
        False,
        None,
        None,
        False,
    )


def test_a_queue_without_retries_has_one_attempt(load: Load) -> None:
    assert only_queue(load, "retries=0").attempts == 1


@pytest.mark.parametrize("name", ["unacked", "unacked_index", "unacked_mutex", "sockets", "bell"])
def test_a_celery_queue_with_a_name_of_ours_is_refused_with_its_file(load: Load, name: str) -> None:
    text = f"{CONFIG}config = Config(celery_queue={name!r})\n{JOB}"
    found = problem(load, "queues/mail.py", text)
    assert f'celery_queue is not "{name}"' in found
    assert "choose another name" in found


@pytest.mark.parametrize("name", ["a:b", "a b", "a\x06\x163", "a*b"])
def test_a_queue_whose_file_has_no_name_for_it_is_refused(load: Load, name: str) -> None:
    assert "letters, digits" in problem(load, f"queues/{name}.py", JOB)


def test_a_queue_has_the_schedule_of_its_config(load: Load) -> None:
    schedule = only_queue(load, "schedule='every 15 minutes'").schedule
    assert schedule == schedules.parse("every 15 minutes")


@pytest.mark.parametrize(
    "option", ["retries=-1", "backoff=0", "schedule='sometimes'", "celery_queue='a b'"]
)
def test_options_that_cannot_be_used_are_told_with_their_line(load: Load, option: str) -> None:
    text = f"{CONFIG}config = Config({option})\n{JOB}"
    assert problem(load, "queues/mail.py", text).startswith("line 2: ValueError: ")


@pytest.mark.parametrize(
    "option",
    [
        "retries=1",
        "backoff=1",
        "fifo=False",
        "schedule='daily'",
        "celery_queue='slow'",
        "notify=False",
        "http='user'",
    ],
)
def test_options_for_queues_alone_are_refused_in_sockets(load: Load, option: str) -> None:
    sentence = problem(load, "sockets/a.py", f"{CONFIG}config = Config({option})\n{HANDLER}")
    assert sentence == f"Config({option.partition('=')[0]}=…) is for files in queues/ only"


def test_a_payload_is_checked_against_its_annotation(load: Load) -> None:
    validate = load({"queues/mail.py": "def handler(job: int): pass"}).queues["mail"].validate
    assert validate is not None
    assert validate(1) == 1
    with pytest.raises(ClientError, match="payload: expected `int`, got `str`"):
        validate("1")


def test_a_payload_without_an_annotation_is_not_checked(load: Load) -> None:
    assert load({"queues/mail.py": JOB}).queues["mail"].validate is None


@pytest.mark.parametrize("annotation", ["'Unknown'", "set[object()]", "list[int] | set[int]"])
def test_a_payload_whose_annotation_cannot_be_checked_is_refused(
    load: Load, annotation: str
) -> None:
    sentence = problem(load, "queues/mail.py", f"def handler(job: {annotation}): pass")
    assert "payload cannot be checked" in sentence or "TypeError" in sentence


# Middleware of queues

HOOKS = """
def on_job_started(job): return "{0}"
def on_job_finished(job): return "{0}"
def on_error(error, job): return "{0}"
"""


def hook_files(routes: Routes, name: str) -> list[str | None]:
    """Where the middleware of a queue comes from: started, finished, error."""
    hooks = routes.queues[name].hooks
    found = (hooks.started, hooks.finished, hooks.error)
    return [each.file if each is not None else None for each in found]


def test_middleware_of_jobs_comes_from_the_queues_file_first(load: Load) -> None:
    routes = load(
        {
            "queues/_middleware.py": HOOKS.format("folder"),
            "queues/mail.py": HOOKS.format("file") + JOB,
            "queues/some.py": f"def on_error(error, job): pass\n{JOB}",
            "queues/plain.py": JOB,
            "queues/deep/mail.py": JOB,
        }
    )
    folder = "queues/_middleware.py"
    assert hook_files(routes, "mail") == ["queues/mail.py"] * 3
    assert hook_files(routes, "some") == [folder, folder, "queues/some.py"]
    assert hook_files(routes, "plain") == [folder] * 3
    assert hook_files(routes, "deep.mail") == ["default"] * 3
    started = routes.queues["mail"].hooks.started
    assert started is not None
    assert started.function(None) == "file"


def test_none_switches_middleware_of_jobs_off(load: Load) -> None:
    none = "on_job_started = on_job_finished = on_error = None\n"
    routes = load(
        {
            "queues/_middleware.py": HOOKS.format("folder"),
            "queues/mail.py": none + JOB,
            "queues/quiet/_middleware.py": none,
            "queues/quiet/mail.py": JOB,
        }
    )
    assert hook_files(routes, "mail") == hook_files(routes, "quiet.mail") == [None] * 3


@pytest.mark.parametrize(
    ("hook", "sentence"),
    [
        ("def on_job_started(): 1", "on_job_started must be a function that takes the job"),
        ("on_job_finished = 3", "on_job_finished must be a function that takes the job"),
        (
            "def on_error(error): 1",
            (
                "on_error must be a function that takes the error and what failed: "
                "the request, or the job"
            ),
        ),
    ],
)
def test_middleware_of_jobs_takes_what_it_is_given(load: Load, hook: str, sentence: str) -> None:
    assert problem(load, "queues/mail.py", f"{hook}\n{JOB}") == sentence


@pytest.mark.parametrize("option", ["type='json'", "ordered=False", "ordered=True"])
def test_options_for_sockets_alone_are_refused_in_queues(load: Load, option: str) -> None:
    sentence = problem(load, "queues/mail.py", f"{CONFIG}config = Config({option})\n{JOB}")
    assert sentence == f"Config({option.partition('=')[0]}=…) is for files in sockets/ only"


def test_a_file_in_queues_without_a_handler_may_hold_plain_celery_tasks(load: Load) -> None:
    text = "from celery import shared_task\n@shared_task\ndef tidy_up(): pass\n"
    assert load({"queues/tidy.py": text, "queues/_shared.py": ""}).queues == {}


def test_a_celery_task_as_a_handler_is_what_it_runs(load: Load) -> None:
    text = "from celery import shared_task\n@shared_task\ndef handler(job): return job + 1\n"
    assert load({"queues/mail.py": text}).queues["mail"].handler(1) == 2


# Authentication


HOOK = "def on_authenticate(request): return {!r}\n"


def authenticated_by(routes: Routes) -> object:
    """What the application's `on_authenticate` gives, and the file that it is said to be from."""
    assert routes.authenticate is not None
    return routes.authenticate.function(None), routes.authenticate.file


def test_on_authenticate_comes_from_the_index(load: Load) -> None:
    routes = load(
        {
            "sockets/index.py": HOOK.format("index") + HANDLER,
            "sockets/_middleware.py": HOOK.format("middleware"),
        }
    )
    assert authenticated_by(routes) == ("index", "sockets/index.py")


def test_on_authenticate_comes_from_the_middleware_when_the_index_has_none(load: Load) -> None:
    routes = load(
        {"sockets/index.py": HANDLER, "sockets/_middleware.py": HOOK.format("middleware")}
    )
    assert authenticated_by(routes) == ("middleware", "sockets/_middleware.py")


def test_none_in_the_index_switches_it_off(load: Load) -> None:
    routes = load(
        {
            "sockets/index.py": f"on_authenticate = None\n{HANDLER}",
            "sockets/_middleware.py": HOOK.format("middleware"),
        }
    )
    assert routes.authenticate is None


def test_on_authenticate_of_any_other_file_does_not_count(load: Load) -> None:
    routes = load(
        {
            "sockets/index.py": HANDLER,
            "sockets/chat.py": HOOK.format("chat") + HANDLER,
            "sockets/rooms/_middleware.py": HOOK.format("rooms"),
            "queues/_middleware.py": HOOK.format("queues"),
        }
    )
    assert routes.authenticate is None


@pytest.mark.parametrize(
    "hook", ["on_authenticate = 3", "def on_authenticate(): pass", "def on_authenticate(a, b): 1"]
)
def test_on_authenticate_takes_the_request(load: Load, hook: str) -> None:
    [found] = problems(load, {"sockets/_middleware.py": hook, "sockets/index.py": HANDLER})
    assert found == (
        "sockets/_middleware.py: on_authenticate must be a function that takes the request"
    )


# Users who come and go

PRESENCE = "def on_online(user_id): pass\nasync def on_offline(user_id): pass\n"


def test_on_online_and_on_offline_come_from_the_middleware_of_sockets(load: Load) -> None:
    routes = load({"sockets/_middleware.py": PRESENCE, "sockets/index.py": HANDLER})
    assert routes.online is not None
    assert routes.offline is not None
    assert (routes.online.is_async, routes.offline.is_async) == (False, True)
    assert routes.online.file == routes.offline.file == "sockets/_middleware.py"


def test_each_of_the_two_may_be_missing_or_switched_off(load: Load) -> None:
    files = {"sockets/_middleware.py": "on_online = None", "sockets/index.py": HANDLER}
    routes = load(files)
    assert (routes.online, routes.offline) == (None, None)


def test_they_may_be_imported_from_a_file_of_the_applications_own(load: Load) -> None:
    files = {
        "sockets/_users.py": PRESENCE,
        "sockets/_middleware.py": "from sockets._users import on_online",
        "sockets/index.py": HANDLER,
    }
    routes = load(files)
    assert routes.online is not None
    assert routes.offline is None


@pytest.mark.parametrize(
    "file", ["sockets/index.py", "sockets/rooms/_middleware.py", "queues/_middleware.py"]
)
def test_elsewhere_they_would_never_be_called(load: Load, file: str) -> None:
    files = {"sockets/index.py": HANDLER}
    files[file] = files.get(file, "") + "\ndef on_online(user_id): pass\n"
    assert problems(load, files) == [
        f"{file}: on_online is of the whole application: move it to sockets/_middleware.py"
    ]


@pytest.mark.parametrize("hook", ["on_online = 3", "def on_offline(): pass"])
def test_they_take_the_id_of_the_user(load: Load, hook: str) -> None:
    [found] = problems(load, {"sockets/_middleware.py": hook, "sockets/index.py": HANDLER})
    assert found.endswith("must be a function that takes the user's id")


# What is wrong with a file


def test_a_syntax_error_is_told_with_its_line(load: Load) -> None:
    sentence = problem(load, "sockets/chat.py", "x = 1\ndef handler(data:\n    pass\n")
    assert sentence.startswith("line 2: ")


def test_a_failing_import_is_told_with_its_line(load: Load) -> None:
    sentence = problem(load, "sockets/chat.py", f"\n\nimport no_such_module\n{HANDLER}")
    assert sentence == "line 3: ModuleNotFoundError: No module named 'no_such_module'"


def test_a_failure_deeper_in_the_application_is_told_with_the_line_there(load: Load) -> None:
    found = problems(
        load,
        {
            "sockets/_store.py": "def connect():\n    raise LookupError('no database')\n",
            "sockets/chat.py": f"from sockets._store import connect\nconnect()\n{HANDLER}",
        },
    )
    assert found == ["sockets/chat.py: line 2: LookupError: no database"]


def test_a_failure_in_the_standard_library_is_told_with_the_applications_line(load: Load) -> None:
    sentence = problem(load, "sockets/chat.py", f"import json\n\njson.loads('{{')\n{HANDLER}")
    assert sentence.startswith("line 3: JSONDecodeError: ")


@pytest.mark.parametrize("exit_", ["sys.exit(4)", "raise SystemExit(4)"])
def test_a_file_that_exits_stops_nothing(load: Load, exit_: str) -> None:
    found = problems(
        load, {"sockets/a.py": f"import sys\n{exit_}", "sockets/b.py": "handler = None"}
    )
    assert found[0] == "sockets/a.py: line 2: SystemExit: 4"
    assert found[1].startswith("sockets/b.py: ")


def test_a_file_in_sockets_without_a_handler_is_told_what_to_do(load: Load) -> None:
    sentence = problem(load, "sockets/store.py", "value = 1")
    assert sentence == "it has no function named handler (name a file that is no route _…)"


def test_a_handler_that_is_no_function_is_refused(load: Load) -> None:
    sentence = problem(load, "sockets/chat.py", "handler = {'a': 1}")
    assert sentence == "handler must be a function, not {'a': 1}"


@pytest.mark.parametrize("kind", ["sockets", "queues"])
def test_a_config_of_another_type_is_refused(load: Load, kind: str) -> None:
    sentence = problem(load, f"{kind}/a.py", "config = {'timeout': 1}\ndef handler(data): pass")
    assert sentence == "config must be a queue_run.Config, not dict"


def test_a_config_that_cannot_be_made_is_told_with_its_line(load: Load) -> None:
    sentence = problem(load, "sockets/a.py", f"{CONFIG}\nconfig = Config(timeout=0)\n{HANDLER}")
    assert sentence == "line 3: ValueError: timeout is a number of seconds above 0, not 0"


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("'chat'", "path = 'chat' must begin with a slash"),
        (r"'/a\n'", r"path = '/a\n' has characters that cannot be shown"),
        (r"'/\ud83d'", r"path = '/\ud83d' has characters that cannot be shown"),
        ("3", "path must be a text like '/rooms/{room}', not 3"),
        ("'/{'", "the path /{ has braces that are no parameter, like {name}"),
        ("'/{a}/{a}'", "the path /{a}/{a} names a parameter twice"),
    ],
)
def test_a_path_that_cannot_be_used_is_refused(load: Load, path: str, sentence: str) -> None:
    assert problem(load, "sockets/a.py", f"path = {path}\n{HANDLER}") == sentence


def test_a_path_is_taken_once(load: Load) -> None:
    found = problems(
        load, {"sockets/chat.py": HANDLER, "sockets/talk.py": f"path = '/chat/'\n{HANDLER}"}
    )
    assert found == ["sockets/talk.py: the path /chat is taken already"]


def test_all_problems_are_told_together(load: Load) -> None:
    found = problems(
        load,
        {
            "sockets/_middleware.py": "on_authenticate = 3",
            "sockets/a.py": "import no_such_module",
            "sockets/b.py": "def handler(usr, data): pass",
            "sockets/c.py": "def handler(",
            "sockets/fine.py": HANDLER,
            "queues/d.py": "def handler(): pass",
            "queues/e.py": "1/0",
        },
    )
    assert sorted(each.partition(":")[0] for each in found) == [
        "queues/d.py",
        "queues/e.py",
        "sockets/_middleware.py",
        "sockets/a.py",
        "sockets/b.py",
        "sockets/c.py",
    ]


def test_a_failure_of_the_package_itself_is_told_too(load: Load) -> None:
    found = problems(load, {"sockets/__init__.py": "1/0", "sockets/index.py": HANDLER})
    assert found[0].startswith("sockets/__init__.py: line 1: ZeroDivisionError")


def test_a_file_and_a_folder_may_share_a_name(load: Load) -> None:
    routes = load({"sockets/chat.py": HANDLER, "sockets/chat/history.py": HANDLER})
    assert by_pattern(routes).keys() == {"/chat", "/chat/history"}


# Folders


def test_a_folder_that_holds_no_application_is_told_what_to_do(load: Load, tmp_path: Path) -> None:
    [found] = problems(load, {"main.py": ""})
    assert found == (
        f"{tmp_path / 'app'} has neither sockets/ nor queues/: "
        "start in its folder, or set QUEUE_RUN_APP_DIR"
    )


@pytest.mark.parametrize("kind", ["sockets", "queues"])
def test_one_of_the_two_folders_is_enough(load: Load, kind: str) -> None:
    routes = load({f"{kind}/a.py": "def handler(data): pass"})
    assert len(routes.sockets) + len(routes.queues) == 1


def test_files_import_modules_beside_the_two_folders(load: Load) -> None:
    routes = load(
        {
            "beside_the_app.py": "answer = 42",
            "sockets/index.py": "from beside_the_app import answer\ndef handler(): return answer\n",
        }
    )
    assert routes.sockets[0].handler() == 42


def answers(routes: Routes) -> Any:
    [route] = routes.sockets
    return route.handler()


@pytest.mark.parametrize("init", [{}, {"sockets/__init__.py": ""}], ids=["plain", "package"])
def test_the_next_application_sees_nothing_of_the_last(load: Load, init: dict[str, str]) -> None:
    def application(name: str) -> dict[str, str]:
        return {
            **init,
            "sockets/_store.py": f"name = {name!r}",
            "sockets/index.py": "from sockets._store import name\ndef handler(): return name\n",
            **({"sockets/_more.py": ""} if name == "first" else {}),
        }

    assert answers(load(application("first"), folder="first")) == "first"
    assert answers(load(application("second"), folder="second")) == "second"


def test_a_file_of_another_application_is_not_there(load: Load) -> None:
    load({"sockets/_more.py": "", "sockets/index.py": HANDLER}, folder="first")
    with pytest.raises(ApplicationError, match=r"No module named 'sockets\._more'"):
        load({"sockets/index.py": f"import sockets._more\n{HANDLER}"}, folder="second")


def test_a_handler_keeps_working_after_another_application_was_loaded(load: Load) -> None:
    first = load({"sockets/index.py": "name = 'first'\ndef handler(): return name"}, folder="a")
    load({"sockets/index.py": "name = 'second'\ndef handler(): return name"}, folder="b")
    assert answers(first) == "first"


def test_the_queues_of_the_last_application_are_gone(load: Load) -> None:
    load({"queues/mail.py": JOB}, folder="first")
    assert load({"sockets/index.py": HANDLER}, folder="second").queues == {}


def test_the_lists_of_parameters_are_those_of_the_request() -> None:
    """What a handler may ask for by name, the runner must be able to give."""
    from queue_run import Request

    fields = set(inspect.signature(Request).parameters)
    assert set(REQUEST_PARAMETERS) - {"request"} <= fields


def test_the_lists_of_parameters_are_those_of_the_job() -> None:
    from queue_run import Job

    assert set(JOB_PARAMETERS) <= set(inspect.signature(Job).parameters)


def test_files_behind_links_and_beside_hidden_ones_are_loaded_once(write_app: WriteApp) -> None:
    handler = "def handler(data):\n    return data\n"
    app = write_app(
        {
            "sockets/..2024/index.py": handler,
            "sockets/.ipynb_checkpoints/index-checkpoint.py": "syntax error (",
            "sockets/._index.py": "\0",
            "shared/admin/users.py": handler,
        }
    )
    (app / "sockets/..data").symlink_to("..2024")
    (app / "sockets/index.py").symlink_to("..data/index.py")
    (app / "sockets/admin").symlink_to("../shared/admin")
    assert [route.pattern for route in loader.load(app).sockets] == ["/", "/admin/users"]


def test_what_cannot_be_a_file_of_the_application_is_named_with_the_rest(
    write_app: WriteApp,
) -> None:
    app = write_app({"sockets/broken.py": "syntax error (", "sockets/v1.0.py": ""})
    (app / "sockets/gone.py").symlink_to("nowhere.py")
    with pytest.raises(ApplicationError) as failure:
        loader.load(app)
    assert {problem.partition(":")[0] for problem in failure.value.problems} == {
        "sockets/broken.py",
        "sockets/v1.0.py",
        "sockets/gone.py",
    }


def test_a_folder_that_is_a_link_to_nowhere_is_no_missing_folder(tmp_path: Path) -> None:
    (tmp_path / "sockets").symlink_to("gone")
    with pytest.raises(ApplicationError, match="sockets: a link to gone, which is not there"):
        loader.load(tmp_path)
