"""Bearer tokens of a file."""

from __future__ import annotations

import hmac
from pathlib import Path

import pytest
from slipway_client.errors import UsageError
from slipway_server.codes import Code, StatusError
from slipway_server.tokens import Tokens

FIRST, SECOND = "0123456789abcdef", "fedcba9876543210-._~+/=="


def let_in(tokens: Tokens, authorization: str) -> bool:
    try:
        tokens.check(authorization)
    except StatusError as error:
        assert error.code is Code.UNAUTHENTICATED
        assert FIRST not in error.message
        return False
    return True


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(f"{FIRST}\n\n  {SECOND}\n")
    return path


def test_any_of_the_tokens_is_good(file: Path) -> None:
    tokens = Tokens(file)
    assert all(let_in(tokens, f"{word} {one}") for word in ("Bearer", "bearer") for one in (FIRST, SECOND))
    for header in (
        "",
        FIRST,
        f"Basic {FIRST}",
        "Bearer",
        f"Bearer {FIRST[:-1]}",
        f"Bearer {FIRST}f",
        "Bearer \xff",
    ):
        assert not let_in(tokens, header), header


def test_every_token_is_compared_whatever_is_sent(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[tuple[int, int]] = []
    compare = hmac.compare_digest

    def counted(one: bytes, other: bytes) -> bool:
        lengths.append((len(one), len(other)))
        return compare(one, other)

    tokens = Tokens(file)
    monkeypatch.setattr(hmac, "compare_digest", counted)
    for given in (FIRST, SECOND, "x", "x" * 1000):
        let_in(tokens, f"Bearer {given}")
    assert lengths == [(32, 32)] * 8


def test_other_tokens_are_taken_up_and_what_is_none_is_not(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens = Tokens(file)
    file.write_text(SECOND)
    tokens.look()
    assert not let_in(tokens, f"Bearer {FIRST}")
    assert let_in(tokens, f"Bearer {SECOND}")
    for text in ("", "short", f"{SECOND}\ntwo words"):
        file.write_text(text)
        tokens.look()
        assert let_in(tokens, f"Bearer {SECOND}")
    file.unlink()
    tokens.look()
    tokens.look()
    assert let_in(tokens, f"Bearer {SECOND}")
    told = capsys.readouterr().err
    assert told.count("tokens_refused") == 4
    assert told.count("tokens_taken_up") == 1
    assert FIRST not in told
    assert SECOND not in told


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no token"),
        ("\n\n", "holds no token"),
        (f"{FIRST}\nshort", ":2: expected a token of at least"),
    ],
)
def test_a_bad_file_is_refused_in_words(file: Path, text: str, words: str) -> None:
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        Tokens(file)
    assert words in " ".join(caught.value.lines())
