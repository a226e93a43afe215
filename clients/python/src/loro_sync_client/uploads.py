"""The uploads of pictures and films: their bytes on the way, and the server's answer."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Union

from .errors import SyncServerError

#: A picture or a film as the caller gives it: a path, bytes, or a binary file that can be rewound.
Content = Union[str, "os.PathLike[str]", bytes, bytearray, BinaryIO]

# The bytes that are read of a file at once.
_PIECE = 64 * 1024


@dataclass(frozen=True)
class Upload:
    """A picture or a film that the server has stored."""

    id: str
    path: str
    """The path at the server, for the params of tasks of its project and for a node."""
    url: str
    """The address, by the name under which the client has reached the server."""
    media_type: str
    """The media type by the first bytes, such as `video/mp4`."""
    length: int
    """The length in bytes."""

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Upload:
        """Reads the server's answer."""
        try:
            return cls(
                id=str(told["id"]),
                path=str(told["path"]),
                url=str(told["url"]),
                media_type=str(told["media_type"]),
                length=int(told["length"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise SyncServerError("the server's answer names no upload") from error


@dataclass(frozen=True)
class FileBody:
    """The rest of a binary file as the body of a request. It is read as it is sent."""

    file: BinaryIO
    start: int
    length: int

    @classmethod
    def of(cls, file: BinaryIO) -> FileBody:
        """Measures the rest of a file."""
        start = file.tell()
        return cls(file, start, max(0, file.seek(0, io.SEEK_END) - start))

    def pieces(self) -> Iterator[bytes]:
        """Reads the file, each time from the same place, because a request may be repeated."""
        self.file.seek(self.start)
        left = self.length
        while left > 0:
            piece = self.file.read(min(_PIECE, left))
            if not piece:
                return
            left -= len(piece)
            yield piece

    async def pieces_in_thread(self) -> AsyncIterator[bytes]:
        """Reads the file in a thread, so that the event loop goes on."""
        pieces = self.pieces()
        while True:
            piece = await asyncio.to_thread(next, pieces, None)
            if piece is None:
                return
            yield piece


@contextlib.contextmanager
def opened(content: Content) -> Iterator[bytes | FileBody]:
    """Opens a file, unless the caller has opened it, and closes it in the end."""
    if isinstance(content, (bytes, bytearray)):
        yield bytes(content)
    elif isinstance(content, (str, os.PathLike)):
        with open(content, "rb") as file:
            yield FileBody.of(file)
    else:
        yield FileBody.of(content)
