"""The rules for retries: after which failures, and after how long."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

import httpx

#: The failures that a retry may cure. Any other error of httpx is a mistake in the request.
TRANSIENT = (
    httpx.TimeoutException,
    httpx.NetworkError,
    httpx.RemoteProtocolError,
    httpx.ProxyError,
    httpx.DecodingError,
)


@dataclass(frozen=True)
class RetryPolicy:
    """The number of attempts of a request, and the pauses between them, in seconds.

    The pause doubles each time. A random part of it, up to half, is left out, so that clients that
    failed together do not come back together. If the server sends `Retry-After`, the pause is as
    long as that; if that is more than `longest_pause`, the request is given up at once.
    """

    attempts: int = 4
    first_pause: float = 0.5
    longest_pause: float = 30.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError("attempts must be at least 1")

    def pause(self, attempt: int) -> float:
        """Returns the pause after the attempt with this number, counted from 1, in seconds."""
        doubled = self.first_pause * 2.0 ** min(attempt - 1, 30)
        return min(doubled, self.longest_pause) * random.uniform(0.5, 1.0)


def is_transient(status: int) -> bool:
    """Returns whether a retry after an answer with this status may succeed."""
    return status == 429 or status >= 500


def retry_after(response: httpx.Response) -> float | None:
    """Returns the seconds that `Retry-After`, a number or a date, asks for, or None."""
    value = response.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except (TypeError, ValueError, IndexError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=timezone.utc)
    return max(0.0, (date - datetime.now(timezone.utc)).total_seconds())
