from __future__ import annotations

from collections.abc import Iterator

import pytest
from slipway.core.errors import HostError, SlipwayError, Timeout
from slipway.core.retry import Pending, wait_for


def test_returns_the_first_answer() -> None:
    answers: Iterator[Pending | int] = iter([Pending("cold"), Pending("warm"), 7])

    def attempt() -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert wait_for("seven", attempt, timeout=5, interval=0) == 7


def test_a_timeout_is_a_failure_with_the_last_reason() -> None:
    def attempt() -> None:
        raise Pending("2 of 3 ready")

    with pytest.raises(Timeout, match=r"ready pods did not happen within 0\.01 s") as caught:
        wait_for("ready pods", attempt, timeout=0.01, interval=0.02)
    assert caught.value.tail == "2 of 3 ready"


def test_other_errors_end_the_wait_at_once() -> None:
    calls = []

    def attempt() -> None:
        calls.append(1)
        raise HostError("wrong key")

    with pytest.raises(HostError):
        wait_for("login", attempt, timeout=60)
    assert len(calls) == 1


def test_listed_errors_are_retried_and_told_whole() -> None:
    def attempt() -> None:
        raise SlipwayError("refused", where="cp", tail="port 22")

    with pytest.raises(Timeout) as caught:
        wait_for("login", attempt, timeout=0, interval=0.01, retry_on=(SlipwayError,))
    assert "cp: refused" in caught.value.tail
    assert "port 22" in caught.value.tail
