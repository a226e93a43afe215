"""Waits for a task, and reads it, against a server with scripted answers."""

from __future__ import annotations

import asyncio
import time

import pytest
from conftest import DROP, PATIENCE, QUICK, Answer, Script, row

from loro_sync_client import (
    AsyncSyncServerClient,
    SubmittedTask,
    SyncServerClient,
    Task,
    TaskCancelled,
    TaskFailed,
    WaitTimeout,
)


def tagged(tag: str, status: str) -> Answer:
    return Answer(200, row(status), {"ETag": tag})


def test_a_wait_asks_for_what_it_does_not_know_yet(scripted: Script) -> None:
    server = scripted(
        tagged('"1"', "pending"), tagged('"2"', "processing"), DROP, tagged('"3"', "completed")
    )
    with SyncServerClient(server.url, retry=QUICK) as client:
        assert client.wait_for_task("task_1", timeout=PATIENCE).status == "completed"
    asked = [(request.path, request.headers.get("if-none-match")) for request in server.seen]
    assert asked == [
        ("/tasks/task_1", None),
        ("/tasks/task_1?wait=25", '"1"'),
        ("/tasks/task_1?wait=25", '"2"'),
        ("/tasks/task_1?wait=25", '"2"'),
    ]


def test_a_wait_takes_what_was_submitted(scripted: Script) -> None:
    submitted = SubmittedTask(row()["task_id"], "pending", 1)
    server = scripted(*[Answer(200, row("completed"))] * 3)
    with SyncServerClient(server.url, retry=QUICK) as client:
        task = client.wait_for_task(submitted, timeout=PATIENCE)
        assert client.get_task_status(task).status == "completed"

    async def wait() -> Task:
        async with AsyncSyncServerClient(server.url, retry=QUICK) as waiting:
            return await waiting.wait_for_task(submitted, timeout=PATIENCE)

    assert asyncio.run(wait()).status == "completed"
    assert {request.path.split("?")[0] for request in server.seen} == {f"/tasks/{task.task_id}"}


def test_a_server_that_does_not_hold_is_asked_once_a_second(scripted: Script) -> None:
    unchanged = Answer(304, headers={"ETag": '"1"'})
    pending = tagged('"1"', "pending")
    server = scripted(pending, unchanged, pending, tagged('"2"', "completed"))
    began = time.monotonic()
    with SyncServerClient(server.url, retry=QUICK) as client:
        assert client.wait_for_task("task_1", None).status == "completed"
    assert time.monotonic() - began >= 2.0


def test_a_wait_ends_in_time_and_looks_once_more(scripted: Script) -> None:
    pending = tagged('"1"', "pending")
    server = scripted(pending, pending, tagged('"1"', "processing"))
    with SyncServerClient(server.url, retry=QUICK) as client:
        with pytest.raises(TimeoutError) as raised:
            client.wait_for_task("task_1", timeout=0.2)
    assert isinstance(raised.value, WaitTimeout)
    assert raised.value.task.status == "processing"
    assert len(server.seen) == 3


def test_no_time_at_all_is_one_look(scripted: Script) -> None:
    server = scripted(tagged('"1"', "pending"))
    with SyncServerClient(server.url, retry=QUICK) as client:
        with pytest.raises(WaitTimeout):
            client.wait_for_task("task_1", timeout=0)
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("status", "error"), [("failed", TaskFailed), ("cancelled", TaskCancelled)]
)
def test_failure_is_returned_or_raised(
    scripted: Script, status: str, error: type[TaskFailed]
) -> None:
    answer = Answer(200, row(status, error_message="no paint"))
    server = scripted(answer, answer)
    with SyncServerClient(server.url, retry=QUICK) as client:
        assert client.wait_for_task("task_1").status == status
        with pytest.raises(error, match="no paint") as raised:
            client.wait_for_task("task_1", raise_for_failure=True)
    assert raised.value.task.status == status


def test_waits_run_side_by_side(scripted: Script) -> None:
    server = scripted(tagged('"1"', "completed"), tagged('"1"', "completed"))

    async def run() -> list[Task]:
        async with AsyncSyncServerClient(server.url, retry=QUICK) as client:
            return list(await asyncio.gather(*map(client.wait_for_task, ("a", "b"))))

    tasks = asyncio.run(asyncio.wait_for(run(), PATIENCE))
    assert [task.status for task in tasks] == ["completed", "completed"]
    assert {request.path for request in server.seen} == {"/tasks/a", "/tasks/b"}


def test_a_task_has_all_its_columns() -> None:
    columns = row("completed", result_url="http://x/1", result_data='{"seed": 7}', new_column=1)
    task = Task.from_json(columns)
    for name, value in columns.items():
        if name != "new_column":
            assert getattr(task, name) == value
    assert task.parsed_params == {"prompt": "a mill"}
    assert task.parsed_result_data == {"seed": 7}
    assert Task.from_json(row()).parsed_result_data is None
    listed = {name: value for name, value in row().items() if name not in ("params", "result_data")}
    assert Task.from_json(listed).parsed_params is None
    assert task.is_finished and not Task.from_json(row("processing")).is_finished
    assert "a mill" not in repr(task), "params may hold whole images"


def test_a_task_may_be_the_json_of_one(scripted: Script) -> None:
    server = scripted(Answer(200, row("completed")))
    with SyncServerClient(server.url, retry=QUICK) as client:
        assert client.wait_for_task(row("pending"), timeout=PATIENCE).status == "completed"
        for wrong in ({"id": "task_1"}, {"task_id": 7}, 7, None):
            with pytest.raises(TypeError, match="a mapping with a task_id"):
                client.wait_for_task(wrong)  # type: ignore[arg-type]
    assert [request.path for request in server.seen] == ["/tasks/task_1700000000_abc"]


def test_an_empty_id_is_refused(scripted: Script) -> None:
    with SyncServerClient(scripted().url) as client:
        with pytest.raises(ValueError, match="id is empty"):
            client.get_task_status("")


def test_all_pages_are_read(scripted: Script) -> None:
    pages = [
        Answer(200, {"tasks": [row(task_id="3"), row(task_id="2")], "next_cursor": "a b"}),
        Answer(200, {"tasks": [row(task_id="1")], "next_cursor": None}),
    ]
    server = scripted(*pages, *pages)
    with SyncServerClient(server.url, retry=QUICK) as client:
        found = [task.task_id for task in client.iter_tasks("p", "failed")]
    assert found == ["3", "2", "1"]
    assert [request.path for request in server.seen] == [
        "/tasks?project_id=p&status=failed&limit=200",
        "/tasks?project_id=p&status=failed&limit=200&cursor=a+b",
    ]

    async def run() -> list[str]:
        async with AsyncSyncServerClient(server.url, retry=QUICK) as twin:
            return [task.task_id async for task in twin.iter_tasks()]

    assert asyncio.run(run()) == found
