"""The signing key of Google's repository: only the pinned one, and only while it is valid."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from slipway.core import process
from slipway.core.process import Completed
from slipway.image import build_context

SCRIPT = Path(build_context.__file__).with_name(build_context.TENSORFLOW_SCRIPT)
PINNED = "916E2B2FEBC274930BACA9D9544B7F63BF9E4D5F"
DAY = 86400
Check = Callable[..., Completed]


def listing(fingerprint: str = PINNED, expires: str = "", keys: int = 1) -> str:
    """What `gpg --with-colons --show-keys` prints, as recorded from a real key."""
    one = (
        f"pub:-:2048:1:{fingerprint[-16:]}:1500000000:{expires}::-:::scSC::::::23::0:\n"
        f"fpr:::::::::{fingerprint}:\n"
        "uid:-::::1500000000::HASH::TensorFlow Serving Developers <x@example.com>::::::::::0:\n"
        "sub:-:2048:1:ABCDEF0123456789:1500000000::::::e::::::23:\n"
        "fpr:::::::::0000000000000000000000000000000000000000:\n"
    )
    return one * keys


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    def run(text: str, code: int = 0) -> Completed:
        (tmp_path / "listing").write_text(text)
        (tmp_path / "gpg").write_text(f'#!/bin/sh\ncat "{tmp_path}/listing"\nexit {code}\n')
        (tmp_path / "gpg").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        return process.run(["sh", SCRIPT, "/unused", tmp_path / "listing"], check=False, timeout=20)

    return run


def test_the_pinned_key_is_taken(check: Check) -> None:
    assert check(listing()).returncode == 0
    far = check(listing(expires=str(int(time.time()) + 100 * DAY)))
    assert (far.returncode, far.stderr) == (0, "")


def test_a_key_that_expires_soon_is_warned_of(check: Check) -> None:
    done = check(listing(expires=str(int(time.time()) + 10 * DAY)))
    assert done.returncode == 0 and "expires on" in done.stderr


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        (listing("F" * 40), 0, "not the pinned"),
        (listing(expires="1700000000"), 0, "expired on 2023-11-14"),
        (listing(keys=2), 0, "another number of keys"),
        ("", 0, "another number of keys"),
        (listing(), 2, "cannot be read"),
    ],
    ids=["wrong fingerprint", "expired", "two keys", "no key", "gpg fails"],
)
def test_any_other_key_is_refused_with_the_reason(check: Check, text: str, code: int, said: str) -> None:
    done = check(text, code)
    assert done.returncode == 1
    assert said in done.stderr
