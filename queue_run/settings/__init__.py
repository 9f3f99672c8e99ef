"""The settings of every process, read once from the environment at an entry point."""

import contextlib
import difflib
import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

import msgspec

from queue_run.contracts.keys import RESERVED
from queue_run.errors import SettingsError
from queue_run.settings import api_keys, origins
from queue_run.settings.masking import MASK, secrets_in
from queue_run.settings.masking import without_password as without_password
from queue_run.settings.service_variables import without_services

#: Variables that carry no prefix, because every hosting platform already knows them.
CUSTOMARY_NAMES = {"redis_url": "REDIS_URL", "broker_url": "BROKER_URL", "port": "PORT"}
PREFIX = "QUEUE_RUN_"
#: The number that `queue-run start` gives each process, for node names; no setting.
PROCESS_VARIABLE = "QUEUE_RUN_PROCESS"
#: Read by the test suite, never by the framework.
TEST_PREFIX = "QUEUE_RUN_TEST_"

#: Characters of a namespace, at most: RabbitMQ takes names of 255 bytes.
LONGEST_NAMESPACE = 100
#: Exchanges of every Celery that is not told otherwise.
CELERYS = {"celeryev"}

REDIS_SCHEMES = ("redis://", "rediss://", "unix://")

#: Characters of a secret, at least.
MIN_SECRET_LENGTH = 16
#: Settings whose text nobody is to see in a log.
SECRETS = frozenset({"api_keys", "session_secret"})

TRUTH_VALUES = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}

Seconds = Annotated[float, msgspec.Meta(gt=0)]
PerSecond = Annotated[float, msgspec.Meta(gt=0)]
Bytes = Annotated[int, msgspec.Meta(ge=1024)]
Count = Annotated[int, msgspec.Meta(ge=1)]
#: 0 is no limit.
Limit = Annotated[int, msgspec.Meta(ge=0)]
RateLimit = Annotated[float, msgspec.Meta(ge=0)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a process. Times are in seconds, sizes in bytes."""

    #: Redis or Valkey: carries the channel, and the broker unless `broker_url` names another.
    redis_url: str = "redis://127.0.0.1:6379/0"
    #: Celery's broker; empty means `redis_url`.
    broker_url: str = ""
    #: Prefix of every key, stream and Celery queue: applications that share a Redis differ in it.
    namespace: str = "queue-run"
    #: The folder that holds `sockets/` and `queues/`.
    app_dir: str = "."
    #: A folder of static files that the push server serves; empty serves none.
    public_dir: str = ""

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8000
    #: Origins whose pages may connect, comma separated, beside the server's own; `*` for all.
    allowed_origins: str = ""
    #: Names and addresses by which the push server may be called (the header Host), comma
    #: separated; empty for any. `queue-run dev` has a list of its own, to which these are added.
    allowed_hosts: str = ""
    #: Addresses and networks of proxies whose X-Forwarded-For is believed, comma separated.
    trusted_proxies: str = ""
    #: Several push servers of one host share the port; the kernel spreads connections over them.
    reuse_port: bool = False
    log_level: str = "INFO"
    #: Send the text of every exception to clients, not only that of `ClientError`.
    expose_errors: bool = False

    #: The largest message that `send` accepts.
    max_message_bytes: Bytes = 1024 * 1024
    #: The largest inbound WebSocket message; beyond it the connection is closed with 1009.
    max_request_bytes: Bytes = 64 * 1024
    #: Unsent bytes of one connection; a client that falls further behind is dropped.
    max_outbox_bytes: Bytes = 1024 * 1024
    #: Messages per second that one connection may send for long; beyond it, it is read slower.
    max_message_rate: PerSecond = 100.0
    #: Requests of one connection that wait for their turn; beyond it its socket is not read.
    max_lane_requests: Count = 32
    #: The same in bytes.
    max_lane_bytes: Bytes = 256 * 1024
    #: Connections of one user on one push server.
    max_user_connections: Limit = 10_000
    #: Requests of one user on one push server that have no outcome yet.
    max_user_requests: Limit = 10_000
    #: Requests of one session that Redis remembers.
    max_session_requests: Limit = 20_000
    #: Connections from one address on one push server. Behind a proxy that is not among the trusted
    #: ones, all clients have one address: so there is no limit unless somebody sets it.
    max_address_connections: Limit = 0
    #: Handshakes per second from one address, for long.
    max_address_handshakes: RateLimit = 0.0
    #: Rooms that one connection may be in.
    max_rooms: Count = 1_000
    #: Bytes of a room's name.
    max_room_bytes: Count = 512

    #: Beyond a handler's own timeout, how long the push server waits for the outcome.
    deadline_grace: Seconds = 5.0
    #: How long `on_authenticate` may take, queueing included.
    authenticate_timeout: Seconds = 10.0
    #: How long `send` and `push` keep trying while Redis or the broker is away.
    publish_timeout: Seconds = 5.0
    #: From SIGTERM to exit, at most.
    shutdown_grace: Seconds = 25.0
    #: Interval of the pings that a client gets.
    ping_interval: Seconds = 25.0
    #: A client that has not been heard so long after a ping is dropped.
    ping_timeout: Seconds = 10.0
    #: How long a client's session outlives its socket: replies and requests are kept for it.
    session_time: Seconds = 60.0
    #: With which session ids are sealed, the same for all push servers; empty: Redis keeps one.
    session_secret: str = ""
    #: How far back a client can resume: age of the oldest message that a push server keeps.
    window_time: Seconds = 300.0
    #: The same in bytes of messages.
    window_bytes: Bytes = 32 * 1024 * 1024
    #: On a shutdown, clients are asked to reconnect at moments spread over so long.
    reconnect_spread: Seconds = 5.0
    #: A user without connections counts as gone so long after the last one closed.
    offline_delay: Seconds = 5.0
    #: Interval of the heartbeats that push servers and workers leave in Redis.
    heartbeat_interval: Seconds = 5.0

    #: Redis as the broker hands a job out again when it was not acknowledged so long after it was
    #: taken: longer than any job may take.
    visibility_timeout: Seconds = 600.0
    #: Keys that may push jobs by HTTP, comma separated; `key:mail+report` to these queues alone.
    api_keys: str = ""

    #: Requests that one worker process runs at once.
    max_in_flight: Count = 256
    #: Threads of a worker process for handlers that are plain functions.
    handler_threads: Count = 16
    #: Entries that the broadcast stream holds, about.
    broadcast_entries: Count = 50_000
    #: Bytes that each stream of messages may take in Redis, about.
    broadcast_bytes: Bytes = 128 * 1024 * 1024

    def __repr__(self) -> str:
        shown = {name: getattr(self, name) for name in self.__struct_fields__}
        for name, value in shown.items():
            if name in SECRETS and value:
                shown[name] = MASK
            elif name.endswith("_url"):
                shown[name] = without_password(value)
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    @property
    def secrets(self) -> frozenset[str]:
        """The texts in the settings that must not stand in a log."""
        found = secrets_in(self.redis_url) | secrets_in(self.broker_url) | {self.session_secret}
        with contextlib.suppress(api_keys.InvalidApiKeys):
            found |= {each.key for each in api_keys.parse(self.api_keys)}
        return frozenset(found - {""})

    @property
    def broker(self) -> str:
        """The broker's URL in the form that Celery takes."""
        url = self.broker_url or self.redis_url
        return _with_userinfo(re.sub(r"^unix://", "redis+socket://", url))

    @property
    def stream_bytes(self) -> int:
        """Bytes that a stream may take in Redis: enough to fill the window of a push server that
        starts."""
        return max(self.broadcast_bytes, self.window_bytes)

    @property
    def heartbeat_expiry(self) -> int:
        """Seconds after the last heartbeat at which a process counts as dead."""
        return max(2, round(self.heartbeat_interval * 3))

    @property
    def lease(self) -> float:
        """Seconds after its last renewal at which a running job counts as lost."""
        return min(float(self.heartbeat_expiry), self.visibility_timeout / 2)

    @property
    def app_path(self) -> Path:
        # Not `Path.resolve`, which raises RuntimeError for links that go round in a circle.
        return Path(os.path.realpath(Path(self.app_dir).expanduser()))

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "Settings":
        """Read the settings; the only place that looks at the environment.

        An empty variable counts as not set, and so does what Kubernetes or Docker set for a service
        whose name begins like our variables.

        Raises:
            SettingsError: with every problem, each naming its variable.
        """
        problems: list[str] = []
        values: dict[str, Any] = {}
        environ = without_services(environ, prefix=PREFIX)
        for field in msgspec.structs.fields(cls):
            variable = variable_name(field.name)
            text = environ.get(variable, "").strip()
            if not text:
                continue
            if not _is_utf8(text):
                # Without the text: of a secret, nothing could be hidden in it.
                problems.append(f"{variable}: it is not in UTF-8")
                continue
            try:
                values[field.name] = msgspec.convert(_as_typed(text, field.type), field.type)
            except msgspec.ValidationError as error:
                shown = MASK if field.name in SECRETS else without_password(text)
                problems.append(f"{variable}={shown!r}: {str(error)[:1].lower()}{str(error)[1:]}")
        problems += _unknown_variables(cls, environ)
        settings = cls(**values)
        problems += settings.problems()
        if problems:
            raise SettingsError(problems)
        return settings

    def problems(self) -> list[str]:
        """Check what types cannot: one sentence for each value that cannot work."""
        found = []
        if not self.redis_url.startswith(REDIS_SCHEMES):
            found.append(
                f"REDIS_URL={_shown(self.redis_url)!r}: begin it with "
                f"{', '.join(REDIS_SCHEMES)} (for example redis://127.0.0.1:6379/0)"
            )
        if self.broker_url and "://" not in self.broker_url:
            found.append(
                f"BROKER_URL={_shown(self.broker_url)!r}: set a URL, for example "
                "amqp://127.0.0.1 or redis://127.0.0.1:6379/1"
            )
        found += _url_problems("REDIS_URL", self.redis_url)
        found += _url_problems("BROKER_URL", self.broker_url)
        found += _namespace_problems(self.namespace)
        if self.log_level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            found.append(
                f"QUEUE_RUN_LOG_LEVEL={self.log_level!r}: use DEBUG, INFO, WARNING or ERROR"
            )
        try:
            Path(self.app_dir).expanduser()
        except RuntimeError:
            found.append(
                f"QUEUE_RUN_APP_DIR={self.app_dir!r}: what ~ stands for is not known, since HOME "
                "is not set or there is no such user: write the whole path"
            )
        if self.public_dir and not Path(self.public_dir).is_dir():
            found.append(f"QUEUE_RUN_PUBLIC_DIR={self.public_dir!r}: there is no such folder")
        for text in words(self.trusted_proxies):
            try:
                ipaddress.ip_network(text, strict=False)
            except ValueError:
                found.append(
                    f"QUEUE_RUN_TRUSTED_PROXIES: {text!r} is no address or network like 10.0.0.0/8"
                )
        found += [
            f"QUEUE_RUN_ALLOWED_HOSTS: {without_password(text)!r} is no host like example.com, "
            ".example.com, 10.0.0.0/8 or [::1]: leave out scheme, port and path"
            for text in words(self.allowed_hosts)
            if text != "*" and not _is_host(text)
        ]
        for text in words(self.allowed_origins):
            try:
                if text != "*":
                    origins.parse(text)
            except origins.InvalidOrigin as error:
                shown = without_password(text)
                found.append(
                    f"QUEUE_RUN_ALLOWED_ORIGINS: {shown!r} is no origin like https://example.com: "
                    f"{error}"
                )
        if self.session_secret and len(self.session_secret) < MIN_SECRET_LENGTH:
            # Without the text: it is a secret all the same.
            found.append(
                f"QUEUE_RUN_SESSION_SECRET is shorter than {MIN_SECRET_LENGTH} characters: "
                "python -c 'import secrets; print(secrets.token_urlsafe(32))' makes a good one"
            )
        try:
            api_keys.parse(self.api_keys)
        except api_keys.InvalidApiKeys as error:
            found += [f"QUEUE_RUN_API_KEYS: {problem}" for problem in error.problems]
        return found


def _namespace_problems(namespace: str) -> list[str]:
    start = f"QUEUE_RUN_NAMESPACE={namespace!r}:"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", namespace):
        return [f"{start} use letters, digits, '.', '_' and '-'"]
    if len(namespace) > LONGEST_NAMESPACE:
        return [f"{start} use at most {LONGEST_NAMESPACE} characters"]
    _, dot, last = namespace.rpartition(".")
    if (dot and last in {*RESERVED, "pidbox"}) or namespace.startswith("amq.") or last in CELERYS:
        return [f"{start} the brokers or Celery use such a name themselves; choose another one"]
    return []


#: What looks like a host, and like no password that anybody would take.
_BARE_HOST = re.compile(r"[a-z][a-z.-]{0,62}|[A-Za-z0-9.-]+:\d{1,5}(/\d*)?")


def _shown(url: str) -> str:
    """Mask a text that should be a URL, before it is shown: by mistake it may be a password."""
    if "://" in url or "@" in url or _BARE_HOST.fullmatch(url):
        return without_password(url)
    return MASK


def words(text: str) -> list[str]:
    """The parts of a comma separated list."""
    return [part.strip() for part in text.split(",") if part.strip()]


def variable_name(field: str) -> str:
    """The environment variable that sets a field."""
    return CUSTOMARY_NAMES.get(field, PREFIX + field.upper())


def _is_host(text: str) -> bool:
    with contextlib.suppress(ValueError):
        ipaddress.ip_network(text.strip("[]"), strict=False)
        return True
    return re.fullmatch(r"\.?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?", text) is not None


def _with_userinfo(url: str) -> str:
    """The URL with user and password where kombu looks for them; redis-py takes parameters too."""
    parts = urlsplit(url) if url.startswith("redis") and "?" in url else None
    query = parse_qsl(parts.query, keep_blank_values=True) if parts is not None else []
    given = {name: value for name, value in query if name in ("username", "password")}
    if parts is None or not given:
        return url
    user = given.get("username", unquote(parts.username or ""))
    password = given.get("password", unquote(parts.password or ""))
    host = parts.netloc.rpartition("@")[2]
    netloc = f"{quote(user, safe='')}:{quote(password, safe='')}@{host}"
    others = urlencode([each for each in query if each[0] not in given])
    return urlunsplit(parts._replace(netloc=netloc, query=others))


def _url_problems(variable: str, urls: str) -> list[str]:
    """Find URLs that no library can parse, before an error of a library quotes them."""
    found = []
    for url in urls.split(";"):
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError:
            parts = None
        if parts is None or ("@" in parts.fragment and not parts.hostname):
            found.append(
                f"{variable}={without_password(url)!r}: the host or the port is malformed; in a "
                "password write / as %2F, ? as %3F, # as %23, [ as %5B and % as %25"
            )
    return found


def _is_utf8(text: str) -> bool:
    """True if all bytes of a variable are UTF-8: Python gives other bytes as half characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _as_typed(text: str, wanted: Any) -> Any:
    """The text as the number or truth value that it spells, else unchanged."""
    if wanted is str:
        return text
    if wanted is bool:
        return TRUTH_VALUES.get(text.lower(), text)
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _unknown_variables(cls: type[Settings], environ: Mapping[str, str]) -> list[str]:
    known = {variable_name(field.name) for field in msgspec.structs.fields(cls)}
    unknown = sorted(
        name
        for name in environ.keys() - known - {PROCESS_VARIABLE}
        if name.startswith(PREFIX) and not name.startswith(TEST_PREFIX)
    )
    found = []
    for name in unknown:
        # Without the prefix, which would make all names alike.
        bare = name.removeprefix(PREFIX)
        near = difflib.get_close_matches(bare, {each.removeprefix(PREFIX) for each in known}, n=1)
        meant = [each for each in known if each.removeprefix(PREFIX) in near]
        hint = f"did you mean {meant[0]}?" if meant else "there is no such setting"
        found.append(f"{name}: {hint}")
    return found
