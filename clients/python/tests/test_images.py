"""The values that may stand for an image."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from loro_sync_client import (
    MAX_IMAGE_BYTES,
    Picture,
    encode_image,
    kling_video_params,
    nano_banana_params,
)

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
JPEG_START = base64.b64encode(bytes.fromhex("ffd8ffe000104a46494600010100000100010000")).decode()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a picture.png"
    path.write_bytes(PNG)
    return path


def test_a_file_is_sent_as_base64(picture: Path) -> None:
    expected = base64.b64encode(PNG).decode()
    assert encode_image(picture) == expected
    assert encode_image(str(picture)) == expected


def test_a_path_may_begin_at_home(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(picture.parent))
    assert base64.b64decode(encode_image("~/a picture.png")) == PNG


@pytest.mark.parametrize(
    "image",
    [
        "https://example.com/a.png",
        "HTTP://example.com/a.png",
        "data:image/png;base64,iVBORw0KGgo=",
        base64.b64encode(PNG).decode(),
        base64.b64encode(b"plain").decode(),
        base64.b64encode(bytes(range(256)) * 4).decode(),
        JPEG_START,
    ],
)
def test_an_address_and_base64_go_as_they_are(image: str) -> None:
    assert encode_image(image) == image


def test_base64_in_lines_becomes_one() -> None:
    lines = base64.encodebytes(PNG).decode()
    assert "\n" in lines
    assert base64.b64decode(encode_image(lines), validate=True) == PNG
    assert "\n" not in encode_image(lines)


@pytest.mark.parametrize(
    "image", ["photo.png", "./photo.png", "/tmp/none/photo", "pictures/photos1", "C:\\photo.png"]
)
def test_a_path_to_nowhere_is_an_error(image: str) -> None:
    with pytest.raises(FileNotFoundError, match="not an existing file"):
        encode_image(image)


def test_a_missing_path_object_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        encode_image(tmp_path / "none")


def test_a_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        encode_image(str(tmp_path))


def test_sizes_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="is empty"):
        encode_image(path)
    with pytest.raises(ValueError, match="is empty"):
        encode_image("")
    with path.open("wb") as file:
        file.truncate(MAX_IMAGE_BYTES)
    assert len(base64.b64decode(encode_image(path))) == MAX_IMAGE_BYTES
    with path.open("wb") as file:
        file.truncate(MAX_IMAGE_BYTES + 1)
    with pytest.raises(ValueError, match="larger than 10 MiB"):
        encode_image(path)


def test_kling_params(picture: Path) -> None:
    assert kling_video_params(picture, "it moves", image_tail="https://example.com/z.png") == {
        "prompt": "it moves",
        "image_path": Picture(PNG),
        "image_tail": "https://example.com/z.png",
        "duration": 5,
        "cfg_scale": 0.5,
        "mode": "std",
        "model": "kling-v1",
    }
    from_text = kling_video_params(None, "it moves", 10, 0, "rain", "pro", aspect_ratio="1:1")
    assert from_text == {
        "prompt": "it moves",
        "negative_prompt": "rain",
        "duration": 10,
        "cfg_scale": 0,
        "mode": "pro",
        "model": "kling-v1",
        "aspect_ratio": "1:1",
    }


def test_nano_banana_params(picture: Path) -> None:
    assert nano_banana_params("a cat") == {"prompt": "a cat", "aspect_ratio": "4:3"}
    edit = nano_banana_params("with a hat", aspect_ratio=None, edit_of="task_1_a")
    assert edit == {"prompt": "with a hat", "edit_of": "task_1_a"}
    params = nano_banana_params(
        "a cat",
        "draw well",
        base64_images=["AAAA"],
        reference_image_urls=["https://example.com/1.png"],
        image_paths=[picture, "https://example.com/2.png"],
        image_size="2K",
    )
    assert params == {
        "prompt": "a cat",
        "system_prompt": "draw well",
        "aspect_ratio": "4:3",
        "base64_images": ["AAAA", Picture(PNG)],
        "reference_image_urls": ["https://example.com/1.png", "https://example.com/2.png"],
        "image_size": "2K",
    }
