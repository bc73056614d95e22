from __future__ import annotations

import io
from urllib.error import URLError

import pytest
from slipway.clients import public_address
from slipway.core.errors import EnvironmentFault


def test_the_address_is_what_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public_address, "urlopen", lambda *_, **__: io.BytesIO(b"203.0.113.7\n"))
    assert public_address.seen() == "203.0.113.7"


@pytest.mark.parametrize("told", [b"<html>", b"", b"2001:db8::1", b"\xff", b"203.0.113.7 203.0.113.8"])
def test_what_is_no_address_opens_nothing(told: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public_address, "urlopen", lambda *_, **__: io.BytesIO(told))
    with pytest.raises(EnvironmentFault) as caught:
        public_address.seen()
    assert "hosts.allow" in caught.value.action


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> object:
        raise URLError("connection refused")

    monkeypatch.setattr(public_address, "urlopen", refused)
    with pytest.raises(EnvironmentFault, match="connection refused"):
        public_address.seen()
