"""The ends of jobs: what their users are told, and what is kept of them."""

import logging
import traceback

import msgspec

from queue_run.channel.memberships import also_when_full
from queue_run.contracts.envelopes import ToUsers, encode, repeatable
from queue_run.contracts.ids import id_of_user
from queue_run.contracts.messages import encode as encode_message
from queue_run.errors import ClientError, HandlerTimeout, InvalidPush, WorkerLost
from queue_run.jobs.attempt_records import Attempts, End
from queue_run.jobs.stored import DeadLetter, StoredJob
from queue_run.process import runtime
from queue_run.settings import Settings
from worker.application.routes import JobHandler
from worker.jobs.taken import name_of

log = logging.getLogger(__name__)

#: Characters of an error's text that are kept and told, and of a traceback's end that are kept.
LONGEST_ERROR, LONGEST_TRACEBACK = 1000, 20_000


class Ends:
    """Tells of the ends of jobs, and parks those that have failed for good."""

    def __init__(self, settings: Settings, attempts: Attempts) -> None:
        self._settings = settings
        self._attempts = attempts

    def park(
        self,
        handler: JobHandler,
        stored: StoredJob,
        token: str,
        failure: BaseException,
        *,
        attempt: int,
        sequence: int | None,
    ) -> None:
        """Keep a job that has failed for good, and tell its user.

        Args:
            token: of its last attempt.
            sequence: its position within its FIFO queue; None in another one.
        """
        letter = DeadLetter(
            job=stored,
            attempts=attempt,
            failed_at=runtime.current().clock.now(),
            error=_clean(f"{type(failure).__name__}: {_text(failure)}"[:LONGEST_ERROR]),
            traceback=_clean(_traceback(failure)[-LONGEST_TRACEBACK:]),
            sequence=sequence,
            fifo=sequence is not None,
        )
        self.tell(handler, stored, "failed", self._error_text(stored, failure))
        if self._attempts.park(letter, token):
            log.error(
                "%s has failed for good after %d attempts: queue-run queue dead show %s",
                *(name_of(stored), attempt, stored.id),
                extra={"action": "job_parked"},
            )

    def _error_text(self, stored: StoredJob, failure: BaseException) -> str:
        told = isinstance(failure, ClientError | HandlerTimeout | InvalidPush | WorkerLost)
        if told or self._settings.expose_errors:
            return _clean((_text(failure) or type(failure).__name__)[:LONGEST_ERROR])
        return f"internal error ({stored.id})"

    def tell(
        self, handler: JobHandler, stored: StoredJob, end: End, error: str | None = None
    ) -> None:
        """Tell the job's user of its end, before the end is written down: a worker that dies in
        between tells it again under the same id, and push servers drop the second one."""
        user = id_of_user(stored.facts.user) if handler.notify else None
        if user is None:
            return
        event = {"event": end, "job": stored.id, "queue": handler.name}
        if error is not None:
            event["error"] = error
        here = runtime.current()
        message = encode_message(event, limit=here.settings.max_message_bytes)
        told = ToUsers(users=[user], message=message)
        life = f"{stored.id} {stored.facts.revived} {end}"
        told = msgspec.structs.replace(told, id=repeatable(told, life, 0))
        most = here.settings.broadcast_entries
        # Were it refused, the job would run again and again until there is room.
        here.publisher.publish(
            here.keys.broadcast, encode(told), max_entries=most, noted=also_when_full(most)
        )


def _text(failure: BaseException) -> str:
    try:
        return str(failure)
    except Exception as error:
        return f"(its text cannot be had: {type(error).__name__})"


def _traceback(failure: BaseException) -> str:
    return "".join(traceback.format_exception(failure)) if failure.__traceback__ else ""


def _clean(text: str) -> str:
    """The text without what UTF-8 has no form for: a job with a strange error ends all the same."""
    return text.encode(errors="replace").decode()
