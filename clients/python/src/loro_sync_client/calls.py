"""The calls of the server's API, each as an exchange that sends and reads the answer."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4

import httpx

from .connection import is_visible_ascii
from .errors import Conflict, SyncServerError, WaitTimeout, error_of
from .exchange import Exchange, Pause, Request, answer_to
from .images import Picture, load_images
from .options import SubmitOptions
from .retry import RetryPolicy
from .task import SubmittedTask, Task, TaskPage, TaskRef, id_of
from .uploads import FileBody, Upload

# The longest time for which a request is held, in seconds. The server allows 50; proxies may cut
# off at 30.
_LONGEST_POLL = 25
# The least time between two polls without news, in seconds, in case a proxy does not hold them.
_SHORTEST_POLL = 1.0
# The number of requests of one client that the server may hold at once.
_MOST_HELD = 16
# The most polls a second of all calls that wait with one client, if more of them wait than
# are held.
_POLLS_A_SECOND = 50
# The answers after which a picture is sent in the params: the server is older, the project is made
# by this task, or the picture is too large for an upload, or of a type that the task itself should
# judge.
_NOT_UPLOADED = (404, 405, 413, 415)
# An upload of more bytes than this goes to the server's bucket, which may take these seconds more.
_LARGE = 8 * 1024 * 1024
_LARGE_HELD = 120.0


@dataclass(frozen=True)
class Known:
    """A task's state, and its ETag."""

    task: Task
    tag: str | None


@dataclass
class Polls:
    """The calls that poll with one client: the server holds a few of them, and many take turns."""

    count: int = 0

    def longest(self) -> int:
        """Returns the time for which the next request may be held, in seconds."""
        return _LONGEST_POLL if self.count <= _MOST_HELD else 0

    def pause(self) -> float:
        """Returns the time between two polls of one task without news, in seconds."""
        return max(_SHORTEST_POLL, self.count / _POLLS_A_SECOND if not self.longest() else 0.0)


@dataclass(frozen=True)
class Calls:
    """The calls, all with one retry policy."""

    policy: RetryPolicy
    polls: Polls = field(default_factory=Polls)

    def submit(
        self,
        project_id: str,
        task_type: str,
        params: Mapping[str, Any],
        options: SubmitOptions,
    ) -> Exchange[SubmittedTask]:
        """Submits a task. All attempts have the same idempotency key, so they make one task.

        Pictures in `params` are uploaded, and their paths sent. An upload has another path each
        time. So with a key of the caller's, the pictures themselves are sent, and a repetition is
        the same request.
        """
        unknown = options.keys() - SubmitOptions.__annotations__.keys()
        if unknown:
            raise TypeError(f"unknown options: {', '.join(sorted(unknown))}")
        idempotency_key = options.get("idempotency_key")
        if idempotency_key is None:
            idempotency_key = str(uuid4())
        elif not (1 <= len(idempotency_key) <= 255 and is_visible_ascii(idempotency_key)):
            raise ValueError("an idempotency key must have 1 to 255 visible ASCII characters")
        is_repeatable = options.get("idempotency_key") is not None
        placed = yield from self._placed(project_id, load_images(params), not is_repeatable)
        fields = {**options, "idempotency_key": None}
        body = {
            "project_id": project_id,
            "task_type": task_type,
            "params": placed,
            **{name: value for name, value in fields.items() if value is not None},
        }
        request = Request(
            "POST",
            "/tasks",
            {"Content-Type": "application/json", "Idempotency-Key": idempotency_key},
            json.dumps(body, allow_nan=False).encode(),
        )
        answer = yield from answer_to(request, self.policy)
        return SubmittedTask.from_json(_json(answer.response))

    def _placed(self, project_id: str, params: Any, is_uploaded: bool) -> Exchange[Any]:
        """Returns params with text in place of each picture: its path once uploaded, or base64."""
        if isinstance(params, dict):
            items = {}
            for name, value in params.items():
                items[name] = yield from self._placed(project_id, value, is_uploaded)
            return items
        if isinstance(params, list):
            values = []
            for value in params:
                values.append((yield from self._placed(project_id, value, is_uploaded)))
            return values
        if not isinstance(params, Picture):
            return params
        path = (yield from self.upload(project_id, params)) if is_uploaded else None
        return params.base64 if path is None else path

    def upload(self, project_id: str, picture: Picture) -> Exchange[str | None]:
        """Uploads a picture and returns its path; None if the server does not take it this way."""
        response = yield from self._sent(project_id, picture.content)
        if response.status_code in _NOT_UPLOADED:
            return None
        return Upload.from_json(_json(response)).path

    def store(self, project_id: str, content: bytes | FileBody) -> Exchange[Upload]:
        """Uploads a picture or a film."""
        response = yield from self._sent(project_id, content)
        return Upload.from_json(_json(response))

    def _sent(self, project_id: str, content: bytes | FileBody) -> Exchange[httpx.Response]:
        length = content.length if isinstance(content, FileBody) else len(content)
        request = Request(
            "POST",
            f"/projects/{quote(project_id, safe='')}/assets",
            {"Content-Type": "application/octet-stream", "Content-Length": str(length)},
            content,
            held=_LARGE_HELD if length > _LARGE else 0,
        )
        return (yield from answer_to(request, self.policy)).response

    def get(self, task_id: TaskRef) -> Exchange[Task]:
        """Returns the task's present state."""
        answer = yield from answer_to(Request("GET", path_of(task_id)), self.policy)
        return Task.from_json(_json(answer.response))

    def list(
        self,
        project_id: str | None,
        status: str | None,
        task_type: str | None,
        tag: str | None,
        limit: int | None,
        cursor: str | None,
    ) -> Exchange[TaskPage]:
        """Returns a page of tasks."""
        query = {
            "project_id": project_id,
            "status": status,
            "task_type": task_type,
            "tag": tag,
            "limit": limit,
            "cursor": cursor,
        }
        given = urlencode({name: value for name, value in query.items() if value is not None})
        request = Request("GET", f"/tasks?{given}" if given else "/tasks")
        answer = yield from answer_to(request, self.policy)
        return TaskPage.from_json(_json(answer.response))

    def cancel(self, task_id: TaskRef) -> Exchange[Task]:
        """Cancels the task."""
        return self._act(task_id, "cancel", ("cancelled",))

    def retry(self, task_id: TaskRef) -> Exchange[Task]:
        """Restarts the task.

        If an answer is lost and the request is sent again, the task is restarted twice only if it
        has failed again meanwhile.
        """
        return self._act(task_id, "retry", ("pending", "processing", "completed"))

    def _act(self, task_id: TaskRef, action: str, done: Container[str]) -> Exchange[Task]:
        answer = yield from answer_to(Request("POST", f"{path_of(task_id)}/{action}"), self.policy)
        try:
            return Task.from_json(_json(answer.response))
        except Conflict:
            # The first attempt may have succeeded and its answer been lost. Then the task is in the
            # requested state already.
            if answer.attempts == 1:
                raise
            task = yield from self.get(task_id)
            if task.status not in done:
                raise
            return task

    def wait(
        self, task_id: TaskRef, timeout: float | None, raise_for_failure: bool
    ) -> Exchange[Task]:
        """Polls the task, with requests that the server holds, until it is finished."""
        self.polls.count += 1
        try:
            task = yield from self._polled_end(task_id, timeout)
        finally:
            self.polls.count -= 1
        return task.raise_for_failure() if raise_for_failure else task

    def _polled_end(self, task_id: TaskRef, timeout: float | None) -> Exchange[Task]:
        deadline = None if timeout is None else time.monotonic() + timeout
        known: Known | None = None
        while True:
            asked = time.monotonic()
            left = math.inf if deadline is None else max(0.0, deadline - asked)
            # The first request is not held, because the state is still unknown. Nor is the last.
            held = 0 if known is None else int(min(left, self.polls.longest()))
            polled = yield from self._poll(task_id, held, known, deadline)
            task = polled.task
            if task.is_finished:
                return task
            if timeout is not None and left == 0:
                raise WaitTimeout(task, timeout)
            if polled == known:
                spent = time.monotonic() - asked
                yield Pause(max(0.0, min(self.polls.pause(), left) - spent))
            known = polled

    def change(self, task_id: TaskRef, known: Known | None) -> Exchange[Known]:
        """Polls the task until it differs from its known state."""
        while True:
            asked = time.monotonic()
            held = 0 if known is None else _LONGEST_POLL
            polled = yield from self._poll(task_id, held, known, None)
            if polled != known:
                return polled
            yield Pause(max(0.0, _SHORTEST_POLL - (time.monotonic() - asked)))

    def _poll(
        self, task_id: TaskRef, held: int, known: Known | None, deadline: float | None
    ) -> Exchange[Known]:
        path = f"{path_of(task_id)}?wait={held}" if held else path_of(task_id)
        headers = {"If-None-Match": known.tag} if known and known.tag else {}
        request = Request("GET", path, headers, held=held)
        response = (yield from answer_to(request, self.policy, deadline)).response
        if known and response.status_code == httpx.codes.NOT_MODIFIED:
            return known
        return Known(Task.from_json(_json(response)), response.headers.get("etag"))


def path_of(task_id: TaskRef) -> str:
    """Returns the path of the task."""
    return f"/tasks/{quote(id_of(task_id), safe='')}"


def _json(response: httpx.Response) -> Any:
    if not response.is_success:
        raise error_of(response)
    try:
        return response.json()
    except ValueError as error:
        raise SyncServerError(
            "the server's answer is not JSON", status=response.status_code
        ) from error
