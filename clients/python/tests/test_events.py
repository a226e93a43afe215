"""The streams of events: watching a task, and waiting for many over one connection."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from conftest import DROP, PATIENCE, QUICK, Answer, Script, event, problem, row

from loro_sync_client import (
    AsyncSyncServerClient,
    ServerUnavailable,
    SyncServerClient,
    SyncServerError,
    Task,
    Unauthorized,
)

#: The path of the stream of a task.
PATH = "/tasks/task_1/events"


def watched(url: str, *, twin: bool) -> list[str]:
    """Watches a task to its end with one of the two clients; returns its states."""

    async def watch() -> list[str]:
        async with AsyncSyncServerClient(url, retry=QUICK) as client:
            return [task.status async for task in client.watch("task_1")]

    if twin:
        return asyncio.run(asyncio.wait_for(watch(), PATIENCE))
    with SyncServerClient(url, retry=QUICK) as client:
        return [task.status for task in client.watch("task_1")]


@pytest.mark.parametrize("twin", [False, True])
def test_a_stream_that_breaks_off_is_resumed(scripted: Script, twin: bool) -> None:
    began = event(1, status="pending") + b":\n\n" + event(2, status="processing")
    busy = problem(503, "unavailable")
    server = scripted(
        Answer(200, began),
        DROP,
        busy,
        Answer(200, b":\n\n"),
        Answer(200, event(3, status="failed")),
    )
    assert watched(server.url, twin=twin) == ["pending", "processing", "failed"]
    asked = [(request.path, request.headers.get("last-event-id")) for request in server.seen]
    assert asked == [(PATH, None)] + [(PATH, "2")] * 4


@pytest.mark.parametrize("twin", [False, True])
@pytest.mark.parametrize("status", [404, 501])
def test_a_server_without_streams_is_polled(scripted: Script, status: int, twin: bool) -> None:
    def tagged(tag: str, status: str) -> Answer:
        return Answer(200, row(status), {"ETag": tag})

    server = scripted(
        problem(status, "no-streams"), tagged('"1"', "processing"), tagged('"2"', "completed")
    )
    assert watched(server.url, twin=twin) == ["processing", "completed"]
    paths = [request.path for request in server.seen]
    assert paths == [PATH, "/tasks/task_1", "/tasks/task_1?wait=25"]


@pytest.mark.parametrize("twin", [False, True])
def test_an_end_that_was_heard_and_a_refusal_end_the_watch(scripted: Script, twin: bool) -> None:
    assert watched(scripted(Answer(204)).url, twin=twin) == []
    refused = scripted(problem(403, "forbidden"))
    with pytest.raises(Unauthorized):
        watched(refused.url, twin=twin)
    assert len(refused.seen) == 1


@pytest.mark.parametrize("twin", [False, True])
@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        (b"data: {\n\n", SyncServerError, "not JSON"),
        (b"", ServerUnavailable, "broke off: the server ended it"),
    ],
)
def test_a_stream_that_makes_no_sense_raises_an_error_of_this_package(
    scripted: Script, body: bytes, error: type[SyncServerError], words: str, twin: bool
) -> None:
    server = scripted(*[Answer(200, body)] * QUICK.attempts)
    with pytest.raises(error, match=words):
        watched(server.url, twin=twin)


class Board:
    """A server whose tasks end when `over` is set, with or without a stream for each project."""

    def __init__(self, has_streams: bool) -> None:
        self.over = threading.Event()
        self.streams = 0
        self.polls = 0
        self.held = 0
        self.open = 0
        self.most_open = 0
        self._lock = threading.Lock()
        board = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                with board._lock:
                    board.open += 1
                    board.most_open = max(board.most_open, board.open)

            def finish(self) -> None:
                super().finish()
                with board._lock:
                    board.open -= 1

            def do_GET(self) -> None:
                if self.path.endswith("/tasks/events"):
                    if not has_streams:
                        self.send_response(501)
                        self.send_header("Content-Length", "0")
                        self.end_headers()
                        return
                    with board._lock:
                        board.streams += 1
                    self.send_response(200)
                    self.send_header("Content-Type", "text/event-stream")
                    self.send_header("Connection", "close")
                    self.end_headers()
                    self.wfile.write(b"id: 0\n\n")
                    self.wfile.flush()
                    board.over.wait(PATIENCE)
                    # As the server does, a stream leaves out parameters and results.
                    ends = [
                        event(number + 1, task_id=f"task_{number}", status="completed", params=None)
                        for number in range(500)
                    ]
                    # The client hangs up when it has the end of each task.
                    with contextlib.suppress(ConnectionError):
                        self.wfile.write(b"".join(ends))
                    self.close_connection = True
                    return
                path, _, query = self.path.partition("?")
                with board._lock:
                    board.polls += 1
                if query.startswith("wait="):
                    with board._lock:
                        board.held += 1
                    board.over.wait(PATIENCE)
                status = "completed" if board.over.is_set() else "processing"
                task_id = path.rsplit("/", 1)[1]
                project = "p" if has_streams else f"p_{task_id}"
                told = row(status, task_id=task_id, project_id=project)
                body = json.dumps(told).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def board(request: pytest.FixtureRequest) -> Iterator[Board]:
    board = Board(request.param)
    yield board
    board.over.set()
    board.http.shutdown()
    board.http.server_close()
    board.thread.join()


@pytest.mark.parametrize("board", [True], indirect=True)
def test_five_hundred_wait_over_one_connection(board: Board) -> None:
    async def run() -> list[Task]:
        async with AsyncSyncServerClient(board.url, retry=QUICK) as client:
            waits = [
                asyncio.ensure_future(client.wait_for_task(f"task_{number}"))
                for number in range(500)
            ]

            def heard() -> int:
                stream = client._streams._streams.get("p")
                return 0 if stream is None else len(stream._ears)

            # Each has read its task before the stream was open, and once more after that.
            while heard() < 500 or board.polls < 1_000:
                await asyncio.sleep(0.01)
            assert (board.streams, board.held) == (1, 0)
            board.over.set()
            tasks = await asyncio.gather(*waits)
            assert client._streams._streams == {}, "the last one closes the stream"
            return list(tasks)

    tasks = asyncio.run(asyncio.wait_for(run(), 2 * PATIENCE))
    assert {task.status for task in tasks} == {"completed"}
    assert [task.task_id for task in tasks] == [f"task_{number}" for number in range(500)]
    assert {task.params for task in tasks} == {row()["params"]}, "each is whole"
    assert (board.polls, board.held) == (1_500, 0)
    assert board.most_open <= 17, "one for the stream, and a few to look"


@pytest.mark.parametrize("board", [False], indirect=True)
def test_five_hundred_poll_over_a_few_connections(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Quicker turns, so that the test is short.
    monkeypatch.setattr("loro_sync_client.calls._POLLS_A_SECOND", 500)

    async def run() -> list[Task]:
        async with AsyncSyncServerClient(board.url, retry=QUICK) as client:
            waits = [
                asyncio.ensure_future(client.wait_for_task(f"task_{number}"))
                for number in range(500)
            ]
            while board.polls < 1_100:
                await asyncio.sleep(0.01)
            board.over.set()
            return list(await asyncio.gather(*waits))

    tasks = asyncio.run(asyncio.wait_for(run(), 2 * PATIENCE))
    assert [task.task_id for task in tasks] == [f"task_{number}" for number in range(500)]
    assert {task.status for task in tasks} == {"completed"}
    assert board.held <= 16
    assert board.most_open <= 48, "for what is held, for streams, and for the other requests"


def test_a_waiter_polls_if_the_stream_is_over(scripted: Script) -> None:
    server = scripted(
        Answer(200, row("processing")),
        problem(501, "no-streams"),
        Answer(200, row("processing"), {"ETag": '"1"'}),
        Answer(200, row("completed"), {"ETag": '"2"'}),
    )

    async def run() -> Task:
        async with AsyncSyncServerClient(server.url, retry=QUICK) as client:
            return await client.wait_for_task("task_1", PATIENCE)

    assert asyncio.run(asyncio.wait_for(run(), PATIENCE)).status == "completed"
    assert server.seen[1].path == "/projects/p/tasks/events"


def test_options_are_sent_and_unknown_ones_are_not() -> None:
    with SyncServerClient("http://127.0.0.1:1") as client:
        with pytest.raises(TypeError, match="speed"):
            client.submit("p", "demo", {}, speed=3)  # type: ignore[call-arg]
