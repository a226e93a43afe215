"""The forms in which a caller may give an image: a file, a URL, or base64."""

from __future__ import annotations

import base64
import binascii
import os
from typing import Union

#: An image as the caller gives it: a path, an http(s) or data: URL, or base64.
Image = Union[str, "os.PathLike[str]"]

#: The largest file that the client sends, in bytes.
MAX_IMAGE_BYTES = 10 * 1024 * 1024

# The first characters of a PNG, JPEG, GIF and WebP (RIFF) in base64. A JPEG's look like a path.
_IMAGE_STARTS = ("iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR")
# A path that has only characters of base64 is hardly ever longer than this.
_LONGEST_PATH = 256


def encode_image(image: Image) -> str:
    """Converts an image to the text that is sent for it.

    An http(s) or data: URL is sent unchanged; a file is read on this machine and sent as base64;
    base64 is sent without its white space. A string can name any file that this process may read,
    so do not pass on strings from untrusted sources.

    Raises FileNotFoundError if the string looks like a path and no such file exists, another
    OSError if the file cannot be read, and ValueError if it is empty or larger than
    `MAX_IMAGE_BYTES`.
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
            f"no image: {_shortened(image)!r} is not an existing file, an http(s) or data: URL, "
            "or base64"
        )
    return encoded


def is_url(image: str) -> bool:
    """Tells whether the text is an http(s) or data: URL."""
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
