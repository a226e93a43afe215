"""The forms in which a caller may give an image: a file, its bytes, a URL, or base64."""

from __future__ import annotations

import base64
import binascii
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Union, runtime_checkable


@runtime_checkable
class PilImage(Protocol):
    """The part of a `PIL.Image.Image` that the client uses; Pillow itself is not needed."""

    @property
    def mode(self) -> str:
        """The form of the pixels, such as RGB."""

    def save(self, fp: Any, format: str | None = None) -> None:
        """Writes the image to a file."""

    def tobytes(self) -> bytes:
        """Returns the bytes of the pixels."""


@dataclass(frozen=True)
class Picture:
    """The content of an image. A submission uploads it, and sends its path instead."""

    content: bytes = field(repr=False)

    @property
    def base64(self) -> str:
        """The content in base64, as servers without uploads take it."""
        return base64.b64encode(self.content).decode("ascii")


#: An image as the caller gives it: a path, bytes, an image of Pillow, an http(s) or data: URL, or
#: base64.
Image = Union[str, "os.PathLike[str]", bytes, bytearray, PilImage, Picture]

#: The largest image that the client sends, in bytes.
MAX_IMAGE_BYTES = 10 * 1024 * 1024

# The first characters of a PNG, JPEG, GIF and WebP (RIFF) in base64. A JPEG's look like a path.
_IMAGE_STARTS = ("iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR")
# A path that has only characters of base64 is hardly ever longer than this.
_LONGEST_PATH = 256


def load_image(image: Image) -> str | Picture:
    """Reads an image, for the params of a submission.

    An http(s) or data: URL, and base64 (without its white space), are text and stay so. The content
    of a file, bytes and an image of Pillow become a `Picture`. A string can name any file that this
    process may read, so do not pass on strings from untrusted sources.

    Raises FileNotFoundError if the string looks like a path and no such file exists, another
    OSError if the file cannot be read, and ValueError if it is empty or larger than
    `MAX_IMAGE_BYTES`.
    """
    if isinstance(image, Picture):
        return image
    if isinstance(image, (bytes, bytearray)):
        return _checked(bytes(image), "the image")
    if not isinstance(image, (str, os.PathLike)):
        return _checked(_encoded(image), "the image")
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


def encode_image(image: Image) -> str:
    """Converts an image to text that can be sent in its place: its URL, or base64.

    The errors are those of `load_image`. A submission needs no such text: it uploads the image.
    """
    loaded = load_image(image)
    return loaded.base64 if isinstance(loaded, Picture) else loaded


def has_images(params: Any) -> bool:
    """Returns whether there are images in params, at any depth, that are not text."""
    if isinstance(params, Mapping):
        return any(map(has_images, params.values()))
    if isinstance(params, (list, tuple)):
        return any(map(has_images, params))
    return _is_image(params)


def load_images(params: Any) -> Any:
    """Returns a copy of params in which each image that is not text is a `Picture`."""
    if isinstance(params, Mapping):
        return {name: load_images(value) for name, value in params.items()}
    if isinstance(params, (list, tuple)):
        return [load_images(value) for value in params]
    return load_image(params) if _is_image(params) else params


def _is_image(value: Any) -> bool:
    return isinstance(value, (Picture, bytes, bytearray, os.PathLike, PilImage))


def is_url(image: str) -> bool:
    """Returns whether the text is an http(s) or data: URL."""
    return image[:8].lower().startswith(("http://", "https://", "data:"))


def _read(path: str) -> Picture:
    with open(path, "rb") as file:
        content = file.read(MAX_IMAGE_BYTES + 1)
    return _checked(content, f"the image {path!r}")


def _encoded(image: PilImage) -> bytes:
    if not isinstance(image, PilImage):
        raise TypeError(
            "an image is a path, bytes, an image of Pillow, a URL or base64, not "
            f"{type(image).__name__}"
        )
    file = io.BytesIO()
    # PNG, which loses nothing, has no colours for printing.
    image.save(file, format="JPEG" if image.mode in ("CMYK", "YCbCr") else "PNG")
    return file.getvalue()


def _checked(content: bytes, name: str) -> Picture:
    if not content:
        raise ValueError(f"{name} is empty")
    if len(content) > MAX_IMAGE_BYTES:
        limit = MAX_IMAGE_BYTES // (1024 * 1024)
        raise ValueError(f"{name} is larger than {limit} MiB; give its http(s) URL")
    return Picture(content)


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    looks_like_path = "/" in text and len(text) < _LONGEST_PATH
    return not looks_like_path or text.startswith(_IMAGE_STARTS)


def _shortened(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:100]}…"
