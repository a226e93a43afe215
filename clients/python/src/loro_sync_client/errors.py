"""The exceptions of this package; each is a SyncServerError."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from .task import Task


class SyncServerError(Exception):
    """The base of this package's errors.

    If the server answered with a problem, `type` is its stable name, such as
    `urn:loro-sync:problem:not-found`, and `title`, `status` and `detail` are those of the problem.
    """

    def __init__(
        self,
        detail: str,
        *,
        type: str | None = None,
        title: str | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.type = type
        self.title = title
        self.status = status


@dataclass(frozen=True)
class FieldError:
    """The error in one field, such as `params.duration`."""

    field: str
    message: str


class InvalidTask(SyncServerError):
    """The answer 422: the task cannot be accepted; `errors` names the fields."""

    errors: tuple[FieldError, ...] = ()


class Unauthorized(SyncServerError):
    """The answer 401 or 403: the token is missing, unknown, or not for this project."""


class NotFound(SyncServerError):
    """The answer 404: there is no such task, or no such project."""


class Conflict(SyncServerError):
    """The answer 409: the task's status forbids this, or another task has this idempotency key."""


class ServerUnavailable(SyncServerError):
    """The server could not be reached, or answered 5xx or 429, even after the retries.

    `retry_after` is the wait in seconds that the server asked for, or None.
    """

    retry_after: float | None = None


class WaitTimeout(SyncServerError, TimeoutError):
    """The task did not finish in time, and continues. `task` is its last known state."""

    def __init__(self, task: Task, timeout: float) -> None:
        super().__init__(f"task {task.task_id} is still {task.status} after {timeout:g} s")
        self.task = task


class TaskFailed(SyncServerError):
    """The task failed; `task.error_message` says why."""

    def __init__(self, task: Task) -> None:
        super().__init__(f"task {task.task_id} {task.status}: {task.error_message or 'no reason'}")
        self.task = task


class TaskCancelled(TaskFailed):
    """The task was cancelled."""


class InvalidSignature(SyncServerError):
    """The notification is not authentic, or too old to be trusted."""


_BY_STATUS: dict[int, type[SyncServerError]] = {
    401: Unauthorized,
    403: Unauthorized,
    404: NotFound,
    409: Conflict,
    422: InvalidTask,
    429: ServerUnavailable,
}


def error_of(response: httpx.Response) -> SyncServerError:
    """Makes the exception for an answer that is not a success."""
    status = response.status_code
    problem = _problem(response)
    kind = _BY_STATUS.get(status, ServerUnavailable if status >= 500 else SyncServerError)
    title = _text(problem, "title")
    detail = _text(problem, "detail") or title or f"the server answered with status {status}"
    errors = _field_errors(problem)
    if errors:
        named = "; ".join(f"{error.field}: {error.message}" for error in errors)
        detail = f"{detail} ({named})"
    error = kind(detail, type=_text(problem, "type"), title=title, status=status)
    if isinstance(error, InvalidTask):
        error.errors = errors
    return error


def _problem(response: httpx.Response) -> dict[str, Any]:
    try:
        problem = response.json()
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}


def _text(problem: dict[str, Any], key: str) -> str | None:
    value = problem.get(key)
    return value if isinstance(value, str) else None


def _field_errors(problem: dict[str, Any]) -> tuple[FieldError, ...]:
    errors = problem.get("errors")
    if not isinstance(errors, list):
        return ()
    return tuple(
        FieldError(str(error.get("field", "")), str(error.get("message", "")))
        for error in errors
        if isinstance(error, dict)
    )
