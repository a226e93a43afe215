"""The servers that the tests talk to: the real one, and one with scripted answers."""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable

import pytest

from loro_sync_client import RetryPolicy, SyncServerClient

#: The longest wait for anything, in seconds.
PATIENCE = 30.0
#: Retries that do not hold up the tests.
QUICK = RetryPolicy(attempts=4, first_pause=0.01, longest_pause=2.0)


@dataclass(frozen=True)
class Answer:
    """The answer of the scripted server to a request: bytes as they are, anything else as JSON."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


#: Closes the connection without an answer.
DROP = Answer(0)
#: Sends nothing until the test is over.
HANG = Answer(-1)


@dataclass(frozen=True)
class Seen:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, as Python values."""
        return json.loads(self.body)


class ScriptedServer:
    """Gives its answers one after the other, and keeps the requests."""

    def __init__(self, answers: tuple[Answer, ...]) -> None:
        self.seen: list[Seen] = []
        self._answers = list(answers)
        self._over = threading.Event()
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                length = int(self.headers.get("content-length", 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Seen(self.command, self.path, headers, self.rfile.read(length))
                self.answer(script.take(request))

            do_GET = do_POST = handle_any

            def answer(self, answer: Answer) -> None:
                if answer is HANG:
                    script.wait_until_over()
                if answer in (DROP, HANG):
                    self.close_connection = True
                    return
                body = answer.body if isinstance(answer.body, bytes) else b""
                if answer.body is not None and not isinstance(answer.body, bytes):
                    body = json.dumps(answer.body).encode()
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", "application/json")
                if answer.status != 304:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def take(self, request: Seen) -> Answer:
        """Keeps the request, and gives the next answer; 418 if there is none left."""
        self.seen.append(request)
        return self._answers.pop(0) if self._answers else Answer(418)

    def wait_until_over(self) -> None:
        """Returns at the end of the test."""
        self._over.wait(PATIENCE)

    def stop(self) -> None:
        """Stops the server, and ends the requests that it still holds."""
        self._over.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


Script = Callable[..., ScriptedServer]


@pytest.fixture
def scripted() -> Iterator[Script]:
    """Starts servers that give these answers."""
    servers: list[ScriptedServer] = []

    def start(*answers: Answer) -> ScriptedServer:
        servers.append(ScriptedServer(answers))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the settings of the user who runs the tests, and any proxy."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.delenv("SYNC_SERVER_URL", raising=False)
    monkeypatch.delenv("SYNC_SERVER_TOKEN", raising=False)


@pytest.fixture
def server_url() -> str:
    """The address of the real server."""
    url = os.environ.get("LORO_URL")
    if not url:
        pytest.fail(
            "LORO_URL is not set: start the server and give its address, e.g. "
            "http://127.0.0.1:8787, or leave these tests out with -m 'not server'"
        )
    return url


@pytest.fixture
def client(server_url: str) -> Iterator[SyncServerClient]:
    """A client of the real server."""
    with SyncServerClient(server_url) as client:
        yield client


@pytest.fixture
def project() -> str:
    """A project of the test's own."""
    return f"python-{uuid.uuid4()}"


def row(status: str = "pending", **columns: Any) -> dict[str, Any]:
    """Makes a task, as the server describes it."""
    return {
        "task_id": "task_1700000000_abc",
        "project_id": "p",
        "task_type": "demo",
        "status": status,
        "external_task_id": None,
        "external_service": None,
        "params": '{"prompt": "a mill"}',
        "result_url": None,
        "result_data": None,
        "error_message": None,
        "created_at": 1700000000,
        "updated_at": 1700000000,
        "completed_at": None,
        "retry_count": 0,
        "max_retries": 3,
        **columns,
    }


def event(number: int, **columns: Any) -> bytes:
    """Makes an event about a task, as the server sends it."""
    task = json.dumps(row(**columns))
    return f"id: {number}\nevent: {columns['status']}\ndata: {task}\n\n".encode()


def problem(status: int, kind: str, **more: Any) -> Answer:
    """Makes an error, as the server describes it."""
    body = {
        "type": f"urn:loro-sync:problem:{kind}",
        "title": kind.replace("-", " "),
        "status": status,
        "detail": f"what is wrong with {kind}",
        **more,
    }
    return Answer(status, body)


ACCEPTED = Answer(
    201, {"task_id": "task_1700000000_abc", "status": "pending", "created_at": 1700000000}
)
