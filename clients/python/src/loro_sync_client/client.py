"""The synchronous client."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

import httpx

from .calls import Calls, Known, path_of
from .connection import Connection
from .exchange import Exchange, Request, T
from .following import EndOfStream, Following, NoStreams
from .options import SubmitOptions
from .retry import TRANSIENT, RetryPolicy
from .task import SubmittedTask, Task, TaskPage, TaskRef, TaskStatus
from .uploads import Content, FileBody, Upload, opened

if TYPE_CHECKING:
    from typing_extensions import Unpack


class SyncServerClient:
    """Submits tasks to a Loro Sync Server and returns their results.

    `base_url` and `token` default to the environment variables SYNC_SERVER_URL and
    SYNC_SERVER_TOKEN, and without those to http://localhost:8787 and no token. `timeout` is the
    time limit of each attempt, in seconds: separately for connecting, sending, and waiting for the
    answer.

    The client keeps connections open: close it, or use it in a `with` statement. Threads may share
    it. Every method raises a subclass of `SyncServerError` if the server refuses the request, and
    `ServerUnavailable` if the server is unavailable and the retries are used up.
    """

    def __init__(
        self,
        base_url: str | None = None,
        token: str | None = None,
        *,
        timeout: float = 30.0,
        retry: RetryPolicy | None = None,
    ) -> None:
        self._connection = Connection.of(base_url, token)
        self._calls = Calls(retry or RetryPolicy())
        self._timeout = timeout
        self._http = httpx.Client(
            base_url=self._connection.base_url, headers=self._connection.headers()
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._connection.base_url!r})"

    def __enter__(self) -> SyncServerClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def submit_task(
        self,
        project_id: str,
        task_type: str,
        params: Mapping[str, Any],
        **options: Unpack[SubmitOptions],
    ) -> SubmittedTask:
        """Submits a task. The server has stored it when this returns, and carries it out later.

        An image in `params`, at any depth, may be a path (`pathlib.Path`), bytes or an image of
        Pillow; it is uploaded first. With an `idempotency_key` it is sent in the request itself,
        so that the repetition of a submission is the same request. `SubmitOptions` says what the
        options are. `submit` is a shorter name of this.

        Raises `InvalidTask`, with the fields, if the type, the params or an option are not
        accepted, and `Conflict` if the idempotency key was used for another task.
        """
        return self._run(self._calls.submit(project_id, task_type, params, options))

    submit = submit_task

    def upload(self, project_id: str, content: Content) -> Upload:
        """Stores a picture or a film in a project, and returns its path, for the params of tasks.

        A file is sent as it is read, whatever its size. Give its path, or open it as binary; then
        its rest is sent, and it is not closed. The server decides how large an upload may be:
        8 MiB, or with a bucket what its operator has set.

        Raises `SyncServerError` if the server does not take it: 413 too large, 415 neither picture
        nor film; and `NotFound` if there is no such project.
        """
        with opened(content) as body:
            return self._run(self._calls.store(project_id, body))

    def get_task_status(self, task_id: TaskRef) -> Task:
        """Returns the task's present state. Raises `NotFound` if there is no such task."""
        return self._run(self._calls.get(task_id))

    def wait_for_task(
        self,
        task_id: TaskRef,
        timeout: float | None = 600.0,
        *,
        raise_for_failure: bool = False,
    ) -> Task:
        """Waits until the task is completed, failed or cancelled, and returns it.

        The task is given by its id, or by what `submit_task` has returned, as in the other calls.
        With `raise_for_failure`, a failed task raises `TaskFailed` and a cancelled one
        `TaskCancelled`. After `timeout` seconds (None: never), `WaitTimeout`, a TimeoutError, is
        raised, and the task continues. If the server does not answer at all, this can take longer,
        by up to the client's own timeout.
        """
        return self._run(self._calls.wait(task_id, timeout, raise_for_failure))

    def watch(self, task_id: TaskRef) -> Iterator[Task]:
        """Yields the task's present state, and each newer one until it is finished.

        The server sends changes as a stream of events, which is resumed if it breaks off. A
        server without streams is polled. States between two others may be left out.
        """
        following = Following(f"{path_of(task_id)}/events", self._calls.policy)
        try:
            for task in self._follow(following):
                yield task
                if task.is_finished:
                    return
        except EndOfStream:
            return
        except NoStreams:
            known: Known | None = None
            while known is None or not known.task.is_finished:
                known = self._run(self._calls.change(task_id, known))
                yield known.task

    def _follow(self, following: Following) -> Iterator[Task]:
        while True:
            request, response, failure = following.request(), None, None
            try:
                with self._http.stream(
                    request.method,
                    request.path,
                    headers=request.headers,
                    timeout=httpx.Timeout(self._timeout, read=request.held),
                ) as response:
                    if response.status_code != httpx.codes.OK:
                        response.read()
                    if following.opened(response):
                        for line in response.iter_lines():
                            task = following.heard(line)
                            if task is not None:
                                yield task
            except TRANSIENT as error:
                failure = error
            time.sleep(following.pause(response, failure))

    def cancel_task(self, task_id: TaskRef) -> Task:
        """Cancels a task that is pending or processing. Raises `Conflict` if it is finished."""
        return self._run(self._calls.cancel(task_id))

    def retry_task(self, task_id: TaskRef) -> Task:
        """Restarts a failed or cancelled task. Raises `Conflict` if it is neither."""
        return self._run(self._calls.retry(task_id))

    def list_tasks(
        self,
        project_id: str | None = None,
        status: TaskStatus | None = None,
        task_type: str | None = None,
        *,
        tag: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> TaskPage:
        """Returns a page of tasks, the newest first. `limit` is 1 to 200, by default 50."""
        return self._run(self._calls.list(project_id, status, task_type, tag, limit, cursor))

    def iter_tasks(
        self,
        project_id: str | None = None,
        status: TaskStatus | None = None,
        task_type: str | None = None,
        *,
        tag: str | None = None,
    ) -> Iterator[Task]:
        """Yields all such tasks, the newest first, and requests pages as needed."""
        cursor: str | None = None
        while True:
            page = self.list_tasks(project_id, status, task_type, tag=tag, limit=200, cursor=cursor)
            yield from page.tasks
            cursor = page.next_cursor
            if cursor is None:
                return

    def _run(self, exchange: Exchange[T]) -> T:
        try:
            step = next(exchange)
            while True:
                response: httpx.Response | None = None
                if isinstance(step, Request):
                    try:
                        response = self._send(step)
                    except httpx.RequestError as error:
                        step = exchange.throw(error)
                        continue
                else:
                    time.sleep(step.seconds)
                step = exchange.send(response)
        except StopIteration as end:
            result: T = end.value
            return result

    def _send(self, request: Request) -> httpx.Response:
        body = request.content
        return self._http.request(
            request.method,
            request.path,
            headers=request.headers,
            content=body.pieces() if isinstance(body, FileBody) else body,
            timeout=httpx.Timeout(self._timeout, read=self._timeout + request.held),
        )
