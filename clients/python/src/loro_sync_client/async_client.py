"""The client for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any

import httpx

from .calls import Calls
from .connection import Connection
from .exchange import Exchange, Request, T
from .retry import RetryPolicy
from .task import SubmittedTask, Task, TaskPage, TaskRef, TaskStatus


class AsyncSyncServerClient:
    """The counterpart of `SyncServerClient` for asyncio, with the same settings and errors.

    Its methods are coroutines. Close it with `aclose`, or use it in an `async with` statement.
    Tasks of one event loop may share it.
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
        self._http = httpx.AsyncClient(
            base_url=self._connection.base_url, headers=self._connection.headers()
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._connection.base_url!r})"

    async def __aenter__(self) -> AsyncSyncServerClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def submit_task(
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
        """Submits a task; see `SyncServerClient.submit_task`."""
        return await self._run(
            self._calls.submit(
                project_id, task_type, params, max_retries, node_id, callback_url, idempotency_key
            )
        )

    async def get_task_status(self, task_id: TaskRef) -> Task:
        """Returns the task's present state. Raises `NotFound` if there is no such task."""
        return await self._run(self._calls.get(task_id))

    async def wait_for_task(
        self,
        task_id: TaskRef,
        timeout: float | None = 600.0,
        *,
        raise_for_failure: bool = False,
    ) -> Task:
        """Waits until the task is finished; see `SyncServerClient.wait_for_task`."""
        return await self._run(self._calls.wait(task_id, timeout, raise_for_failure))

    async def cancel_task(self, task_id: TaskRef) -> Task:
        """Cancels a task that is pending or processing. Raises `Conflict` if it is finished."""
        return await self._run(self._calls.cancel(task_id))

    async def retry_task(self, task_id: TaskRef) -> Task:
        """Restarts a failed or cancelled task. Raises `Conflict` if it is neither."""
        return await self._run(self._calls.retry(task_id))

    async def list_tasks(
        self,
        project_id: str | None = None,
        status: TaskStatus | None = None,
        task_type: str | None = None,
        *,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> TaskPage:
        """Returns a page of tasks, the newest first. `limit` is 1 to 200, by default 50."""
        return await self._run(self._calls.list(project_id, status, task_type, limit, cursor))

    async def iter_tasks(
        self,
        project_id: str | None = None,
        status: TaskStatus | None = None,
        task_type: str | None = None,
    ) -> AsyncIterator[Task]:
        """Yields all such tasks, the newest first, and requests pages as needed."""
        cursor: str | None = None
        while True:
            page = await self.list_tasks(project_id, status, task_type, limit=200, cursor=cursor)
            for task in page.tasks:
                yield task
            cursor = page.next_cursor
            if cursor is None:
                return

    async def _run(self, exchange: Exchange[T]) -> T:
        try:
            step = next(exchange)
            while True:
                response: httpx.Response | None = None
                if isinstance(step, Request):
                    try:
                        response = await self._send(step)
                    except httpx.RequestError as error:
                        step = exchange.throw(error)
                        continue
                else:
                    await asyncio.sleep(step.seconds)
                step = exchange.send(response)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _send(self, request: Request) -> httpx.Response:
        return await self._http.request(
            request.method,
            request.path,
            headers=request.headers,
            content=request.content,
            timeout=httpx.Timeout(self._timeout, read=self._timeout + request.held),
        )
