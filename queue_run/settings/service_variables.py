"""Variables that Kubernetes and Docker set for each service, and that are no settings.

A Kubernetes Service named `queue-run` gives every pod beside it QUEUE_RUN_SERVICE_HOST,
QUEUE_RUN_PORT=tcp://10.0.0.1:8000 and some more, `queue-run-web` QUEUE_RUN_WEB_SERVICE_HOST and so
on; a link of Docker does nearly the same. They are known by name and value together, so that a
misspelt setting is still an error.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping

URL = re.compile(r"(tcp|udp|sctp)://\S+:\d+", re.IGNORECASE)
PROTOCOL = re.compile(r"tcp|udp|sctp", re.IGNORECASE)
#: The name that a linked container has in this one: /web/redis.
LINK = re.compile(r"/[^/\s]+/[^/\s]+")

#: What follows the service in a variable's name, and what the value is then.
FORMS: tuple[tuple[re.Pattern[str], Callable[[str], object]], ...] = (
    (re.compile(r"(?P<service>\w+?)_SERVICE_HOST"), lambda text: _is_address(text)),
    (re.compile(r"(?P<service>\w+?)_SERVICE_PORT(_\w+)?"), str.isdecimal),
    (re.compile(r"(?P<service>\w+?)_PORT"), URL.fullmatch),
    (re.compile(r"(?P<service>\w+?)_PORT_\d+_(TCP|UDP|SCTP)"), URL.fullmatch),
    (
        re.compile(r"(?P<service>\w+?)_PORT_\d+_(TCP|UDP|SCTP)_ADDR"),
        lambda text: _is_address(text),
    ),
    # A link of several ports has the first and the last of them.
    (re.compile(r"(?P<service>\w+?)_PORT_\d+_(TCP|UDP|SCTP)_PORT(_START|_END)?"), str.isdecimal),
    (re.compile(r"(?P<service>\w+?)_PORT_\d+_(TCP|UDP|SCTP)(_START|_END)"), URL.fullmatch),
    (re.compile(r"(?P<service>\w+?)_PORT_\d+_(TCP|UDP|SCTP)_PROTO"), PROTOCOL.fullmatch),
    (re.compile(r"(?P<service>\w+?)_NAME"), LINK.fullmatch),
)


def without_services(environ: Mapping[str, str], *, prefix: str) -> dict[str, str]:
    """The environment without the variables with this prefix that services have set."""
    ours = {name: text for name, text in environ.items() if name.startswith(prefix)}
    services = {name: _service(name, text.strip()) for name, text in ours.items()}
    # A link also brings the other container's variables: QUEUE_RUN_ENV_PATH.
    brought = tuple(f"{service}_ENV_" for service in services.values() if service)
    return {
        name: text
        for name, text in environ.items()
        if not services.get(name) and not (name in ours and name.startswith(brought))
    }


def _service(name: str, text: str) -> str | None:
    """The service that has set a variable, as it is written there; None if no service has."""
    for form, fits in FORMS:
        match = form.fullmatch(name)
        if match and fits(text):
            return match["service"]
    return None


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
