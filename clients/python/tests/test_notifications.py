"""The notifications that are believed, and those that are not."""

from __future__ import annotations

import pytest

from loro_sync_client import InvalidSignature, verify_notification

# The example that the Standard Webhooks libraries are tested with.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"test": 2432232314}'
SENT = 1614265330
HEADERS = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": str(SENT),
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}


def test_a_signed_notification_is_believed() -> None:
    assert verify_notification(HEADERS, BODY, SECRET, now=SENT) == {"test": 2432232314}
    upper = {name.upper(): value for name, value in HEADERS.items()}
    assert verify_notification(upper, BODY.decode(), SECRET[6:], now=SENT + 300) is not None


def test_one_good_signature_of_several_is_enough() -> None:
    several = f"v1a,xyz v1,{'A' * 43}= {HEADERS['webhook-signature']}"
    headers = {**HEADERS, "webhook-signature": several}
    assert verify_notification(headers, BODY, SECRET, now=SENT) is not None


@pytest.mark.parametrize(
    "changed",
    [
        {"webhook-id": "msg_other"},
        {"webhook-id": "müll"},
        {"webhook-timestamp": str(SENT + 1)},
        {"webhook-timestamp": "soon"},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,müll"},
        {"webhook-signature": HEADERS["webhook-signature"].replace("v1,", "v2,")},
        {"webhook-signature": HEADERS["webhook-signature"].replace("v1,", "")},
    ],
)
def test_a_changed_header_is_noticed(changed: dict[str, str]) -> None:
    with pytest.raises(InvalidSignature):
        verify_notification({**HEADERS, **changed}, BODY, SECRET, now=SENT)


@pytest.mark.parametrize("missing", list(HEADERS))
def test_a_missing_header_is_named(missing: str) -> None:
    headers = {name: value for name, value in HEADERS.items() if name != missing}
    with pytest.raises(InvalidSignature, match=missing):
        verify_notification(headers, BODY, SECRET, now=SENT)


def test_a_changed_body_and_another_secret_are_noticed() -> None:
    with pytest.raises(InvalidSignature):
        verify_notification(HEADERS, BODY + b" ", SECRET, now=SENT)
    with pytest.raises(InvalidSignature):
        verify_notification(HEADERS, BODY, "whsec_AAAA", now=SENT)


@pytest.mark.parametrize("now", [SENT + 301, SENT - 301, None])
def test_an_old_notification_is_refused(now: float | None) -> None:
    with pytest.raises(InvalidSignature, match="too old"):
        verify_notification(HEADERS, BODY, SECRET, now=now)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_not base64"])
def test_a_secret_that_is_none_is_the_callers_mistake(secret: str) -> None:
    with pytest.raises(ValueError, match="secret"):
        verify_notification(HEADERS, BODY, secret, now=SENT)
