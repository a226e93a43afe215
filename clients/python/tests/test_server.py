"""The real server, in development mode, with the demo tasks."""

from __future__ import annotations

import asyncio
import io
import uuid

import httpx
import pytest
from conftest import PATIENCE

from loro_sync_client import (
    AsyncSyncServerClient,
    Conflict,
    InvalidTask,
    NotFound,
    Picture,
    SyncServerClient,
    Task,
    TaskCancelled,
    TaskFailed,
    WaitTimeout,
    submit_kling_video_task,
    submit_nano_banana_task,
)

pytestmark = pytest.mark.server

#: A task that is done as soon as the server comes to it.
QUICK_DEMO = {"prompt": "a lighthouse", "complete": "at_once", "seconds": 0}
#: A task that is not done while a test runs.
SLOW_DEMO = {"prompt": "a cathedral", "seconds": 600}


def fields(error: InvalidTask) -> set[str]:
    return {each.field for each in error.errors}


@pytest.mark.parametrize("complete", ["at_once", "poll", "webhook"])
def test_a_demo_ends_with_a_picture(client: SyncServerClient, project: str, complete: str) -> None:
    params = {"prompt": "a lighthouse", "complete": complete, "seconds": 1}
    submitted = client.submit_task(project, "demo", params, max_retries=2)
    assert submitted.status == "pending"
    assert submitted.callback_secret is None
    task = client.wait_for_task(submitted.task_id, PATIENCE, raise_for_failure=True)
    assert task == client.get_task_status(submitted.task_id)
    assert (task.project_id, task.task_type, task.status) == (project, "demo", "completed")
    assert task.parsed_params["prompt"] == "a lighthouse"
    assert task.max_retries == 2
    assert task.created_at == submitted.created_at
    assert task.completed_at is not None and task.completed_at >= task.created_at
    assert task.error_message is None
    assert task.result_url is not None
    picture = httpx.get(task.result_url, timeout=PATIENCE)
    assert picture.status_code == 200
    assert picture.headers["content-type"].startswith("image/svg+xml")
    assert "<svg" in picture.text


def test_a_failure_tells_why_and_can_be_retried(client: SyncServerClient, project: str) -> None:
    params = {**QUICK_DEMO, "fail": "no paint is left"}
    task_id = client.submit_task(project, "demo", params, max_retries=0).task_id
    with pytest.raises(TaskFailed, match="no paint is left") as raised:
        client.wait_for_task(task_id, PATIENCE, raise_for_failure=True)
    assert raised.value.task.status == "failed"
    assert raised.value.task.result_url is None
    assert client.retry_task(task_id).task_id == task_id
    again = client.wait_for_task(task_id, PATIENCE)
    assert again.status == "failed"
    assert again.error_message is not None and "no paint is left" in again.error_message


def test_one_key_is_one_task(client: SyncServerClient, project: str) -> None:
    key = str(uuid.uuid4())
    first = client.submit_task(project, "demo", SLOW_DEMO, idempotency_key=key)
    second = client.submit_task(project, "demo", SLOW_DEMO, idempotency_key=key)
    assert second.task_id == first.task_id
    assert [task.task_id for task in client.iter_tasks(project)] == [first.task_id]
    with pytest.raises(Conflict) as raised:
        client.submit_task(project, "demo", QUICK_DEMO, idempotency_key=key)
    assert raised.value.type == "urn:loro-sync:problem:idempotency-conflict"
    client.cancel_task(first.task_id)


def test_lists_have_pages_and_filters(client: SyncServerClient, project: str) -> None:
    ids = [client.submit_task(project, "demo", SLOW_DEMO).task_id for _ in range(5)]
    found: list[Task] = []
    cursor = None
    for expected in (2, 2, 1):
        page = client.list_tasks(project, limit=2, cursor=cursor)
        assert len(page.tasks) == expected
        found += page.tasks
        cursor = page.next_cursor
    assert cursor is None
    assert sorted(task.task_id for task in found) == sorted(ids)
    created = [task.created_at for task in found]
    assert created == sorted(created, reverse=True), "the newest first"

    client.cancel_task(ids[0])
    cancelled = client.list_tasks(project, status="cancelled").tasks
    assert [task.task_id for task in cancelled] == [ids[0]]
    assert len(client.list_tasks(project, task_type="demo").tasks) == 5
    assert client.list_tasks(project, task_type="kling_video").tasks == []
    assert client.list_tasks(f"{project}-other").tasks == []
    for task_id in ids[1:]:
        client.cancel_task(task_id)


def test_a_cancelled_task_stays_cancelled_until_it_is_retried(
    client: SyncServerClient, project: str
) -> None:
    task_id = client.submit_task(project, "demo", SLOW_DEMO).task_id
    with pytest.raises(WaitTimeout) as late:
        client.wait_for_task(task_id, timeout=1)
    assert late.value.task.task_id == task_id
    with pytest.raises(Conflict) as not_yet:
        client.retry_task(task_id)
    assert not_yet.value.type == "urn:loro-sync:problem:task-not-retryable"
    assert client.cancel_task(task_id).status == "cancelled"
    with pytest.raises(TaskCancelled):
        client.wait_for_task(task_id, PATIENCE, raise_for_failure=True)
    with pytest.raises(Conflict) as finished:
        client.cancel_task(task_id)
    assert finished.value.type == "urn:loro-sync:problem:task-finished"
    assert not client.retry_task(task_id).is_finished
    client.cancel_task(task_id)


def test_a_wait_is_held_until_the_task_changes(server_url: str, project: str) -> None:
    async def run() -> Task:
        async with AsyncSyncServerClient(server_url) as client:
            task_id = (await client.submit_task(project, "demo", SLOW_DEMO)).task_id
            waiting = asyncio.create_task(client.wait_for_task(task_id, PATIENCE))
            await client.cancel_task(task_id)
            return await waiting

    assert asyncio.run(asyncio.wait_for(run(), PATIENCE)).status == "cancelled"


def test_bad_params_are_named(client: SyncServerClient, project: str) -> None:
    with pytest.raises(InvalidTask) as raised:
        client.submit_task(project, "demo", {"prompt": "a mill", "seconds": 601})
    assert raised.value.status == 422
    assert fields(raised.value) == {"params.seconds"}
    with pytest.raises(InvalidTask) as raised:
        client.submit_task(project, "demo", {})
    assert fields(raised.value) == {"params.prompt"}
    with pytest.raises(InvalidTask) as raised:
        client.submit_task(project, "sculpture", {"prompt": "a mill"})
    assert fields(raised.value) == {"task_type"}


def test_bad_params_of_the_services_are_named(client: SyncServerClient, project: str) -> None:
    image = "https://example.com/a.png"
    with pytest.raises(InvalidTask) as raised:
        submit_kling_video_task(project, image, "it moves", 7, 1.5, mode="best", client=client)
    assert fields(raised.value) >= {"params.duration", "params.cfg_scale", "params.mode"}
    with pytest.raises(InvalidTask) as raised:
        submit_nano_banana_task(project, "a cat", image_size="9K", pro=True, client=client)
    assert fields(raised.value) == {"params.image_size"}


def test_a_picture_is_uploaded(client: SyncServerClient, project: str) -> None:
    picture = Picture(b"\x89PNG\r\n\x1a\n and so on")
    # The first task makes the project; until then its picture goes in the request.
    for _ in range(2):
        task_id = submit_kling_video_task(project, picture, "it moves", client=client)
        path = client.get_task_status(task_id).parsed_params["image_path"]
        assert path.startswith("/assets/asset_")
        kept = httpx.get(f"{client._connection.base_url}{path}", timeout=PATIENCE)
        assert (kept.status_code, kept.content) == (200, picture.content)
    assert client._run(client._calls.upload(project, picture)) is not None
    for content in (picture.content, io.BytesIO(picture.content)):
        upload = client.upload(project, content)
        assert (upload.media_type, upload.length) == ("image/png", len(picture.content))
        assert httpx.get(upload.url, timeout=PATIENCE).content == picture.content


def test_an_unknown_task_is_not_found(client: SyncServerClient) -> None:
    for act in (client.get_task_status, client.wait_for_task, client.cancel_task):
        with pytest.raises(NotFound) as raised:
            act("task_1700000000_none")
        assert raised.value.type == "urn:loro-sync:problem:not-found"


def test_a_callback_comes_with_a_secret(client: SyncServerClient, project: str) -> None:
    submitted = client.submit_task(
        project, "demo", SLOW_DEMO, callback_url="https://agent.invalid/done", node_id="node-1"
    )
    assert submitted.callback_secret is not None
    assert submitted.callback_secret.startswith("whsec_")
    assert submitted.callback_secret not in repr(submitted)
    client.cancel_task(submitted.task_id)


def test_the_async_twin_does_the_same(server_url: str, project: str) -> None:
    async def run() -> None:
        async with AsyncSyncServerClient(server_url) as client:
            submitted = await asyncio.gather(
                *(client.submit_task(project, "demo", QUICK_DEMO) for _ in range(3))
            )
            tasks = await asyncio.gather(
                *(client.wait_for_task(each.task_id, PATIENCE) for each in submitted)
            )
            assert [task.status for task in tasks] == ["completed"] * 3
            assert (await client.get_task_status(tasks[0].task_id)) == tasks[0]
            listed = [task.task_id async for task in client.iter_tasks(project)]
            assert sorted(listed) == sorted(task.task_id for task in tasks)
            slow = await client.submit_task(project, "demo", SLOW_DEMO)
            assert (await client.cancel_task(slow.task_id)).status == "cancelled"
            assert not (await client.retry_task(slow.task_id)).is_finished
            assert (await client.cancel_task(slow.task_id)).status == "cancelled"
            with pytest.raises(InvalidTask):
                await client.submit_task(project, "demo", {})
            with pytest.raises(NotFound):
                await client.get_task_status("task_1700000000_none")

    asyncio.run(asyncio.wait_for(run(), 2 * PATIENCE))


def test_a_watch_shows_the_states_of_a_task(client: SyncServerClient, project: str) -> None:
    params = {"prompt": "a lighthouse", "seconds": 1}
    options = {"tags": ["mine"], "metadata": {"shot": 7}, "cancel_after": 600}
    submitted = client.submit(project, "demo", params, **options)  # type: ignore[arg-type]
    states = list(client.watch(submitted))
    assert states[-1].status == "completed"
    assert (states[-1].tags, states[-1].metadata) == (["mine"], {"shot": 7})
    assert [task.task_id for task in client.list_tasks(project, tag="mine").tasks] == [
        submitted.task_id
    ]
    assert client.list_tasks(project, tag="yours").tasks == []


def test_many_wait_for_their_tasks(server_url: str, project: str) -> None:
    async def run() -> list[Task]:
        async with AsyncSyncServerClient(server_url) as client:
            submitted = [await client.submit(project, "demo", QUICK_DEMO) for _ in range(30)]
            return list(await asyncio.gather(*map(client.wait_for_task, submitted)))

    tasks = asyncio.run(asyncio.wait_for(run(), 2 * PATIENCE))
    assert {task.status for task in tasks} == {"completed"}
