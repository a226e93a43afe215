"""When to try again, and after how long."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

import httpx

#: What may go better next time. Anything else that httpx raises is a mistake in the request.
TRANSIENT = (
    httpx.TimeoutException,
    httpx.NetworkError,
    httpx.RemoteProtocolError,
    httpx.ProxyError,
    httpx.DecodingError,
)


@dataclass(frozen=True)
class RetryPolicy:
    """How often a request is tried, and the pauses between, in seconds.

    The pause doubles each time; up to half of it is left out by chance, so that clients that failed
    together do not come back together. A server that says `Retry-After` gets what it asks for; if
    that is more than `longest_pause`, the request is given up at once.
    """

    attempts: int = 4
    first_pause: float = 0.5
    longest_pause: float = 30.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError("attempts must be at least 1")

    def pause(self, attempt: int) -> float:
        """How long to wait after the attempt of this number, counted from 1."""
        doubled = self.first_pause * 2.0 ** min(attempt - 1, 30)
        return min(doubled, self.longest_pause) * random.uniform(0.5, 1.0)


def is_transient(status: int) -> bool:
    """Whether an answer with this status may be another one soon."""
    return status == 429 or status >= 500


def retry_after(response: httpx.Response) -> float | None:
    """The seconds that `Retry-After` asks for; it holds a number or a date."""
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
