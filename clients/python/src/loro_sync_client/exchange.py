"""The exchanges with the server, independent of how a client sends and sleeps.

An exchange is a generator: it yields a `Request` and is sent the response, or yields a `Pause` and
is sent None. So retries, long polls and the reading of answers are written once, and the two
clients only send and sleep, each in its own way.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Optional, TypeVar, Union

import httpx

from .errors import ServerUnavailable, error_of
from .retry import TRANSIENT, RetryPolicy, is_transient, retry_after
from .uploads import FileBody

T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """A request, which each attempt sends unchanged."""

    method: str
    path: str
    """The path below the server's address, with the query."""
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | FileBody | None = None
    held: float = 0.0
    """The time for which the server may hold the request, in seconds. It extends the timeout."""


@dataclass(frozen=True)
class Pause:
    """A time to sleep."""

    seconds: float


Exchange = Generator[Union[Request, Pause], Optional[httpx.Response], T]


@dataclass(frozen=True)
class Answer:
    """The server's final answer, which may be a refusal."""

    response: httpx.Response
    attempts: int
    """The number of attempts. If it is more than 1, an earlier one may have succeeded, and its
    answer been lost."""


def answer_to(
    request: Request, policy: RetryPolicy, deadline: float | None = None
) -> Exchange[Answer]:
    """Sends the request until the server gives a final answer.

    After a lost connection, a timeout, 5xx or 429 it is sent again, as often as the policy says and
    not after the deadline (of `time.monotonic`). Then `ServerUnavailable` is raised.
    """
    attempt = 1
    while True:
        asked: float | None = None
        cause: Exception | None = None
        try:
            response = yield request
        except TRANSIENT as error:
            cause = error
            failure = _no_answer(error, attempt)
        else:
            assert response is not None, "a request is answered with a response"
            if not is_transient(response.status_code):
                return Answer(response, attempt)
            unavailable = error_of(response)
            assert isinstance(unavailable, ServerUnavailable)
            failure = unavailable
            failure.retry_after = asked = retry_after(response)
        pause = policy.pause(attempt) if asked is None else asked
        too_late = deadline is not None and time.monotonic() + pause > deadline
        if attempt >= policy.attempts or pause > policy.longest_pause or too_late:
            raise failure from cause
        yield Pause(pause)
        attempt += 1


def _no_answer(error: httpx.RequestError, attempts: int) -> ServerUnavailable:
    url = error.request.url
    # The netloc contains no user name or password.
    where = f"{url.scheme}://{url.netloc.decode('ascii')}"
    reason = str(error) or type(error).__name__
    hint = ""
    if isinstance(error, httpx.ConnectError):
        hint = "; is the server running, and is SYNC_SERVER_URL right?"
    return ServerUnavailable(f"no answer from {where}, attempt {attempts}: {reason}{hint}")
