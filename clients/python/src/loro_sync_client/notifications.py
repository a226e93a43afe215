"""The check that a notification to a `callback_url` comes from the server."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

from .errors import InvalidSignature


def verify_notification(
    headers: Mapping[str, str],
    body: bytes | str,
    secret: str,
    *,
    tolerance: float = 300.0,
    now: float | None = None,
) -> Any:
    """Checks a notification's signature and age, and returns its JSON as Python values.

    The signature is that of Standard Webhooks. `body` must be the received bytes, unchanged;
    `secret` is the `callback_secret` that the submission returned. `tolerance` is the largest age
    of the notification in seconds, and the most that it may be ahead of this machine's clock; `now`
    replaces the present time, in seconds since 1970. The server may send the same notification more
    than once, with the same `webhook-id`.

    Raises `InvalidSignature` if anything is missing, wrong or too old, and ValueError if the secret
    is not valid.
    """
    key = _key(secret)
    given = {name.lower(): value for name, value in headers.items()}
    try:
        message_id = given["webhook-id"]
        timestamp = given["webhook-timestamp"]
        signatures = given["webhook-signature"]
    except KeyError as error:
        raise InvalidSignature(f"the notification has no header {error.args[0]}") from None
    try:
        sent = int(timestamp)
    except ValueError:
        raise InvalidSignature("the notification's time is not a number") from None
    if abs((time.time() if now is None else now) - sent) > tolerance:
        raise InvalidSignature("the notification is too old, or this machine's clock is wrong")
    content = body.encode() if isinstance(body, str) else body
    signed = f"{message_id}.{timestamp}.".encode(errors="replace") + content
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest())
    # There are several signatures, separated by spaces, while a secret is being replaced.
    for signature in signatures.split():
        version, _, value = signature.partition(",")
        if version == "v1" and hmac.compare_digest(value.encode(errors="replace"), expected):
            return _json(content)
    raise InvalidSignature("the notification's signature is wrong")


def _key(secret: str) -> bytes:
    prefix = "whsec_"
    encoded = secret[len(prefix) :] if secret.startswith(prefix) else secret
    try:
        key = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ValueError("the secret must be whsec_ and base64, as the submission returned it")
    return key


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise InvalidSignature("the notification is not JSON") from error
