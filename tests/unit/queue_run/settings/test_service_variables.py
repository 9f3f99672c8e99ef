"""What Kubernetes and Docker set for services is passed over; what only looks like it is not."""

import msgspec
import pytest

from queue_run.errors import SettingsError
from queue_run.settings import PREFIX, Settings, variable_name
from queue_run.settings.service_variables import FORMS, without_services


def of_service(name: str, address: str = "10.0.0.1", port: int = 8000) -> dict[str, str]:
    """What Kubernetes sets."""
    host = f"[{address}]" if ":" in address else address
    return {
        f"{name}_SERVICE_HOST": address,
        f"{name}_SERVICE_PORT": str(port),
        f"{name}_SERVICE_PORT_HTTP": str(port),
        f"{name}_SERVICE_PORT_HTTP_ALT": str(port),
        f"{name}_PORT": f"tcp://{host}:{port}",
        f"{name}_PORT_{port}_TCP": f"tcp://{host}:{port}",
        f"{name}_PORT_{port}_TCP_PROTO": "tcp",
        f"{name}_PORT_{port}_TCP_PORT": str(port),
        f"{name}_PORT_{port}_TCP_ADDR": address,
        f"{name}_PORT_53_UDP": f"udp://{host}:53",
        f"{name}_PORT_53_UDP_PROTO": "udp",
    }


SERVICES = {
    "Kubernetes": of_service("QUEUE_RUN"),
    "another name": of_service("QUEUE_RUN_WEB"),
    "IPv6": of_service("QUEUE_RUN_REDIS", "fd00::1", 6379),
    # Its QUEUE_RUN_REUSE_PORT is named like a setting.
    "like a setting": of_service("QUEUE_RUN_REUSE"),
    "a link of Docker": {
        "QUEUE_RUN_NAME": "/web/queue-run",
        "QUEUE_RUN_PORT": "tcp://172.17.0.5:8000",
        "QUEUE_RUN_PORT_8000_TCP": "tcp://172.17.0.5:8000",
        "QUEUE_RUN_PORT_8000_TCP_ADDR": "172.17.0.5",
        "QUEUE_RUN_PORT_8000_TCP_PORT_START": "8000",
        "QUEUE_RUN_PORT_8000_TCP_PORT_END": "8001",
        "QUEUE_RUN_PORT_8000_TCP_START": "tcp://172.17.0.5:8000",
        "QUEUE_RUN_PORT_8000_TCP_END": "tcp://172.17.0.5:8001",
        "QUEUE_RUN_ENV_PYTHON_VERSION": "3.12",
    },
}


@pytest.mark.parametrize("variables", SERVICES.values(), ids=SERVICES)
def test_what_a_service_sets_is_passed_over(variables: dict[str, str]) -> None:
    own = {"QUEUE_RUN_HOST": "0.0.0.0", "QUEUE_RUN_NAMESPACE": "shop", "PORT": "81"}
    assert Settings.from_env({**variables, **own}) == Settings(
        host="0.0.0.0", namespace="shop", port=81
    )


@pytest.mark.parametrize(("name", "text"), [*of_service("QUEUE_RUN_WEB").items()])
def test_each_of_them_is_known_by_itself(name: str, text: str) -> None:
    assert Settings.from_env({name: text}) == Settings()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("QUEUE_RUN_PORT", "8001"),
        ("QUEUE_RUN_PORT", "http://10.0.0.1:8000"),
        ("QUEUE_RUN_SERVICE_HOST", "0.0.0.0.0"),
        ("QUEUE_RUN_SERVICE_PORT", "many"),
        ("QUEUE_RUN_SERVICE_NAME", "web"),
        ("QUEUE_RUN_PORT_8000_TCP_PROTO", "yes"),
        ("QUEUE_RUN_NAME", "shop"),
        ("QUEUE_RUN_ENV_PATH", "/bin"),
        ("QUEUE_RUN_HOTS", "10.0.0.1"),
    ],
)
def test_a_misspelt_setting_is_still_an_error(name: str, text: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.from_env({name: text, "QUEUE_RUN_REDIS_PORT": "tcp://10.0.0.1:6379"})


def test_a_setting_that_a_service_s_variable_is_named_like_can_still_be_set() -> None:
    assert Settings.from_env({"QUEUE_RUN_REUSE_PORT": "true"}).reuse_port
    with pytest.raises(SettingsError, match="QUEUE_RUN_REUSE_PORT='maybe'"):
        Settings.from_env({"QUEUE_RUN_REUSE_PORT": "maybe"})


def test_no_other_setting_is_named_like_a_service_s_variable() -> None:
    names = {variable_name(field.name) for field in msgspec.structs.fields(Settings)}
    like = {name for name in names for form, _ in FORMS if form.fullmatch(name)}
    assert like == {"QUEUE_RUN_REUSE_PORT"}


def test_variables_of_other_services_stay() -> None:
    others = of_service("REDIS")
    assert without_services(others, prefix=PREFIX) == others
    assert Settings.from_env(others) == Settings()
