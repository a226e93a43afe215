"""A task, as the server describes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Union

from .errors import SyncServerError, TaskCancelled, TaskFailed

TaskStatus = Literal["pending", "processing", "completed", "failed", "cancelled"]


@dataclass(frozen=True)
class Task:
    """A task. Times are in seconds since 1970."""

    task_id: str
    project_id: str
    task_type: str
    status: TaskStatus
    external_task_id: str | None
    """The task's id at the service that does the work."""
    external_service: str | None
    result_url: str | None
    error_message: str | None
    created_at: int
    updated_at: int
    completed_at: int | None
    retry_count: int
    max_retries: int
    message: str | None = None
    """The reason why the task waits, in words."""
    tags: list[str] = field(default_factory=list)
    """The tags of the submission."""
    metadata: dict[str, Any] | None = None
    """The notes of the submission."""
    cancel_at: int | None = None
    """The time at which the task is cancelled if it has not ended by then."""
    result_expires_at: int | None = None
    """The time at which the service deletes the result, if only the service has it."""
    tries: list[dict[str, Any]] | None = field(default=None, repr=False)
    """The last tries, each with `at`, `tried` and `error`; None in lists, streams and callbacks."""
    params: str | None = field(default=None, repr=False)
    """The parameters as JSON text, with the addresses of pictures; None in lists, streams and
    callbacks."""
    result_data: str | None = field(default=None, repr=False)
    """The data of the result as JSON text; None in lists, streams and callbacks."""

    @property
    def parsed_params(self) -> Any:
        """The `params` as Python values; None if they were left out."""
        return None if self.params is None else json.loads(self.params)

    @property
    def parsed_result_data(self) -> Any:
        """The `result_data` as Python values; None if there is none, or it was left out."""
        return None if self.result_data is None else json.loads(self.result_data)

    @property
    def is_finished(self) -> bool:
        """Returns whether it is completed, failed or cancelled. It then changes only if it is
        retried.
        """
        return self.status in ("completed", "failed", "cancelled")

    def raise_for_failure(self) -> Task:
        """Returns the task, unless it failed (`TaskFailed`) or was cancelled (`TaskCancelled`)."""
        if self.status == "cancelled":
            raise TaskCancelled(self)
        if self.status == "failed":
            raise TaskFailed(self)
        return self

    @classmethod
    def from_json(cls, row: Any) -> Task:
        """Reads the server's answer. Keys that this version does not know are left out."""
        try:
            return cls(
                **{column.name: row[column.name] for column in fields(cls) if column.name in row}
            )
        except TypeError as error:
            raise SyncServerError("the server's answer is not a task") from error


@dataclass(frozen=True)
class TaskPage:
    """A page of tasks, the newest first."""

    tasks: list[Task]
    next_cursor: str | None
    """The `cursor` of the next page; None on the last page."""

    @classmethod
    def from_json(cls, page: Any) -> TaskPage:
        """Reads the server's answer."""
        try:
            return cls([Task.from_json(row) for row in page["tasks"]], page["next_cursor"])
        except (KeyError, TypeError) as error:
            raise SyncServerError("the server's answer is not a list of tasks") from error


@dataclass(frozen=True)
class SubmittedTask:
    """The server's answer about a task that it has accepted."""

    task_id: str
    status: TaskStatus
    created_at: int
    callback_secret: str | None = field(default=None, repr=False)
    """The secret that signs the notification, if there is a `callback_url`. Keep it."""
    status_url: str | None = None
    cancel_url: str | None = None
    events_url: str | None = None

    @classmethod
    def from_json(cls, answer: Any) -> SubmittedTask:
        """Reads the server's answer."""
        try:
            return cls(
                answer["task_id"],
                answer["status"],
                answer["created_at"],
                answer.get("callback_secret"),
                answer.get("status_url"),
                answer.get("cancel_url"),
                answer.get("events_url"),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise SyncServerError("the server's answer is not a submitted task") from error


TaskRef = Union[str, SubmittedTask, Task, Mapping[str, Any]]
"""A task's id, what `submit_task` or another call has returned about the task, or the server's own
JSON about it, such as a notification."""


def id_of(task: TaskRef) -> str:
    """Returns the task's id. Raises ValueError if it is empty, and TypeError if there is none."""
    task_id = getattr(task, "task_id", task)
    if isinstance(task, Mapping):
        task_id = task.get("task_id")
    if not isinstance(task_id, str):
        raise TypeError(
            "a task is its id, what submit_task returned, or a mapping with a task_id, not "
            f"{type(task).__name__}"
        )
    if not task_id:
        raise ValueError("the task's id is empty")
    return task_id
