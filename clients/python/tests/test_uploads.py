"""The pictures that a submission uploads, or sends in the request itself if it must."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import ACCEPTED, DROP, QUICK, Answer, Script, ScriptedServer, problem
from PIL import Image as Pillow

from loro_sync_client import (
    MAX_IMAGE_BYTES,
    AsyncSyncServerClient,
    Content,
    ServerUnavailable,
    SyncServerClient,
    SyncServerError,
    Upload,
    submit_kling_video_task,
    submit_nano_banana_task,
)

PNG = b"\x89PNG\r\n\x1a\n and so on"
IN_BASE64 = base64.b64encode(PNG).decode()


def uploaded(number: int) -> Answer:
    path = f"/assets/asset_{number}"
    told = {"url": f"http://here{path}", "media_type": "image/png", "length": 3}
    return Answer(201, {"id": f"asset_{number}", "path": path, **told})


def submitted(url: str, params: dict[str, Any], *, twin: bool = False, **options: Any) -> None:
    """Submits a task with one of the two clients."""

    async def submit() -> None:
        async with AsyncSyncServerClient(url, retry=QUICK) as client:
            await client.submit("p", "kling_video", params, **options)

    if twin:
        asyncio.run(submit())
        return
    with SyncServerClient(url, retry=QUICK) as client:
        client.submit("p", "kling_video", params, **options)


def stored(url: str, content: Content, *, twin: bool) -> Upload:
    """Uploads a picture or a film with one of the two clients."""

    async def store() -> Upload:
        async with AsyncSyncServerClient(url, retry=QUICK) as client:
            return await client.upload("p", content)

    if twin:
        return asyncio.run(store())
    with SyncServerClient(url, retry=QUICK) as client:
        return client.upload("p", content)


def paths(server: ScriptedServer) -> list[str]:
    return [request.path for request in server.seen]


@pytest.mark.parametrize("twin", [False, True])
def test_pictures_are_uploaded_wherever_they_are(
    scripted: Script, tmp_path: Path, twin: bool
) -> None:
    file = tmp_path / "photo.png"
    file.write_bytes(PNG)
    server = scripted(*map(uploaded, range(3)), ACCEPTED)
    params = {
        "prompt": "it moves",
        "image_path": file,
        "frames": [{"image": bytearray(PNG)}, {"image": "https://example.com/a.png"}],
        "image_tail": PNG,
    }
    submitted(server.url, params, twin=twin)
    assert paths(server) == ["/projects/p/assets"] * 3 + ["/tasks"]
    assert [request.body for request in server.seen[:3]] == [PNG] * 3
    assert server.seen[3].json["params"] == {
        "prompt": "it moves",
        "image_path": "/assets/asset_0",
        "frames": [{"image": "/assets/asset_1"}, {"image": "https://example.com/a.png"}],
        "image_tail": "/assets/asset_2",
    }
    assert params["image_path"] == file, "the caller's params are as they were"


@pytest.mark.parametrize(("mode", "written"), [("RGBA", "PNG"), ("L", "PNG"), ("CMYK", "JPEG")])
def test_an_image_of_pillow_is_uploaded(scripted: Script, mode: str, written: str) -> None:
    server = scripted(uploaded(0), ACCEPTED)
    submitted(server.url, {"image_path": Pillow.new(mode, (3, 2))})
    with Pillow.open(io.BytesIO(server.seen[0].body)) as seen:
        assert (seen.format, seen.size, seen.mode) == (written, (3, 2), mode)


def test_the_functions_upload_too(
    scripted: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "photo.png"
    file.write_bytes(PNG)
    server = scripted(uploaded(0), ACCEPTED, uploaded(1), uploaded(2), ACCEPTED)
    monkeypatch.setenv("SYNC_SERVER_URL", server.url)
    submit_kling_video_task("p", str(file), "it moves")
    submit_nano_banana_task("p", "a cat", base64_images=[IN_BASE64], image_paths=[file, PNG])
    assert server.seen[1].json["params"]["image_path"] == "/assets/asset_0"
    images = server.seen[4].json["params"]["base64_images"]
    assert images == [IN_BASE64, "/assets/asset_1", "/assets/asset_2"]


@pytest.mark.parametrize("status", [404, 405, 413, 415])
def test_a_picture_that_no_upload_takes_goes_in_the_request(scripted: Script, status: int) -> None:
    server = scripted(problem(status, "no"), ACCEPTED)
    submitted(server.url, {"image_path": PNG})
    assert server.seen[1].json["params"] == {"image_path": IN_BASE64}


def test_an_upload_is_tried_again_and_a_refusal_is_raised(scripted: Script) -> None:
    server = scripted(DROP, uploaded(0), ACCEPTED)
    submitted(server.url, {"image_path": PNG})
    assert paths(server) == ["/projects/p/assets"] * 2 + ["/tasks"]
    full = scripted(*[problem(507, "quota")] * 4)
    with pytest.raises(ServerUnavailable) as raised:
        submitted(full.url, {"image_path": PNG})
    assert raised.value.type == "urn:loro-sync:problem:quota"
    assert paths(full) == ["/projects/p/assets"] * 4, "no task is submitted without its picture"


def test_with_a_key_a_repetition_is_the_same_request(scripted: Script) -> None:
    server = scripted(ACCEPTED, ACCEPTED)
    for _ in range(2):
        submitted(server.url, {"image_path": PNG}, idempotency_key="mine")
    first, second = server.seen
    assert first.body == second.body
    assert first.json["params"] == {"image_path": IN_BASE64}


def test_params_without_pictures_go_as_they_are(scripted: Script) -> None:
    server = scripted(ACCEPTED)
    params = {"prompt": "a mill", "seed": 7, "more": [1, None, {"a": "photo.png"}]}
    submitted(server.url, params)
    assert server.seen[0].json["params"] == params


def test_a_value_that_is_no_picture_is_refused_before_anything_is_sent(scripted: Script) -> None:
    server = scripted()
    for wrong in (b"", bytes(MAX_IMAGE_BYTES + 1)):
        with pytest.raises(ValueError, match=r"the image is (empty|larger)"):
            submitted(server.url, {"image_path": wrong})
    with pytest.raises(FileNotFoundError):
        submitted(server.url, {"image_path": Path("/none/photo.png")})
    with pytest.raises(TypeError, match="an image is a path"):
        submit_kling_video_task("p", 7, "it moves")  # type: ignore[arg-type]
    assert server.seen == []


FILM = b"\0\0\0\x18ftypisom" + bytes(range(256)) * 4000


@pytest.mark.parametrize("twin", [False, True])
def test_a_film_is_sent_as_it_is_read_and_again_from_its_start(
    scripted: Script, tmp_path: Path, twin: bool
) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(FILM)
    read: list[int] = []
    threads: set[int] = set()

    class Watched(io.BytesIO):
        def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
            threads.add(threading.get_ident())
            return super().seek(offset, whence)

        def read(self, size: int | None = -1, /) -> bytes:
            piece = super().read(size)
            read.append(len(piece))
            return piece

    file = Watched(b"before" + FILM)
    file.seek(6)
    threads.clear()
    for content in (FILM, bytearray(FILM), path, str(path), file):
        server = scripted(problem(503, "unavailable"), uploaded(7))
        upload = stored(server.url, content, twin=twin)
        told = "http://here/assets/asset_7"
        assert upload == Upload("asset_7", "/assets/asset_7", told, "image/png", 3)
        assert paths(server) == ["/projects/p/assets"] * 2
        for request in server.seen:
            assert request.body == FILM
            assert request.headers["content-length"] == str(len(FILM))
            assert "transfer-encoding" not in request.headers
    assert max(read) <= 64 * 1024 < len(FILM), "no file is read whole"
    assert not file.closed
    assert (threading.get_ident() in threads) != twin, "a thread looks into the file for asyncio"


@pytest.mark.parametrize("twin", [False, True])
def test_a_refused_film_is_an_error_with_the_words_of_the_server(
    scripted: Script, twin: bool
) -> None:
    server = scripted(problem(413, "payload-too-large"))
    with pytest.raises(SyncServerError) as raised:
        stored(server.url, FILM, twin=twin)
    assert raised.value.status == 413
    wrongs: list[Any] = [{"id": "asset_1"}, {}, []]
    for wrong in wrongs:
        server = scripted(Answer(201, wrong))
        with pytest.raises(SyncServerError, match="names no upload"):
            stored(server.url, FILM, twin=twin)
