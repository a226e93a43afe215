"""The options of a submission."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

TaskEvent = Literal["started", "completed", "failed", "cancelled"]


class SubmitOptions(TypedDict, total=False):
    """The options that a submission may have beside the task itself. None counts as left out."""

    max_retries: int | None
    """The number of errors in a row that are tried again before the service has accepted the task.
    """
    node_id: str | None
    """The node of the project's document that shows the result, too."""
    callback_url: str | None
    """The address that the server notifies; see `verify_notification`."""
    events: Sequence[TaskEvent] | None
    """The events of which the server notifies that address; by default each end."""
    cancel_after: int | None
    """The seconds after which the task is cancelled if it has not ended by then."""
    tags: Sequence[str] | None
    """The words by which `list_tasks` finds the task."""
    metadata: Mapping[str, Any] | None
    """The notes, up to 4 KiB, that come back with the task."""
    idempotency_key: str | None
    """The key of the submission. Two with the same key make one task; without a key, only the
    attempts of one call do."""
