"""Scripts in Redis: each changes what is known of jobs in one step.

Every script may be sent twice: a call whose answer was lost is repeated, so a script that finds its
own change made already answers as it did the first time.
"""

import random
import time
from collections.abc import Callable, Iterable, Sequence
from queue import SimpleQueue
from typing import Any, TypeVar

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.commands.core import Script as RegisteredScript
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.retry import Retry

from queue_run.contracts.keys import Keys
from queue_run.errors import JobStoreUnavailable
from queue_run.settings import Settings
from queue_run.storage.clock import Clock, RedisTime
from queue_run.storage.fullness import is_full
from queue_run.storage.late_pushes import PushedTooLate, WriteLimits
from queue_run.storage.patience import is_passing, longest_answer, redis_options, refusal, watched
from queue_run.storage.script_files import Script

#: Links to Redis that the threads of one process share.
CONNECTIONS = 16
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 1.0
#: Beside what passes for everybody (`is_passing`), and a full Redis: it does not answer in time.
PASSING_ERRORS = (redis.TimeoutError, OSError)

T = TypeVar("T")


class Store:
    """Redis, for what it knows of jobs; safe to use from any thread, not across a fork."""

    def __init__(self, settings: Settings, *, patience: float, clock: Clock | None = None) -> None:
        """
        Args:
            patience: seconds for which a call is tried while Redis is away.
            clock: Redis' time.
        """
        self._limits = WriteLimits(clock)
        self.keys = Keys(settings.namespace)
        self._patience = patience
        limit = self._longest_answer = longest_answer(settings.publish_timeout)
        self._pool = redis.BlockingConnectionPool.from_url(
            settings.redis_url,
            max_connections=CONNECTIONS,
            timeout=None,
            **redis_options(settings.redis_url, timeout=limit, connect_timeout=limit),
            retry=Retry(NoBackoff(), 0),
        )
        self._pool.connection_class = watched(self._pool.connection_class)
        self.client = redis.Redis(connection_pool=self._pool)
        self._registered: dict[Script, RegisteredScript] = {}
        self._links: list[Any] = []
        #: A permit for each link: this queue is several times cheaper than a semaphore.
        self._room: SimpleQueue[None] = SimpleQueue()
        for _ in range(CONNECTIONS):
            self._room.put(None)

    def call(self, script: Script, keys: Sequence[str], arguments: Sequence[object]) -> Any:
        """Run a script.

        Raises:
            JobStoreUnavailable: when Redis did not answer in time.
            ValueError: when the script takes other numbers of keys and arguments.
        """
        return self.patiently(lambda: self._run(script, keys, arguments))

    def call_in_time(self, script: Script, keys: Sequence[str], arguments: Sequence[object]) -> Any:
        """Run a script that is not to be done after this call has raised.

        Its last argument, beside those that are given, are milliseconds of Redis' clock: later than
        that it does nothing and answers None.

        Raises:
            JobStoreUnavailable: when Redis did not answer in time.
        """

        def attempt() -> Any:
            try:
                last = self._limits.last(self._longest_answer, self._ask_time)
                answer = self._run(script, keys, [*arguments, last])
            except BaseException:
                self._limits.distrust()
                raise
            if answer is None:
                self._limits.distrust()
                raise PushedTooLate
            return answer

        return self.patiently(attempt)

    def _ask_time(self) -> RedisTime:
        return self.client.time()

    def call_all(self, calls: Iterable[tuple[Script, Sequence[str], Sequence[object]]]) -> Any:
        """Run scripts in one round trip, without patience; their answers in order.

        Raises:
            redis.exceptions.RedisError: when Redis does not answer.
        """
        with self.client.pipeline(transaction=False) as pipeline:
            for script, keys, arguments in calls:
                script.check(keys, arguments)
                registered = self._registered.get(script) or self._register(script)
                registered(keys=keys, args=arguments, client=pipeline)  # type: ignore[arg-type]
            return pipeline.execute()

    def _register(self, script: Script) -> RegisteredScript:
        found = self._registered[script] = self.client.register_script(script.text)
        return found

    def _run(self, script: Script, keys: Sequence[str], arguments: Sequence[object]) -> Any:
        """One try, on a link of our own: half the cost of the client's way of taking one from its
        pool for every command, and jobs ask twice each."""
        script.check(keys, arguments)
        self._room.get()
        try:
            link = self._links.pop() if self._links else self._new_link()
            try:
                return _ask(link, script, keys, arguments)
            except BaseException:
                # Whatever was under way on it; it connects again when it is next used.
                link.disconnect()
                raise
            finally:
                self._links.append(link)
        finally:
            self._room.put(None)

    def _new_link(self) -> Any:
        return self._pool.make_connection()  # type: ignore[no-untyped-call]

    def patiently(self, ask: Callable[[], T]) -> T:
        """Ask Redis, and again while it is away.

        Raises:
            JobStoreUnavailable: when it did not answer in time, or refused.
        """
        until = time.monotonic() + self._patience
        pause = FIRST_PAUSE
        while True:
            try:
                return ask()
            except (RedisError, OSError) as error:
                if not _passes(error) or time.monotonic() + pause > until:
                    raise JobStoreUnavailable(_why(error)) from error
            time.sleep(random.uniform(pause / 2, pause))
            pause = min(pause * 2, LONGEST_PAUSE)

    def close(self) -> None:
        self.client.close()
        self._pool.disconnect()
        while self._links:
            self._links.pop().disconnect()


def _passes(error: Exception) -> bool:
    return is_passing(error) or is_full(error) or isinstance(error, PASSING_ERRORS)


def _why(error: Exception) -> str:
    said = isinstance(error, ResponseError)
    return refusal(error) if said else f"Redis did not answer: {error}"


def _ask(link: Any, script: Script, keys: Sequence[str], arguments: Sequence[object]) -> Any:
    try:
        # redis-py's way of packing takes three times as long.
        command: Any = ("EVALSHA", script.sha, len(keys), *keys, *arguments)
        link.send_packed_command([hiredis.pack_command(command)])
        return link.read_response(disable_decoding=True)
    except NoScriptError:
        # On a new link: with an error, fakeredis ends the old one.
        link.disconnect()
        link.send_command("EVAL", script.text, len(keys), *keys, *arguments)
        return link.read_response(disable_decoding=True)


def milliseconds(seconds: float) -> int:
    """A time as the scripts take it; never zero, which Redis refuses."""
    return max(1, round(seconds * 1000))
