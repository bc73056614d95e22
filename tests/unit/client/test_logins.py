"""What of a text may be told."""

from __future__ import annotations

import pytest
from slipway.core.errors import CommandError, SlipwayError
from slipway_client.logins import holds_login, without_logins

MASKED = [
    ("http://joe:s3cret@proxy:3128", "http://***@proxy:3128"),
    ("cannot reach https://joe:s3cret@mirror.example/debian/a@b: refused", None),
    ("http://joe:s3@cret@proxy:3128/", "http://***@proxy:3128/"),
    ("http://joe:s3/cret@proxy", "http://***@proxy"),
    ("http://joe:s3cret@[::1]:3128/", "http://***@[::1]:3128/"),
    ("http://joe:p%40s3cret@proxy", "http://***@proxy"),
    ("index-url = https://__token__:s3cret@index.example/simple", None),
    ("https://s3cret@index.example/simple", "https://***@index.example/simple"),
    ("a (http://joe:s3cret@one:1, http://joe:s3cret@two:2)", "a (http://***@one:1, http://***@two:2)"),
    ("proxy joe:s3cret@proxy:3128 does not answer", "proxy ***@proxy:3128 does not answer"),
    ("socks5h://joe:s3cret@proxy", "socks5h://***@proxy"),
    ("['http://joe:s3cret@proxy']", "['http://***@proxy']"),
    ('"HTTP_PROXY=http://joe:s3cret@proxy"', '"HTTP_PROXY=http://***@proxy"'),
    ("Proxy-Authorization: Basic am9lOnMzY3JldA==", "Proxy-Authorization: Basic ***"),
    ("{'Authorization': 'Bearer s3cret'}", "{'Authorization': 'Bearer ***'}"),
    ('{"auths": {"r:5000": {"auth": "am9lOnMzY3JldA=="}}}', '{"auths": {"r:5000": {"auth": "***"}}}'),
]
TOLD = [
    "http://proxy:3128/a@b",
    "https://proxy.example/github.com/user/@v/v1.0.0.zip",
    "https://host/a:b/c@d",
    "https://host:443/c@d and http://host:80, c@d",
    "http://[::1]:80/x@y",
    "10.77.0.2:5000/slipway/mnist:1@sha256:0123456789abcdef",
    "kubernetes-admin@kubernetes",
    "cp: root@10.77.0.2:22 refuses the login",
    "git@github.com:owner/name",
    "file:///home/joe@work/.slipway/pulumi",
    "Basic authentication is asked for",
    "",
]


@pytest.mark.parametrize(("text", "told"), MASKED)
def test_a_login_is_masked_wherever_it_stands(text: str, told: str | None) -> None:
    masked = without_logins(text)
    for secret in ("s3", "cret", "joe", "am9l"):
        assert secret not in masked
    assert told is None or masked == told
    assert without_logins(masked) == masked
    assert holds_login(text)


@pytest.mark.parametrize("text", TOLD)
def test_what_is_no_login_is_told_whole(text: str) -> None:
    assert without_logins(text) == text
    assert not holds_login(text)


def test_an_error_never_holds_one() -> None:
    address = "http://joe:s3cret@mirror"
    error = SlipwayError(f"{address} is out", where=address, tail=f"GET {address}", action=f"ask {address}")
    assert "s3cret" not in " ".join([str(error), error.in_one_line(), *error.lines()])
    assert error.what == "http://***@mirror is out"
    failed = CommandError(("curl", address), 7, f"no route to {address}")
    assert "s3cret" not in " ".join([str(failed), *failed.lines()])
