"""The client."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

import httpx

from .calls import Calls
from .connection import Connection
from .exchange import Exchange, Request, T
from .retry import RetryPolicy
from .task import SubmittedTask, Task, TaskPage, TaskStatus


class SyncServerClient:
    """Submits tasks to a Loro Sync Server and tells what became of them.

    `base_url` and `token` are by default those of the environment, SYNC_SERVER_URL and
    SYNC_SERVER_TOKEN; without them it is http://localhost:8787 and no token. `timeout` is the
    patience with one attempt, in seconds, for connecting, sending and waiting for an answer each.

    It keeps connections open: close it, or use it in a `with` statement. Threads may share it.
    Every method raises a `SyncServerError` of some kind where the server refuses, and
    `ServerUnavailable` where it is away and the retries are used up.
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
        *,
        max_retries: int | None = None,
        node_id: str | None = None,
        callback_url: str | None = None,
        idempotency_key: str | None = None,
    ) -> SubmittedTask:
        """Submits a task; it is stored when this returns, and done later.

        The result appears in the project's document too, in the node `node_id` where that is given.
        `callback_url` is told when the task is finished; see `verify_notification`. Two submissions
        with one `idempotency_key` are one task; without one, the attempts of this call are.

        Raises `InvalidTask`, with the fields, where the type or the params are not accepted, and
        `Conflict` where the key was used for another task.
        """
        return self._run(
            self._calls.submit(
                project_id, task_type, params, max_retries, node_id, callback_url, idempotency_key
            )
        )

    def get_task_status(self, task_id: str) -> Task:
        """The task as it is now. Raises `NotFound` where there is none."""
        return self._run(self._calls.get(task_id))

    def wait_for_task(
        self,
        task_id: str,
        timeout: float | None = 600.0,
        *,
        raise_for_failure: bool = False,
    ) -> Task:
        """Waits until the task is completed, failed or cancelled, and returns it.

        With `raise_for_failure`, a failed task raises `TaskFailed` and a cancelled one
        `TaskCancelled`. After `timeout` seconds (None: never), `WaitTimeout`, a TimeoutError, is
        raised, and the task goes on. A server that does not answer at all can make that later by
        the client's own timeout.
        """
        return self._run(self._calls.wait(task_id, timeout, raise_for_failure))

    def cancel_task(self, task_id: str) -> Task:
        """Cancels a task that is pending or processing. Raises `Conflict` where it is finished."""
        return self._run(self._calls.cancel(task_id))

    def retry_task(self, task_id: str) -> Task:
        """Sets a failed or cancelled task going again. Raises `Conflict` where it is neither."""
        return self._run(self._calls.retry(task_id))

    def list_tasks(
        self,
        project_id: str | None = None,
        status: TaskStatus | None = None,
        task_type: str | None = None,
        *,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> TaskPage:
        """One page of tasks, the newest first: `limit` of them, 1 to 200, by default 50."""
        return self._run(self._calls.list(project_id, status, task_type, limit, cursor))

    def iter_tasks(
        self,
        project_id: str | None = None,
        status: TaskStatus | None = None,
        task_type: str | None = None,
    ) -> Iterator[Task]:
        """All such tasks, the newest first, asking for pages as they are needed."""
        cursor: str | None = None
        while True:
            page = self.list_tasks(project_id, status, task_type, limit=200, cursor=cursor)
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
        return self._http.request(
            request.method,
            request.path,
            headers=request.headers,
            content=request.content,
            timeout=httpx.Timeout(self._timeout, read=self._timeout + request.held),
        )
