"""The state of a stream of events at a client, independent of how it reads the stream."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import httpx

from .errors import ServerUnavailable, SyncServerError, error_of
from .exchange import Request
from .retry import RetryPolicy, is_transient, retry_after
from .task import Task

#: The longest silence of a stream, in seconds: the server sends a comment every 15 s.
SILENCE = 45.0
#: The statuses of a server that holds no streams: it has no relay, or is older.
_NO_STREAMS = (404, 405, 501)


class NoStreams(Exception):
    """The server holds no stream at this address, so it has to be polled."""


class EndOfStream(Exception):
    """The stream has no further events."""


@dataclass
class Following:
    """A stream of events about tasks, and how it goes on after it broke off."""

    path: str
    policy: RetryPolicy
    last: str | None = None
    """The id of the last event."""
    _failures: int = 0
    _data: list[str] = field(default_factory=list)

    def request(self) -> Request:
        """Returns the request that opens the stream, or resumes it."""
        headers = {"Accept": "text/event-stream"}
        if self.last is not None:
            headers["Last-Event-ID"] = self.last
        return Request("GET", self.path, headers, held=SILENCE)

    def opened(self, response: httpx.Response) -> bool:
        """Returns whether the stream is open. Raises the error in a final answer.

        The body of such an answer must have been read.
        """
        self._data.clear()
        if response.status_code == 200:
            return True
        if response.status_code == 204:
            raise EndOfStream
        if response.status_code in _NO_STREAMS:
            raise NoStreams
        if not is_transient(response.status_code):
            raise error_of(response)
        return False

    def heard(self, line: str) -> Task | None:
        """Takes a line of the stream; returns a task when its event is complete."""
        self._failures = 0
        if line:
            name, _, value = line.partition(":")
            value = value[1:] if value.startswith(" ") else value
            if name == "data":
                self._data.append(value)
            elif name == "id":
                self.last = value
            return None
        if not self._data:
            return None
        data = "\n".join(self._data)
        self._data.clear()
        try:
            row = json.loads(data)
        except ValueError as error:
            raise SyncServerError("an event of the server is not JSON") from error
        return Task.from_json(row)

    def pause(self, response: httpx.Response | None, error: Exception | None) -> float:
        """Returns the seconds until the stream may be resumed.

        Raises `ServerUnavailable` after as many failures in a row as the policy allows.
        """
        self._failures += 1
        if self._failures >= self.policy.attempts:
            if response is not None and not response.is_success:
                raise error_of(response)
            reason = error or "the server ended it"
            raise ServerUnavailable(f"the stream of events broke off: {reason}") from error
        asked = retry_after(response) if response is not None else None
        pause = self.policy.pause(self._failures)
        return pause if asked is None else min(asked, self.policy.longest_pause)
