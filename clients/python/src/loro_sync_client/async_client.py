"""The client for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable
from urllib.parse import quote

import httpx

from .calls import Calls, Known, path_of
from .connection import Connection
from .errors import WaitTimeout
from .exchange import Exchange, Request, T
from .following import EndOfStream, Following, NoStreams
from .images import has_images, load_images
from .options import SubmitOptions
from .retry import TRANSIENT, RetryPolicy
from .task import SubmittedTask, Task, TaskPage, TaskRef, TaskStatus
from .uploads import Content, FileBody, Upload, opened
from .waiting import Ear, ProjectStreams

if TYPE_CHECKING:
    from typing_extensions import Unpack

# The most requests at once that the server answers without holding them.
_AT_ONCE = 16


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
        self._streams = ProjectStreams(self._read_project)
        self._places: asyncio.Semaphore | None = None
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
        **options: Unpack[SubmitOptions],
    ) -> SubmittedTask:
        """Submits a task; see `SyncServerClient.submit_task`. A thread reads the files."""
        if has_images(params):
            params = await asyncio.to_thread(load_images, params)
        return await self._run(self._calls.submit(project_id, task_type, params, options))

    submit = submit_task

    async def upload(self, project_id: str, content: Content) -> Upload:
        """Stores a picture or a film; see `SyncServerClient.upload`. A thread reads the file."""
        with contextlib.ExitStack() as files:
            body = await asyncio.to_thread(files.enter_context, opened(content))
            return await self._run(self._calls.store(project_id, body))

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
        """Waits until the task is finished; see `SyncServerClient.wait_for_task`.

        All calls that wait for tasks of one project share one stream of events, so any number of
        them hold one connection; each reads the whole task once more when the stream has its end.
        If the server has no streams, each call polls.
        """
        began = time.monotonic()

        def left() -> float | None:
            return None if timeout is None else max(0.0, timeout - (time.monotonic() - began))

        task = await self._run(self._calls.get(task_id))
        ear = None if task.is_finished else self._streams.join(task.project_id, task.task_id)
        if ear is not None:
            try:
                task = await self._hear_end(ear, task, left)
            finally:
                ear.close()
        if not task.is_finished:
            try:
                return await self._run(self._calls.wait(task_id, left(), raise_for_failure))
            except WaitTimeout as late:
                raise WaitTimeout(late.task, timeout or 0.0) from None
        return task.raise_for_failure() if raise_for_failure else task

    async def _hear_end(self, ear: Ear, task: Task, left: Callable[[], float | None]) -> Task:
        """Returns the task when it is finished, no time is left, or the stream is over."""
        try:
            await ear.opened(left())
            # The stream does not have what happened before it was open.
            if not ear.is_deaf:
                task = await self._run(self._calls.get(task))
            while not task.is_finished and not ear.is_deaf:
                heard = await ear.heard(left())
                if heard is not None and heard.is_finished:
                    # The stream leaves out the parameters and the result.
                    heard = await self._run(self._calls.get(task))
                task = heard or task
        except asyncio.TimeoutError:
            pass
        return task

    async def watch(self, task_id: TaskRef) -> AsyncIterator[Task]:
        """Yields the task's states until it is finished; see `SyncServerClient.watch`."""
        following = Following(f"{path_of(task_id)}/events", self._calls.policy)
        try:
            async for task in self._follow(following):
                if task is not None:
                    yield task
                    if task.is_finished:
                        return
        except EndOfStream:
            return
        except NoStreams:
            known: Known | None = None
            while known is None or not known.task.is_finished:
                known = await self._run(self._calls.change(task_id, known))
                yield known.task

    def _read_project(self, project_id: str) -> AsyncIterator[Task | None]:
        path = f"/projects/{quote(project_id, safe='')}/tasks/events"
        return self._follow(Following(path, self._calls.policy))

    async def _follow(self, following: Following) -> AsyncIterator[Task | None]:
        """Yields None whenever the stream has opened, and each task that it has."""
        while True:
            request, response, failure = following.request(), None, None
            try:
                async with self._http.stream(
                    request.method,
                    request.path,
                    headers=request.headers,
                    timeout=httpx.Timeout(self._timeout, read=request.held),
                ) as response:
                    if response.status_code != httpx.codes.OK:
                        await response.aread()
                    if following.opened(response):
                        yield None
                        async for line in response.aiter_lines():
                            task = following.heard(line)
                            if task is not None:
                                yield task
            except TRANSIENT as error:
                failure = error
            await asyncio.sleep(following.pause(response, failure))

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
        tag: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> TaskPage:
        """Returns a page of tasks, the newest first. `limit` is 1 to 200, by default 50."""
        return await self._run(self._calls.list(project_id, status, task_type, tag, limit, cursor))

    async def iter_tasks(
        self,
        project_id: str | None = None,
        status: TaskStatus | None = None,
        task_type: str | None = None,
        *,
        tag: str | None = None,
    ) -> AsyncIterator[Task]:
        """Yields all such tasks, the newest first, and requests pages as needed."""
        cursor: str | None = None
        while True:
            page = await self.list_tasks(
                project_id, status, task_type, tag=tag, limit=200, cursor=cursor
            )
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
        if request.held:
            return await self._send_now(request)
        if self._places is None:
            self._places = asyncio.Semaphore(_AT_ONCE)
        async with self._places:
            return await self._send_now(request)

    async def _send_now(self, request: Request) -> httpx.Response:
        body = request.content
        return await self._http.request(
            request.method,
            request.path,
            headers=request.headers,
            content=body.pieces_in_thread() if isinstance(body, FileBody) else body,
            timeout=httpx.Timeout(self._timeout, read=self._timeout + request.held),
        )
