"""An application under test."""

import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import EllipsisType, TracebackType
from typing import Any, TypeAlias
from urllib.parse import urlencode

from queue_run import queues
from queue_run.application.requests import SentMessage
from queue_run.contracts.ids import id_of_user, user_id
from queue_run.contracts.messages import user_facts
from queue_run.jobs.stored import JobFacts, StoredJob
from queue_run.process import runtime
from queue_run.settings import Settings
from queue_run.testing.connections import Connection, Handshake, header_list
from queue_run.testing.jobs import Pushed
from queue_run.testing.modules import loaded
from queue_run.testing.stage import Stage

#: An id, a user with an "id", or None for an anonymous one.
User: TypeAlias = str | int | Mapping[str, object] | None

#: The applications that are open, the innermost last.
_open: list["Application"] = []


class Application:
    """The application in a folder, under test; it is open inside `with` or `async with`.

    While the application is open, everything in this process sends to the clients of the test, and
    pushes jobs into a list: handlers and jobs, but also a view or a function that the test calls.
    The application's modules are imported anew each time it is opened.

    Args:
        folder: the folder that holds `sockets/` and `queues/`.
        raise_errors: a client's `send` raises the error of the handler, after the error has reached
            the client.
        settings: limits, and `expose_errors`; the environment is not read.
    """

    def __init__(
        self,
        folder: str | Path = ".",
        *,
        raise_errors: bool = False,
        settings: Settings | None = None,
    ) -> None:
        self.folder = Path(folder).absolute()
        #: May be changed at any time.
        self.raise_errors = raise_errors
        self._settings = settings or Settings(app_dir=str(self.folder))
        self._stage = Stage(self._settings)
        self._exits: contextlib.ExitStack | None = None

    def __repr__(self) -> str:
        return f"<Application in {self.folder}>"

    def __enter__(self) -> "Application":
        """Import the application.

        Raises:
            ApplicationError: with every file of the application that cannot be used.
            RuntimeError: when the application is open already.
        """
        if self._exits is not None:
            raise RuntimeError(f"{self} is open already")
        self._stage = Stage(self._settings)
        with contextlib.ExitStack() as exits:
            # First, so that nothing an application does while it is imported reaches Redis.
            exits.enter_context(runtime.using(self._stage.runtime))
            self._stage.start(exits.enter_context(loaded(self.folder)))
            exits.callback(self._stage.close)
            _open.append(self)
            exits.callback(_open.remove, self)
            self._exits = exits.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        exits, self._exits = self._exits, None
        if exits is not None:
            exits.close()

    async def __aenter__(self) -> "Application":
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stage.engine().settle()
        self.__exit__(kind, error, traceback)

    @property
    def is_open(self) -> bool:
        return self._exits is not None

    def connected(
        self,
        user: User | EllipsisType = ...,
        *,
        path: str = "/",
        query: str | Mapping[str, str] = "",
        headers: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        remote_ip: str = "127.0.0.1",
    ) -> "Connecting":
        """Make a client that is connected inside `with` or `async with`.

        An application that is not open is opened for the same block.

        Args:
            user: the client's user: an id (the user then is `{"id": id}`), a user, or None for an
                anonymous user. Without this argument `on_authenticate` decides, as for a real
                client.
            path: path of the URL; it selects the file that answers.
            query: query of the URL.
            headers: headers of the handshake, for `on_authenticate`.
            cookies: cookies of the handshake, for `on_authenticate`.
            remote_ip: the client's address, for `on_authenticate`.

        Raises:
            Refuse: (by `with`) when `on_authenticate` refuses; with status 500 when it fails.
            TypeError: for a user without a usable id.
        """
        handshake = Handshake(
            path=path,
            query=query if isinstance(query, str) else urlencode(query),
            headers=header_list(headers, cookies),
            remote_ip=remote_ip,
        )
        return Connecting(self, user if user is ... else _user(user), handshake)

    @property
    def sent(self) -> list[SentMessage]:
        """The messages that were sent with `queue_run.socket`, in order.

        Messages that reached no client are among them. The messages that `Config(notify=True)`
        sends at the ends of jobs are, too; replies are not.
        """
        return self._stage.delivery.sent

    @property
    def pushed(self) -> list[Pushed]:
        """All jobs that were pushed, in order, whether or not they have been run."""
        return self._stage.jobs.all

    @property
    def errors(self) -> list[BaseException]:
        """The errors of handlers, middleware and jobs, in order."""
        return self._stage.errors

    def clear(self) -> None:
        """Forget the messages that were sent, the jobs that were pushed, and the errors."""
        self._stage.clear()

    def run_jobs(self) -> list[Pushed]:
        """Run the waiting jobs one after another, and the jobs that they push.

        Each job has one attempt. An error of a job is raised here, and the jobs behind it go on
        waiting. Jobs that were cancelled are not run.

        Returns:
            The jobs that were run, in order.

        Raises:
            RuntimeError: when jobs push jobs without an end.
        """
        return self._require_open().run(self._stage.run_jobs())

    async def run_jobs_async(self) -> list[Pushed]:
        """`run_jobs` for asynchronous tests."""
        return await self._require_open().run_jobs()

    def run_job(
        self,
        queue: str,
        payload: object,
        *,
        user: User = None,
        params: Mapping[str, str] | None = None,
        group: str | int | None = None,
        attempt: int = 1,
    ) -> Any:
        """Make one attempt of one job at once.

        Args:
            queue: the queue's name: `mail` for `queues/mail.py`.
            payload: the payload that would be pushed. Unlike a push it is not checked beforehand:
                the attempt fails, as that of a job which comes from elsewhere.
            user: the job's user, as for `connected`.
            params: the texts that would be pushed beside the payload.
            group: the group, for a FIFO queue.
            attempt: the attempt's number, from 1. When the last attempt (`1 + retries`) fails, the
                job has failed for good.

        Returns:
            The value that the handler returns. An error of the handler is raised here.

        Raises:
            UnknownQueue: when the application has no such queue.
            InvalidPush: for a payload that the handler does not take; for a FIFO queue without a
                group, and a group without a FIFO queue.
            NotEncodable: when the payload has no JSON form.
            ValueError: for an attempt that no job of the queue has.
        """
        job = _job(queue, payload, user, params, group)
        return self._require_open().run(self._stage.run_job(job, attempt))

    async def run_job_async(
        self,
        queue: str,
        payload: object,
        *,
        user: User = None,
        params: Mapping[str, str] | None = None,
        group: str | int | None = None,
        attempt: int = 1,
    ) -> Any:
        """`run_job` for asynchronous tests."""
        job = _job(queue, payload, user, params, group)
        return await self._require_open().run_job(job, attempt)

    def _require_open(self) -> Stage:
        if self._exits is None:
            raise RuntimeError(f"{self} is not open: use it in a `with` block")
        return self._stage


class _TestClient(Connection):
    """The parts that synchronous and asynchronous clients share."""

    def __init__(self, app: Application, stage: Stage, handshake: Handshake) -> None:
        ordered = stage.keeps_order(handshake.path)
        super().__init__(stage.delivery.new_id(), replace(handshake, ordered=ordered))
        #: The application that the client is connected to.
        self.app = app
        self._stage = stage

    async def _exchange(self, message: object) -> None:
        await self._stage.exchange(self, message, raise_errors=self.app.raise_errors)


class Client(_TestClient):
    """A client for synchronous tests: `with app.connected(...) as client`."""

    def send(self, message: object) -> None:
        """Send a message, and return when its handler has answered and all it sent has arrived.

        Args:
            message: text and bytes go out as they are, anything else as JSON.

        Raises:
            Disconnected: when the connection is closed.
            Exception: the handler's own, where the application has `raise_errors`.
        """
        # The loop of an application that is not open any more must not be started again.
        self.require_connected()
        self._stage.run(self._exchange(message))


class AsyncClient(_TestClient):
    """A client for asynchronous tests: `async with app.connected(...) as client`."""

    async def send(self, message: object) -> None:
        """Send a message, and return when its handler has answered and all it sent has arrived.

        Args:
            message: text and bytes go out as they are, anything else as JSON.

        Raises:
            Disconnected: when the connection is closed.
            Exception: the handler's own, where the application has `raise_errors`.
        """
        await self._exchange(message)


class Connecting:
    """A client that is about to connect: `with` gives a `Client`, `async with` an `AsyncClient`."""

    def __init__(self, app: Application, user: Any, handshake: Handshake) -> None:
        self._app = app
        #: An ellipsis lets `on_authenticate` decide.
        self._user = user
        self._handshake = handshake
        self._block = self._connected()
        self._async_block = self._connected_async()

    def __enter__(self) -> Client:
        return self._block.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._block.__exit__(kind, error, traceback)

    async def __aenter__(self) -> AsyncClient:
        return await self._async_block.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._async_block.__aexit__(kind, error, traceback)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Client]:
        with contextlib.nullcontext() if self._app.is_open else self._app:
            stage = self._app._stage
            client = Client(self._app, stage, self._handshake)
            if self._user is ...:
                stage.run(stage.authenticate(client, raise_errors=self._app.raise_errors))
            try:
                with self._joined(client):
                    stage.notice_users_now()
                    yield client
            finally:
                stage.notice_users_now()

    @contextlib.asynccontextmanager
    async def _connected_async(self) -> AsyncIterator[AsyncClient]:
        async with contextlib.nullcontext() if self._app.is_open else self._app:
            stage = self._app._stage
            client = AsyncClient(self._app, stage, self._handshake)
            if self._user is ...:
                await stage.authenticate(client, raise_errors=self._app.raise_errors)
            try:
                with self._joined(client):
                    await stage.notice_users()
                    yield client
            finally:
                await stage.notice_users()

    @contextlib.contextmanager
    def _joined(self, client: Connection) -> Iterator[None]:
        if self._user is not ...:
            client.user = self._user
        delivery = self._app._stage.delivery
        delivery.add(client)
        try:
            yield
        finally:
            delivery.remove(client)
            client.leave()


def connected(
    user: User | EllipsisType = ...,
    *,
    path: str = "/",
    query: str | Mapping[str, str] = "",
    headers: Mapping[str, str] | None = None,
    cookies: Mapping[str, str] | None = None,
    remote_ip: str = "127.0.0.1",
) -> Connecting:
    """Make a client of the application that is open, else of the one in the working directory.

    Arguments and errors are those of `Application.connected`.
    """
    app = _open[-1] if _open else Application()
    return app.connected(
        user, path=path, query=query, headers=headers, cookies=cookies, remote_ip=remote_ip
    )


def _job(
    queue: str,
    payload: object,
    user: User,
    params: Mapping[str, str] | None,
    group: str | int | None,
) -> StoredJob:
    facts = JobFacts(
        queued_at=time.time(),
        user=_user(user),
        params=dict(params or {}),
        group=None if group is None else queues.get(queue).group(group).group_id,
    )
    return StoredJob(
        id=str(uuid.uuid4()), queue=queue, payload=queues.as_argument(payload), facts=facts
    )


def _user(user: User) -> Any:
    """The user as handlers get it."""
    if user is None:
        return None
    if isinstance(user, str | int):
        return {"id": user_id(user)}
    facts = user_facts(user)
    return {**facts, "id": id_of_user(facts)}
