"""The search for secrets finds each form of one, and nothing where there is none."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest

from tests.canaries import holds

SECRET = "canary/7f3a@b c~ÿ"


@pytest.mark.parametrize("user", ["", "a:", "ab:", "abc:", "slipway:"])
@pytest.mark.parametrize("after", ["", "\n", "xy", "xyz"])
def test_base64_at_every_alignment(user: str, after: str) -> None:
    whole = f"{user}{SECRET}{after}".encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        assert holds(b'{"auth": "' + encode(whole) + b'"}', SECRET)
        assert not holds(encode(whole.replace(b"7f3a", b"7f3b")), SECRET)


@pytest.mark.parametrize(
    "form", [SECRET, quote(SECRET, safe=""), f"http://bob:{quote(SECRET, safe='')}@proxy"]
)
def test_plain_and_in_addresses(form: str) -> None:
    assert holds(f"x{form}y".encode(), SECRET)
    assert not holds(form.replace("7f3a", "").encode(), SECRET)
