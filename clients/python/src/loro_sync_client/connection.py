"""Where the server is, and who we are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx

#: Where the server is unless somebody says otherwise.
DEFAULT_URL = "http://localhost:8787"


@dataclass(frozen=True)
class Connection:
    """The server's address and our token; the token is in no repr and in no message."""

    base_url: httpx.URL
    token: str | None = field(repr=False)

    @classmethod
    def of(cls, base_url: str | None, token: str | None) -> Connection:
        """What is given; else the environment; else `DEFAULT_URL`, and no token.

        Raises ValueError where the address is no http(s) URL, or the token cannot be one.
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
            raise ValueError("the token has characters that no token has")
        return cls(url, token or None)

    def headers(self) -> Mapping[str, str]:
        """What every request carries."""
        headers = {"Accept": "application/json"}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        return headers


def is_visible_ascii(text: str) -> bool:
    """Whether a header can carry it, without spaces."""
    return all("!" <= character <= "~" for character in text)
