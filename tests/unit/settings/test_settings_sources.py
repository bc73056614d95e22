"""What of a settings file's words may be shown."""

from __future__ import annotations

import pytest
from slipway.settings.sources import without_login

SHOWN = [
    ("http://joe:s@cret@proxy:3128", "http://***@proxy:3128"),
    ("http://joe:sec/ret@proxy", "http://***@proxy"),
    ("http://joe:sec ret@proxy", "http://***@proxy"),
    ("http://token@proxy/mnist/", "http://***@proxy/mnist/"),
    ("http:///joe:secret@proxy", "http://***@proxy"),
    ("http:/joe:secret@proxy", "***@proxy"),
    ("joe:secret@proxy:3128", "***@proxy:3128"),
    (":secret@proxy", "***@proxy"),
    ("joe:sec/ret@proxy", "***@proxy"),
    (repr("joe:secret@proxy"), "'***@proxy'"),
    (repr("http://joe:sec/ret@proxy"), "'http://***@proxy'"),
    (repr(["http://joe:sec/ret@proxy"]), "['http://***@proxy']"),
]
PLAIN = [
    "http://proxy:3128",
    "https://h/a:b/",
    "kubernetes-admin@kubernetes",
    "joe@example.com",
    "10.0.0.1:5000",
    "",
]


@pytest.mark.parametrize(("text", "shown"), SHOWN)
def test_a_login_is_hidden_however_badly_the_address_is_written(text: str, shown: str) -> None:
    assert without_login(text) == shown


@pytest.mark.parametrize("text", PLAIN)
def test_what_holds_no_password_is_shown_whole(text: str) -> None:
    assert without_login(text) == text
