"""`POST /_/queues/<name>`: pushing jobs by HTTP."""

import logging
import time
import uuid
from http import HTTPStatus
from http.client import responses
from typing import Any, assert_never, cast

import msgspec
from tornado import web
from tornado.http1connection import HTTP1Connection

from push_server.http.bodies import UnreadableBody, payload_of
from push_server.http.pushes import Busy
from push_server.http.services import SHUTTING_DOWN, Refused, Services, tell_refusal
from queue_run.application.requests import is_utf8_query, parse_query
from queue_run.contracts.envelopes import Admitted, Refusal, TokenWanted
from queue_run.contracts.ids import id_of_user, text_id
from queue_run.contracts.manifest import QueueFacts
from queue_run.errors import InfrastructureError, InvalidName, InvalidPush
from queue_run.jobs.pushing import check_group
from queue_run.jobs.stored import JobFacts, StoredJob
from queue_run.logs import excerpt
from queue_run.storage.fullness import is_full

log = logging.getLogger(__name__)

#: Seconds after which a client whose push was not taken may try again.
RETRY_AFTER = 1
#: The statuses that tell a client to try again.
_AGAIN = frozenset({HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS})
#: Bytes of a body that are read although nobody wants them: a client that still sends does not see
#: an answer, when the connection is closed on it.
DISCARDED = 8 * 1024 * 1024
#: Characters of an error's text: it may quote what the client has sent.
MAX_ERROR = 500
UNKNOWN_CLIENT = (
    "say who you are: an API key or a user's token as Authorization: Bearer …, or a user's cookie"
)


class JsonErrors(web.RequestHandler):
    """Errors are answered with `{"error": text}`, and logged without the query."""

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        text = error.text if isinstance(error, Refused) else responses.get(status_code, "refused")
        if status_code == HTTPStatus.UNAUTHORIZED:
            self.set_header("WWW-Authenticate", "Bearer")
        elif status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            self.set_header("Allow", "POST")
        elif status_code in _AGAIN:
            self.set_header("Retry-After", str(RETRY_AFTER))
        self.finish({"error": excerpt(text, MAX_ERROR)})

    def decode_argument(self, value: bytes, name: str | None = None) -> str:
        """A part of the path as text."""
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise Refused(400, "the path is not in UTF-8") from None

    def log_exception(self, typ: Any, value: BaseException | None, tb: Any) -> None:
        # Tornado's own form shows the query, and with it what is nobody's business.
        if isinstance(value, web.HTTPError):
            tell_refusal(self, value)
        else:
            exc_info = (typ, value, tb) if value else None
            log.error("%s failed", self.request.path, exc_info=exc_info)


class ReservedHandler(JsonErrors):
    """All other paths below `/_/`: always 404, never a file or a WebSocket of the application."""

    def prepare(self) -> None:
        raise Refused(404, "there is nothing here")


@web.stream_request_body
class PushHandler(JsonErrors):
    """One push. Its client is identified before its body is read."""

    def initialize(self, services: Services) -> None:
        self._services = services
        self._under_way = False
        #: What `on_authenticate` returned; None for a job of nobody.
        self._user: Any = None
        self._facts = QueueFacts()
        self._body = bytearray()
        #: Why the push is not made; said when the body has been read.
        self._refusal: Refused | None = None

    # The request.

    async def prepare(self) -> None:
        self._services.pushes.begin()
        self._under_way = True
        connection = cast("HTTP1Connection", self.request.connection)
        connection.set_max_body_size(self._services.settings.max_request_bytes + DISCARDED)
        try:
            await self._admit(self.path_args[0])
        except Refused as refusal:
            if not self._body_comes():
                raise
            self._refusal = refusal

    def data_received(self, chunk: bytes) -> None:
        if self._refusal is not None:
            return
        self._body += chunk
        if len(self._body) > self._services.settings.max_request_bytes:
            self._refusal = self._too_large()
            self._body.clear()

    async def post(self, name: str) -> None:
        if self._refusal is not None:
            raise self._refusal
        job, dedupe = self._job(name)
        job_id = await self._push(job, dedupe)
        log.debug("%s[%s] pushed for user %s", name, job_id, id_of_user(self._user))
        self.set_status(HTTPStatus.ACCEPTED)
        self.set_header("X-Job-Id", job_id)
        self.finish({"job": job_id})

    # Refused like a push, once the body has been read.
    get = head = put = patch = delete = options = post

    def on_finish(self) -> None:
        # Its traceback knows this handler: only the garbage collector would find the two.
        self._refusal = None
        if self._under_way:
            self._under_way = False
            self._services.pushes.end()

    def on_connection_close(self) -> None:
        super().on_connection_close()
        # Without the whole body there is nothing to finish.
        self.on_finish()

    # Who may push.

    async def _admit(self, name: str) -> None:
        """
        Raises:
            Refused: for a push that is not made, whatever its body holds.
        """
        services = self._services
        if self.request.method != "POST":
            raise Refused(405, "jobs are pushed here with POST")
        if services.closing:
            raise Refused(503, SHUTTING_DOWN)
        services.check_origin(self.request)
        if self._content_length() > services.settings.max_request_bytes:
            raise self._too_large()
        if not services.application.known:
            # Nobody has said yet who may push, and nobody offers a queue.
            raise Refused(404, _no_queue(name))
        self._facts = await self._facts_for_client(name)

    async def _facts_for_client(self, name: str) -> QueueFacts:
        """Find the facts of a queue to which the client may push.

        Raises:
            Refused: when the client may not. A client does not learn whether a queue exists that
                is not for it.
        """
        key = self._services.api_keys.find(self.request.headers.get("Authorization", ""))
        if key is None:
            await self._identify()
        elif not key.may_push_to(name):
            raise Refused(403, f"this API key may not push to a queue {name!r}")
        facts = self._services.application.queue(name)
        if key is None and (facts is None or not facts.takes_users):
            raise Refused(403, _not_for_users(name))
        if key is None:
            self._check_pace()
        if facts is None:
            raise Refused(404, _no_queue(name))
        return facts

    def _check_pace(self) -> None:
        """
        Raises:
            Refused: for a user who pushes too fast.
        """
        user = id_of_user(self._user)
        if not self._services.user_pushes.admits(user, time.monotonic()):
            raise Refused(429, "too many pushes of this user: slow down")

    async def _identify(self) -> None:
        """Find out which user's the job is.

        Raises:
            Refused: when the client is no known user, or no worker can be asked.
        """
        services = self._services
        if not services.application.authenticates:
            raise Refused(401, UNKNOWN_CLIENT)
        if not services.application.available:
            raise await services.nobody("no worker is there")
        services.check_pace(self.request)
        try:
            with services.pushes.questions.taken():
                answer = await services.authenticate(self.request, services.connections.new_id())
        except Busy:
            raise Refused(503, _BUSY) from None
        match answer:
            case Refusal():
                raise Refused(answer.status, answer.reason or "not authorized")
            case TokenWanted():
                # There is no first message that could have the token.
                raise Refused(401, UNKNOWN_CLIENT)
            case Admitted():
                self._user = msgspec.json.decode(answer.user or b"null")
            case _:
                assert_never(answer)
        if self._user is None:
            raise Refused(401, UNKNOWN_CLIENT)

    # The body.

    def _content_length(self) -> int:
        """The length of the body by its header; 0 without one, or for one that Tornado refuses."""
        said = self.request.headers.get("Content-Length", "")
        # Python refuses to read numbers of thousands of digits.
        return int(said[:18]) if said.isdecimal() and said.isascii() else 0

    def _body_comes(self) -> bool:
        """Tell whether the client sends a body now that is worth reading to its end."""
        headers = self.request.headers
        if headers.get("Expect", "").lower() == "100-continue":
            return False
        if "Transfer-Encoding" in headers:
            return True
        return 0 < self._content_length() <= DISCARDED

    def _too_large(self) -> Refused:
        limit = self._services.settings.max_request_bytes
        return Refused(413, f"the body has more than {limit:,} bytes")

    # The job.

    def _job(self, name: str) -> tuple[StoredJob, str | None]:
        """The job that the request describes, and its dedupe id.

        Raises:
            Refused: when the request describes no job.
        """
        headers = self.request.headers
        params = parse_query(self.request.query)
        group, dedupe = params.pop("group", None), params.pop("dedupe", None)
        self._check_names(group, dedupe)
        try:
            payload = payload_of(
                headers.get("Content-Type", ""),
                bytes(self._body),
                content_encoding=headers.get("Content-Encoding", ""),
            )
        except UnreadableBody as error:
            raise Refused(error.status, error.text) from None
        job = StoredJob(
            id=str(uuid.uuid4()),
            queue=name,
            payload=payload,
            facts=JobFacts(
                queued_at=self._services.clock.now(),
                user=self._user,
                params=params,
                group=group,
            ),
        )
        try:
            check_group(job, self._facts, dedupe)
        except InvalidPush as error:
            raise Refused(400, str(error)) from None
        return job, dedupe

    def _check_names(self, group: str | None, dedupe: str | None) -> None:
        """
        Raises:
            Refused: for names that cannot be used, or that other names would be taken for.
        """
        if group == "" or dedupe == "":
            raise Refused(400, "group and dedupe are not empty where they are given")
        if "\ufffd" in f"{group}{dedupe}" and not is_utf8_query(self.request.query):
            raise Refused(400, "group and dedupe are in UTF-8")
        try:
            if group is not None:
                text_id("group id", group)
        except InvalidName as error:
            raise Refused(400, str(error)) from None

    async def _push(self, job: StoredJob, dedupe: str | None) -> str:
        """
        Raises:
            Refused: when the job was not taken.
        """
        try:
            pushed = await self._services.pushes.push(job, self._facts, dedupe)
        except Busy:
            raise Refused(503, _BUSY) from None
        except InfrastructureError as error:
            if is_full(error):
                self._services.pushes.fullness.refused()
                raise Refused(503, "the job was not taken: Redis is full") from None
            # Its text has addresses that are no client's business.
            self._services.refusals.tell(
                f"pushes to {job.queue}",
                *("%s[%s] was not pushed: %s", job.queue, job.id, error),
                level=logging.WARNING,
            )
            raise Refused(503, "the job was not taken in time") from None
        self._services.pushes.fullness.taken()
        return pushed


_BUSY = "too many pushes at once"


def _no_queue(name: str) -> str:
    return f"no worker offers a queue {name!r}"


def _not_for_users(name: str) -> str:
    return (
        f"users may not push to a queue {name!r}: no worker offers it, or its file does not say "
        'Config(http="user")'
    )
