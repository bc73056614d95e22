"""Whether a place answers: one question, a limit on the whole of it, remembered."""

from __future__ import annotations

import socket
import threading

import pytest
from slipway.artifacts import answers


def test_an_answer_is_remembered(stand_in) -> None:
    assert answers.silence(stand_in.url + "/x") == ""
    assert answers.silence(stand_in.url + "/x") == ""
    assert len(stand_in.asked) == 1


def test_a_registry_that_asks_for_a_token_answers(stand_in) -> None:
    stand_in.status = [401]
    assert answers.silence(stand_in.url + "/v2/") == ""


@pytest.mark.parametrize("status", [403, 404, 502])
def test_a_refusal_is_no_answer(stand_in, status: int) -> None:
    stand_in.status = [status]
    assert answers.silence(stand_in.url) == f"127.0.0.1 answers HTTP {status}"


def test_a_port_that_accepts_and_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        assert "127.0.0.1 does not answer" in answers.silence(url, limit=0.05)
        assert "127.0.0.1 does not answer" in answers.silence(url)  # remembered: not asked for 5 s again


def test_a_resolver_that_hangs_does_not_hang_us(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    def hang(*_args: object, **_more: object) -> None:
        ended.wait()
        raise OSError("never")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    assert "nothing within 0.05 s" in answers.silence("http://slow.invalid/", limit=0.05)
    ended.set()


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        url = f"http://127.0.0.1:{one.getsockname()[1]}"
    assert "Connection refused" in answers.silence(url)
