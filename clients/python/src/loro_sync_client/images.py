"""What may stand for an image: a file, an address, or base64."""

from __future__ import annotations

import base64
import binascii
import os
from typing import Union

#: An image as it is given: a path, an http(s) or data: URL, or base64.
Image = Union[str, "os.PathLike[str]"]

#: The largest file that is sent, in bytes.
MAX_IMAGE_BYTES = 10 * 1024 * 1024

# How base64 of PNG, JPEG, GIF and WebP (RIFF) begins. That of a JPEG looks like an absolute path.
_IMAGE_STARTS = ("iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR")
# A path with none of the signs that base64 cannot have is hardly ever longer.
_LONGEST_PATH = 256


def encode_image(image: Image) -> str:
    """What to send for an image.

    An http(s) or data: URL goes as it is; a file is read, here, and becomes base64; base64 goes as
    it is, less white space. Since a string can name any file that this process may read, do not
    pass on strings from strangers.

    Raises FileNotFoundError for what looks like a path and does not exist, another OSError where
    the file cannot be read, and ValueError where it is empty or has more than `MAX_IMAGE_BYTES`.
    """
    if not isinstance(image, str):
        return _read(os.fspath(image))
    if is_url(image):
        return image
    path = os.path.expanduser(image)
    if os.path.exists(path):
        return _read(path)
    encoded = "".join(image.split())
    if not encoded:
        raise ValueError("the image is empty")
    if not _is_base64(encoded):
        raise FileNotFoundError(
            f"no image: {_shortened(image)!r} is no existing file, no http(s) or data: URL, "
            "and no base64"
        )
    return encoded


def is_url(image: str) -> bool:
    """Whether it is an http(s) or data: URL."""
    return image[:8].lower().startswith(("http://", "https://", "data:"))


def _read(path: str) -> str:
    with open(path, "rb") as file:
        content = file.read(MAX_IMAGE_BYTES + 1)
    if not content:
        raise ValueError(f"the image {path!r} is empty")
    if len(content) > MAX_IMAGE_BYTES:
        limit = MAX_IMAGE_BYTES // (1024 * 1024)
        raise ValueError(f"the image {path!r} is larger than {limit} MiB; give its http(s) URL")
    return base64.b64encode(content).decode("ascii")


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    looks_like_path = "/" in text and len(text) < _LONGEST_PATH
    return not looks_like_path or text.startswith(_IMAGE_STARTS)


def _shortened(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:100]}…"
