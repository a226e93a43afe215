"""The address of the server, and the token."""

from __future__ import annotations

import asyncio
import logging

import pytest
from conftest import ACCEPTED, Answer, Script, problem, row

from loro_sync_client import (
    AsyncSyncServerClient,
    SyncServerClient,
    Unauthorized,
    submit_kling_video_task,
    submit_nano_banana_task_async,
)


def test_the_default_is_this_machine() -> None:
    with SyncServerClient() as client:
        assert "http://localhost:8787" in repr(client)


def test_the_environment_tells_url_and_token(
    scripted: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = scripted(ACCEPTED, ACCEPTED)
    monkeypatch.setenv("SYNC_SERVER_URL", server.url)
    monkeypatch.setenv("SYNC_SERVER_TOKEN", "from-environment")
    image = "https://example.com/a.png"
    assert submit_kling_video_task("p", image, "it moves") == "task_1700000000_abc"
    task_id = asyncio.run(submit_nano_banana_task_async("p", "a cat", pro=True, node_id="n"))
    assert task_id == "task_1700000000_abc"
    kling, nano = server.seen
    assert (kling.method, kling.path) == ("POST", "/tasks")
    assert kling.headers["authorization"] == "Bearer from-environment"
    assert kling.json == {
        "project_id": "p",
        "task_type": "kling_video",
        "params": {
            "prompt": "it moves",
            "image_path": image,
            "duration": 5,
            "cfg_scale": 0.5,
            "mode": "std",
            "model": "kling-v1",
        },
    }
    assert nano.headers["authorization"] == "Bearer from-environment"
    assert nano.json == {
        "project_id": "p",
        "task_type": "nano_banana_pro",
        "params": {"prompt": "a cat", "aspect_ratio": "4:3"},
        "node_id": "n",
    }


def test_given_settings_come_first(scripted: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    server = scripted(Answer(200, row()))
    monkeypatch.setenv("SYNC_SERVER_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("SYNC_SERVER_TOKEN", "from-environment")
    with SyncServerClient(f"{server.url}/below/", "given") as client:
        client.get_task_status("task/1")
    assert server.seen[0].path == "/below/tasks/task%2F1"
    assert server.seen[0].headers["authorization"] == "Bearer given"


def test_without_a_token_none_is_sent(scripted: Script) -> None:
    server = scripted(Answer(200, row()))
    with SyncServerClient(server.url) as client:
        client.get_task_status("task_1")
    assert "authorization" not in server.seen[0].headers


def test_the_token_is_never_shown(scripted: Script, caplog: pytest.LogCaptureFixture) -> None:
    server = scripted(problem(401, "unauthorized"), problem(403, "forbidden"))
    caplog.set_level(logging.DEBUG)
    with SyncServerClient(server.url, "s3cret") as client:
        with pytest.raises(Unauthorized) as refused:
            client.get_task_status("task_1")
        with pytest.raises(Unauthorized):
            client.get_task_status("task_1")
        shown = repr(client) + repr(vars(client)) + repr(refused.value)
    assert "s3cret" not in shown + caplog.text
    assert "s3cret" not in repr(AsyncSyncServerClient(server.url, "s3cret"))
    with pytest.raises(ValueError) as wrong:
        SyncServerClient(token="s3cret\nX-Other: 1")
    assert "s3cret" not in str(wrong.value)


@pytest.mark.parametrize("url", ["localhost:8787", "ftp://example.com", "http://", "/tasks"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="the server's address"):
        SyncServerClient(url)
