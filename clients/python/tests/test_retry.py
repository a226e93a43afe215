"""The retries and the errors of the clients, against a server with scripted answers."""

from __future__ import annotations

import asyncio
import socket
import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import httpx
import pytest
from conftest import (
    ACCEPTED,
    DROP,
    HANG,
    PATIENCE,
    QUICK,
    Answer,
    Script,
    ScriptedServer,
    problem,
    row,
)

from loro_sync_client import (
    AsyncSyncServerClient,
    Conflict,
    FieldError,
    InvalidTask,
    NotFound,
    RetryPolicy,
    ServerUnavailable,
    SubmittedTask,
    SyncServerClient,
    SyncServerError,
)
from loro_sync_client.retry import retry_after

DOWN = problem(503, "unavailable")


def submit(server: ScriptedServer, *, twin: bool, timeout: float = PATIENCE) -> SubmittedTask:
    """Submits a demo with the sync client, or with its async twin."""
    params = {"prompt": "a mill"}
    if not twin:
        with SyncServerClient(server.url, timeout=timeout, retry=QUICK) as client:
            return client.submit_task("p", "demo", params)

    async def run() -> SubmittedTask:
        async with AsyncSyncServerClient(server.url, timeout=timeout, retry=QUICK) as client:
            return await asyncio.wait_for(client.submit_task("p", "demo", params), PATIENCE)

    return asyncio.run(run())


@pytest.mark.parametrize("twin", [False, True])
@pytest.mark.parametrize(
    "answers",
    [
        (Answer(500), Answer(500), ACCEPTED),
        (DROP, DROP, DROP, ACCEPTED),
        (DOWN, DROP, Answer(429, headers={"Retry-After": "0"}), ACCEPTED),
        (ACCEPTED,),
    ],
)
def test_a_submission_is_repeated_with_one_key(
    scripted: Script, answers: tuple[Answer, ...], twin: bool
) -> None:
    server = scripted(*answers)
    submitted = submit(server, twin=twin)
    assert submitted == SubmittedTask("task_1700000000_abc", "pending", 1700000000)
    assert len(server.seen) == len(answers)
    assert len({request.headers["idempotency-key"] for request in server.seen}) == 1
    assert len({request.body for request in server.seen}) == 1


@pytest.mark.parametrize("twin", [False, True])
def test_a_silent_server_is_asked_again(scripted: Script, twin: bool) -> None:
    server = scripted(HANG, ACCEPTED)
    submit(server, twin=twin, timeout=0.2)
    first, second = server.seen
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]


def test_two_submissions_have_two_keys(scripted: Script) -> None:
    server = scripted(ACCEPTED, ACCEPTED)
    submit(server, twin=False)
    submit(server, twin=False)
    assert len({request.headers["idempotency-key"] for request in server.seen}) == 2


def test_a_given_key_is_used(scripted: Script) -> None:
    server = scripted(Answer(500), ACCEPTED)
    with SyncServerClient(server.url, retry=QUICK) as client:
        client.submit_task("p", "demo", {}, idempotency_key="mine")
        assert [request.headers["idempotency-key"] for request in server.seen] == ["mine", "mine"]
        for key in ("", "with space", "ü", "x" * 256):
            with pytest.raises(ValueError, match="idempotency key"):
                client.submit_task("p", "demo", {}, idempotency_key=key)


@pytest.mark.parametrize("twin", [False, True])
def test_retries_end(scripted: Script, twin: bool) -> None:
    server = scripted(DOWN, DOWN, DOWN, DOWN, ACCEPTED)
    with pytest.raises(ServerUnavailable, match="what is wrong with unavailable") as raised:
        submit(server, twin=twin)
    assert raised.value.status == 503
    assert raised.value.type == "urn:loro-sync:problem:unavailable"
    assert len(server.seen) == 4


def test_an_address_without_a_server_is_in_the_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    url = f"http://user:s3cret@127.0.0.1:{port}"
    with SyncServerClient(url, retry=QUICK) as client:
        with pytest.raises(ServerUnavailable, match="is the server running") as raised:
            client.get_task_status("task_1")
    assert f"http://127.0.0.1:{port}" in str(raised.value)
    assert "s3cret" not in str(raised.value)
    assert isinstance(raised.value.__cause__, httpx.ConnectError)


def test_retry_after_is_honoured(scripted: Script) -> None:
    server = scripted(Answer(429, headers={"Retry-After": "1"}), Answer(200, row()))
    began = time.monotonic()
    with SyncServerClient(server.url, retry=QUICK) as client:
        client.get_task_status("task_1")
    assert time.monotonic() - began >= 1.0


def test_a_long_retry_after_is_left_to_the_caller(scripted: Script) -> None:
    server = scripted(Answer(429, headers={"Retry-After": "60"}))
    with SyncServerClient(server.url, retry=QUICK) as client:
        with pytest.raises(ServerUnavailable) as raised:
            client.get_task_status("task_1")
    assert raised.value.retry_after == 60
    assert raised.value.status == 429


def test_retry_after_is_a_number_or_a_date() -> None:
    def read(value: str) -> float | None:
        return retry_after(httpx.Response(503, headers={"Retry-After": value}))

    soon = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=100), usegmt=True)
    past = format_datetime(datetime.now(timezone.utc) - timedelta(seconds=100), usegmt=True)
    in_seconds = read(soon)
    assert in_seconds is not None and 90 < in_seconds <= 100
    assert read(past) == 0
    assert read("7") == 7
    assert [read(value) for value in ("", "soon", "-1", "1.5")] == [None] * 4


def test_pauses_double_up_to_a_limit() -> None:
    policy = RetryPolicy(attempts=100, first_pause=1, longest_pause=10)
    for attempt, most in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (99, 10)]:
        for _ in range(50):
            assert most / 2 <= policy.pause(attempt) <= most
    with pytest.raises(ValueError, match="attempts"):
        RetryPolicy(attempts=0)


def test_a_refusal_is_not_repeated(scripted: Script) -> None:
    server = scripted(
        problem(404, "not-found"),
        problem(409, "idempotency-conflict"),
        problem(400, "not-json"),
        problem(413, "too-large"),
    )
    kinds: list[type[SyncServerError]] = [NotFound, Conflict, SyncServerError, SyncServerError]
    with SyncServerClient(server.url, retry=QUICK) as client:
        for kind in kinds:
            with pytest.raises(kind) as raised:
                client.get_task_status("task_1")
            assert type(raised.value) is kind
            assert raised.value.title and raised.value.type and raised.value.status
    assert len(server.seen) == 4


def test_an_invalid_task_names_its_fields(scripted: Script) -> None:
    errors = [{"field": "params.duration", "message": "must be 5 or 10"}]
    server = scripted(problem(422, "invalid-fields", errors=errors))
    with pytest.raises(InvalidTask, match=r"params\.duration: must be 5 or 10") as raised:
        submit(server, twin=False)
    assert raised.value.errors == (FieldError("params.duration", "must be 5 or 10"),)


@pytest.mark.parametrize(
    "answer", [Answer(200, {"hello": 1}), Answer(200, [row()]), Answer(200), Answer(302)]
)
def test_an_answer_of_something_else_is_an_error(scripted: Script, answer: Answer) -> None:
    server = scripted(answer)
    with SyncServerClient(server.url, retry=QUICK) as client:
        with pytest.raises(SyncServerError):
            client.get_task_status("task_1")


FINISHED = problem(409, "task-finished")
NOT_RETRYABLE = problem(409, "task-not-retryable")


@pytest.mark.parametrize(
    ("action", "answers", "status"),
    [
        ("cancel", [Answer(200, row("cancelled"))], "cancelled"),
        ("cancel", [DROP, Answer(200, row("cancelled"))], "cancelled"),
        ("cancel", [DROP, FINISHED, Answer(200, row("cancelled"))], "cancelled"),
        ("cancel", [DROP, FINISHED, Answer(200, row("completed"))], None),
        ("cancel", [FINISHED], None),
        ("retry", [DROP, Answer(200, row("pending"))], "pending"),
        ("retry", [DROP, NOT_RETRYABLE, Answer(200, row("processing"))], "processing"),
        ("retry", [NOT_RETRYABLE], None),
    ],
)
def test_an_action_whose_answer_was_lost(
    scripted: Script, action: str, answers: list[Answer], status: str | None
) -> None:
    server = scripted(*answers)
    with SyncServerClient(server.url, retry=QUICK) as client:
        act = client.cancel_task if action == "cancel" else client.retry_task
        if status is None:
            with pytest.raises(Conflict):
                act("task_1")
        else:
            assert act("task_1").status == status
    assert len(server.seen) == len(answers)
    assert (server.seen[0].method, server.seen[0].path) == ("POST", f"/tasks/task_1/{action}")
