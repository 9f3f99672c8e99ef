"""Settings are read once, checked together, and wrong ones are named by their variable."""

from pathlib import Path

import msgspec
import pytest

from queue_run.errors import SettingsError
from queue_run.settings import CUSTOMARY_NAMES, Settings, variable_name, without_password


def refused(**environ: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(environ)
    return caught.value.problems


def test_an_empty_environment_gives_the_defaults() -> None:
    settings = Settings.from_env({})
    assert settings == Settings()
    assert settings.redis_url == "redis://127.0.0.1:6379/0"
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.namespace == "queue-run"
    assert settings.expose_errors is False
    assert settings.max_message_bytes == 1024 * 1024
    assert settings.max_request_bytes == 64 * 1024


def test_defaults_have_no_problem() -> None:
    assert Settings().problems() == []


def test_each_kind_of_value_is_read() -> None:
    settings = Settings.from_env(
        {
            "REDIS_URL": "rediss://cache.example:6380/2",
            "BROKER_URL": "amqp://rabbit.example",
            "PORT": "9000",
            "QUEUE_RUN_NAMESPACE": "shop.v2",
            "QUEUE_RUN_DEADLINE_GRACE": "0.5",
            "QUEUE_RUN_PING_INTERVAL": "30",
            "QUEUE_RUN_REUSE_PORT": "yes",
        }
    )
    assert settings == Settings(
        redis_url="rediss://cache.example:6380/2",
        broker_url="amqp://rabbit.example",
        port=9000,
        namespace="shop.v2",
        deadline_grace=0.5,
        ping_interval=30.0,
        reuse_port=True,
    )


@pytest.mark.parametrize("text", ["1", "true", "TRUE", "Yes", "on"])
def test_truth_is_spelled_in_many_ways(text: str) -> None:
    assert Settings.from_env({"QUEUE_RUN_EXPOSE_ERRORS": text}).expose_errors is True


@pytest.mark.parametrize("text", ["0", "false", "No", "OFF"])
def test_untruth_is_spelled_in_many_ways(text: str) -> None:
    assert Settings.from_env({"QUEUE_RUN_EXPOSE_ERRORS": text}).expose_errors is False


@pytest.mark.parametrize("text", ["", " ", "\t"])
def test_an_empty_variable_counts_as_not_set(text: str) -> None:
    environ = {variable_name(field.name): text for field in msgspec.structs.fields(Settings)}
    assert Settings.from_env(environ) == Settings()


def test_a_text_that_looks_like_a_number_stays_text() -> None:
    assert Settings.from_env({"QUEUE_RUN_NAMESPACE": "7"}).namespace == "7"


def test_space_around_a_value_is_cut_off() -> None:
    assert Settings.from_env({"PORT": " 9000 "}).port == 9000


@pytest.mark.parametrize("variable", ["REDIS_URL", "BROKER_URL"])
@pytest.mark.parametrize("text", ["Hush7hush", "ann:hush", "hush/hush", "hush_hush:x"])
def test_what_may_be_a_password_in_place_of_a_url_is_not_shown(variable: str, text: str) -> None:
    [problem] = refused(**{variable: text})
    assert problem.startswith(f"{variable}='***': ")
    assert "hush" not in problem


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("PORT", "http", "expected `int`"),
        ("PORT", "80.5", "expected `int`"),
        ("PORT", "-1", ">= 0"),
        ("PORT", "65536", "<= 65535"),
        ("REDIS_URL", "localhost:6379", "redis://"),
        ("REDIS_URL", "http://localhost", "redis://"),
        ("BROKER_URL", "rabbit", "amqp://"),
        ("QUEUE_RUN_NAMESPACE", "my app", "letters, digits"),
        ("QUEUE_RUN_NAMESPACE", "-x", "letters, digits"),
        ("QUEUE_RUN_NAMESPACE", "a" * 101, "at most 100 characters"),
        ("QUEUE_RUN_NAMESPACE", "shop.events", "choose another one"),
        ("QUEUE_RUN_NAMESPACE", "shop.unacked", "choose another one"),
        ("QUEUE_RUN_NAMESPACE", "reply.celery.pidbox", "choose another one"),
        ("QUEUE_RUN_NAMESPACE", "celeryev", "choose another one"),
        ("QUEUE_RUN_NAMESPACE", "amq.shop", "choose another one"),
        ("QUEUE_RUN_LOG_LEVEL", "verbose", "DEBUG, INFO, WARNING or ERROR"),
        ("QUEUE_RUN_PUBLIC_DIR", "/no/such/folder", "there is no such folder"),
        ("QUEUE_RUN_REUSE_PORT", "perhaps", "expected `bool`"),
        ("QUEUE_RUN_MAX_MESSAGE_BYTES", "10", ">= 1024"),
        ("QUEUE_RUN_MAX_LANE_REQUESTS", "0", ">= 1"),
        ("QUEUE_RUN_DEADLINE_GRACE", "0", "> 0"),
        ("QUEUE_RUN_DEADLINE_GRACE", "soon", "expected `float`"),
        ("QUEUE_RUN_DEADLINE_GRACE", "Infinity", "expected `float`"),
        ("QUEUE_RUN_SHUTDOWN_GRACE", "null", "expected `float`"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_with_its_variable(
    variable: str, text: str, words: str
) -> None:
    [problem] = refused(**{variable: text})
    assert problem.startswith(f"{variable}={text!r}: ")
    assert words in problem


@pytest.mark.parametrize(
    "text",
    [
        *("https://example.com", "https://EXAMPLE.com:443/", "*", "null", "file://", "app://-"),
        *("capacitor://localhost", "ionic://localhost, tauri://localhost"),
        *("chrome-extension://abcdefgh", "http://[::1]:3000,https://bücher.example"),
    ],
)
def test_origins_of_pages_and_of_apps_can_be_allowed(text: str) -> None:
    assert Settings.from_env({"QUEUE_RUN_ALLOWED_ORIGINS": text}).allowed_origins == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("https://*.example.com", "cannot be *"),
        ("https://ann:hush@example.com", "no user"),
        ("https://example.com/app", "no path"),
        ("https://example.com?x", "no path"),
        ("https://example.com:99999", "a port"),
        ("http://[::1", "malformed"),
        ("example.com", "begins with a scheme"),
    ],
)
def test_an_origin_that_can_never_match_is_refused(text: str, words: str) -> None:
    [problem] = refused(QUEUE_RUN_ALLOWED_ORIGINS=f"https://a.example, {text}")
    assert problem.startswith("QUEUE_RUN_ALLOWED_ORIGINS: ")
    assert "is no origin like https://example.com: " in problem
    assert words in problem
    assert "hush" not in problem


@pytest.mark.parametrize(
    "text", ["localhost", ".example.com, 10.0.0.0/8", "[::1],::2", "*", "example.com.", "1.2.3.4"]
)
def test_names_of_the_server_can_be_listed(text: str) -> None:
    assert Settings.from_env({"QUEUE_RUN_ALLOWED_HOSTS": text}).allowed_hosts == text


@pytest.mark.parametrize(
    "text", ["https://example.com", "example.com:80", "*.example.com", "a b", "a/b", "ann:hush@b"]
)
def test_what_is_no_name_of_a_server_is_refused(text: str) -> None:
    [problem] = refused(QUEUE_RUN_ALLOWED_HOSTS=f"localhost,{text}")
    assert problem.startswith("QUEUE_RUN_ALLOWED_HOSTS: ")
    assert "is no host like example.com" in problem
    assert "hush" not in problem


def test_api_keys_that_cannot_be_used_are_counted_and_not_shown() -> None:
    key = "hush-hush-hush-hush"
    problems = refused(QUEUE_RUN_API_KEYS=f"{key}:mail, {key}:, hush")
    assert [each.partition(": ")[0] for each in problems] == ["QUEUE_RUN_API_KEYS"] * 2
    assert ["item 2 of 3" in problems[0], "item 3 of 3" in problems[1]] == [True, True]
    assert not any("hush" in each for each in problems)


def test_a_session_secret_that_is_too_short_is_refused_and_not_shown() -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.from_env({"QUEUE_RUN_SESSION_SECRET": "fifteen letters"})
    assert "QUEUE_RUN_SESSION_SECRET is shorter than 16 characters" in str(raised.value)
    assert "fifteen" not in str(raised.value)
    taken = Settings.from_env({"QUEUE_RUN_SESSION_SECRET": "sixteen letters."})
    assert taken.session_secret == "sixteen letters."


def test_the_text_of_settings_has_no_secret() -> None:
    settings = Settings(
        redis_url="redis://user:hidden1@host/0",
        broker_url="amqp://user:hidden2@host",
        api_keys="hidden3hidden3hidden3",
        session_secret="hidden4hidden4hidden4",
        port=7,
    )
    assert "hidden" not in repr(settings)
    assert "hidden" not in str([settings])
    assert "port=7" in repr(settings)


def test_api_keys_are_taken_with_their_queues() -> None:
    keys = f"{'k' * 16}, {'l' * 16}:mail+report"
    assert Settings.from_env({"QUEUE_RUN_API_KEYS": keys}).api_keys == keys


def test_all_problems_are_reported_together() -> None:
    problems = refused(
        PORT="http",
        REDIS_URL="localhost",
        QUEUE_RUN_LOG_LEVEL="loud",
        QUEUE_RUN_MAX_IN_FLIGHT="none",
        QUEUE_RUN_NO_SUCH_THING="1",
    )
    assert sorted(problem.partition("=")[0].partition(":")[0] for problem in problems) == [
        "PORT",
        "QUEUE_RUN_LOG_LEVEL",
        "QUEUE_RUN_MAX_IN_FLIGHT",
        "QUEUE_RUN_NO_SUCH_THING",
        "REDIS_URL",
    ]


def test_a_misspelled_variable_is_told_the_right_one() -> None:
    assert refused(QUEUE_RUN_NAMESPCE="shop") == (
        "QUEUE_RUN_NAMESPCE: did you mean QUEUE_RUN_NAMESPACE?",
    )


def test_a_variable_like_no_other_is_said_not_to_exist() -> None:
    name = "QUEUE_RUN_WHATEVER_ELSE_ONE_THINKS_OF"
    assert refused(**{name: "1"}) == (f"{name}: there is no such setting",)


def test_a_shared_prefix_makes_no_likeness() -> None:
    assert refused(QUEUE_RUN_XYZZY="1") == ("QUEUE_RUN_XYZZY: there is no such setting",)


@pytest.mark.parametrize("name", CUSTOMARY_NAMES.values())
def test_a_customary_name_with_the_prefix_is_told_to_do_without(name: str) -> None:
    [problem] = refused(**{f"QUEUE_RUN_{name}": "1"})
    assert problem == f"QUEUE_RUN_{name}: did you mean {name}?"


def test_variables_of_others_and_of_the_tests_are_not_ours_to_judge() -> None:
    environ = {"QUEUE_RUN_TEST_REQUIRE_ALL": "1", "HOME": "/root", "queue_run_port": "x"}
    assert Settings.from_env(environ) == Settings()


def test_customary_variables_carry_no_prefix() -> None:
    assert variable_name("redis_url") == "REDIS_URL"
    assert variable_name("broker_url") == "BROKER_URL"
    assert variable_name("port") == "PORT"
    assert variable_name("ping_interval") == "QUEUE_RUN_PING_INTERVAL"


@pytest.mark.parametrize(
    ("redis_url", "broker_url", "broker"),
    [
        ("redis://one/0", "", "redis://one/0"),
        ("redis://one/0", "amqp://two", "amqp://two"),
        ("unix:///run/redis.sock?db=1", "", "redis+socket:///run/redis.sock?db=1"),
        ("redis://one/0", "unix:///run/redis.sock", "redis+socket:///run/redis.sock"),
        ("redis://one/0?password=a%40b", "", "redis://:a%40b@one/0"),
        ("redis://ann:x@one/0?db=1&password=b", "", "redis://ann:b@one/0?db=1"),
        ("redis://one?username=ann&password=b", "", "redis://ann:b@one"),
        ("unix:///run/r.sock?password=b&db=1", "", "redis+socket://:b@/run/r.sock?db=1"),
        ("redis://one/0", "amqp://two?password=b", "amqp://two?password=b"),
    ],
)
def test_the_broker_is_redis_unless_another_is_named_and_in_celerys_spelling(
    redis_url: str, broker_url: str, broker: str
) -> None:
    assert Settings(redis_url=redis_url, broker_url=broker_url).broker == broker


def test_a_process_counts_as_dead_after_three_missed_heartbeats_but_not_before_two_seconds() -> (
    None
):
    assert Settings(heartbeat_interval=5.0).heartbeat_expiry == 15
    assert Settings(heartbeat_interval=0.1).heartbeat_expiry == 2


def test_a_running_job_counts_as_lost_with_its_workers_heartbeat() -> None:
    assert Settings(heartbeat_interval=5.0).lease == 15


def test_a_lease_ends_well_before_the_broker_hands_the_job_out_again() -> None:
    assert Settings(heartbeat_interval=5.0, visibility_timeout=10).lease == 5


def test_the_visibility_timeout_is_read_in_seconds() -> None:
    assert Settings().visibility_timeout == 600
    environ = {"QUEUE_RUN_VISIBILITY_TIMEOUT": "3600"}
    assert Settings.from_env(environ).visibility_timeout == 3600


def test_the_application_folder_is_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Settings(app_dir="app").app_path == (tmp_path / "app").resolve()
    assert Settings(app_dir="~/app").app_path == (tmp_path / "home" / "app").resolve()
    # Whoever looks for files there says that there are none.
    (tmp_path / "circle").symlink_to("circle")
    assert Settings(app_dir="circle").app_path == tmp_path.resolve() / "circle"


def test_a_public_folder_that_exists_is_taken(tmp_path: Path) -> None:
    assert Settings.from_env({"QUEUE_RUN_PUBLIC_DIR": str(tmp_path)}).public_dir == str(tmp_path)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://ann:hush@127.0.0.1:6379/0", "redis://ann:***@127.0.0.1:6379/0"),
        ("rediss://:hush@cache.example/1", "rediss://:***@cache.example/1"),
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://ann@127.0.0.1/0", "redis://ann@127.0.0.1/0"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


HUSH = "hush-hush"


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("REDIS_URL", f"ann:{HUSH}@127.0.0.1:6379"),
        ("REDIS_URL", f":{HUSH}@127.0.0.1"),
        ("REDIS_URL", f"{HUSH}@127.0.0.1"),
        ("REDIS_URL", f"http://ann:{HUSH}@127.0.0.1"),
        ("REDIS_URL", f"redis://ann:{HUSH}/x@127.0.0.1"),
        ("REDIS_URL", f"redis://ann:{HUSH}#x@127.0.0.1"),
        ("REDIS_URL", f"redis://:1#{HUSH}@127.0.0.1"),
        ("REDIS_URL", f"redis://ann:{HUSH}@127.0.0.1:port"),
        ("REDIS_URL", f"redis://ann:{HUSH}@[::1"),
        ("REDIS_URL", f"redis://ann:[{HUSH}@127.0.0.1"),
        ("BROKER_URL", f"ann:{HUSH}@rabbit"),
        ("BROKER_URL", f"amqp://ann:{HUSH}?x@rabbit"),
        ("BROKER_URL", f"amqp://one;amqp://ann:{HUSH}@rabbit:port"),
        ("QUEUE_RUN_SESSION_SECRET", HUSH),
        ("QUEUE_RUN_API_KEYS", HUSH),
        ("PORT", f"redis://:{HUSH}@127.0.0.1"),
    ],
)
def test_no_problem_quotes_a_secret(variable: str, text: str) -> None:
    [problem] = refused(**{variable: text})
    assert problem.startswith(variable)
    assert "hush" not in problem


def test_settings_know_their_secrets() -> None:
    settings = Settings(
        redis_url="redis://:p%40ss@one/0?password=two",
        broker_url="amqp://ann:three@a;amqp://bob:four@b",
        api_keys="five-five-five-five,six-six-six-six-six:mail",
        session_secret="seven-seven-seven",
    )
    assert settings.secrets >= {"p%40ss", "p@ss", "two", "three", "four", "seven-seven-seven"}
    assert settings.secrets >= {"five-five-five-five", "six-six-six-six-six"}
    assert not any(each in repr(settings) for each in settings.secrets)
    assert Settings().secrets == frozenset()


def test_settings_do_not_change() -> None:
    with pytest.raises(AttributeError):
        Settings().port = 1  # type: ignore[misc]


def test_the_number_of_a_process_is_no_setting_and_no_mistake() -> None:
    assert Settings.from_env({"QUEUE_RUN_PROCESS": "2b"}) == Settings()


def test_a_home_folder_that_nobody_has_is_refused_by_name() -> None:
    [problem] = refused(QUEUE_RUN_APP_DIR="~nobody-of-this-name/shop")
    assert problem.startswith("QUEUE_RUN_APP_DIR='~nobody-of-this-name/shop': ")
    assert "whole path" in problem
