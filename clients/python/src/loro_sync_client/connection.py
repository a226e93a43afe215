"""The server's address and the client's token."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx

#: The server's address, unless the caller or the environment gives another.
DEFAULT_URL = "http://localhost:8787"


@dataclass(frozen=True)
class Connection:
    """The server's address and the token; no repr and no message contains the token."""

    base_url: httpx.URL
    token: str | None = field(repr=False)

    @classmethod
    def of(cls, base_url: str | None, token: str | None) -> Connection:
        """Takes the given values, else the environment's, else `DEFAULT_URL` and no token.

        Raises ValueError if the address is not an http(s) URL, or the token is not a valid one.
        """
        address = base_url or os.environ.get("SYNC_SERVER_URL") or DEFAULT_URL
        try:
            url = httpx.URL(address.strip())
        except httpx.InvalidURL as error:
            raise ValueError(f"the server's address is not a URL: {error}") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError(
                f"the server's address must be an http(s) URL such as {DEFAULT_URL}, not {url!r}"
            )
        if token is None:
            token = os.environ.get("SYNC_SERVER_TOKEN")
        token = (token or "").strip()
        if not is_visible_ascii(token):
            raise ValueError("the token must consist of visible ASCII characters")
        return cls(url, token or None)

    def headers(self) -> Mapping[str, str]:
        """Returns the headers of every request."""
        headers = {"Accept": "application/json"}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        return headers


def is_visible_ascii(text: str) -> bool:
    """Returns whether the text is visible ASCII without spaces, so that a header can carry it."""
    return all("!" <= character <= "~" for character in text)
