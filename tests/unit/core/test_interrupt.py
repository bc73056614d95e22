"""Threads that are told to end: each once, wherever it waits."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator

import pytest
from slipway.core import interrupt
from slipway.core.interrupt import Cancelled, Interrupt, in_force, signals
from slipway.core.retry import Pending, wait_for

LONG = 60  # seconds; never waited for where all is well


def ended_by(act: Callable[[], object], wish: Interrupt, *, once: threading.Event | None = None) -> list[str]:
    """What a thread says of its end, which is wished for as soon as `once` is set."""
    said: list[str] = []

    def runs() -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001  # looked at by the test
            said.append(type(error).__name__)

    with in_force(wish):
        thread = threading.Thread(target=runs)
        thread.start()
        if once is not None:
            assert once.wait(LONG)
            wish.ask()
        thread.join(LONG)
    assert not thread.is_alive()
    return said


def test_a_pause_ends_when_it_is_asked_for() -> None:
    begun = threading.Event()

    def act() -> None:
        begun.set()
        interrupt.pause(LONG)

    assert ended_by(act, Interrupt(), once=begun) == ["Cancelled"]


def test_waiting_for_something_to_come_true_ends_too() -> None:
    begun = threading.Event()

    def attempt() -> None:
        begun.set()
        raise Pending("not yet")

    assert ended_by(
        lambda: wait_for("it", attempt, timeout=LONG, interval=LONG - 1), Interrupt(), once=begun
    ) == ["Cancelled"]


def test_a_thread_is_told_once_and_again_when_it_is_asked_again() -> None:
    wish = Interrupt()
    wish.ask()

    def act() -> None:
        with pytest.raises(Cancelled):
            interrupt.check()
        interrupt.check()  # clears up
        assert interrupt.until(lambda seconds: True, LONG)
        wish.ask()
        interrupt.check()

    assert ended_by(act, wish) == ["Cancelled"]


def test_a_wait_tells_whether_it_happened() -> None:
    told: list[bool] = []
    happened = threading.Event()

    def act() -> None:
        told.append(interrupt.until(happened.wait, 0))
        happened.set()
        told.append(interrupt.until(happened.wait, None))

    assert ended_by(act, Interrupt()) == []
    assert told == [False, True]


def test_the_main_thread_and_a_process_without_a_run_heed_none() -> None:
    wish = Interrupt()
    wish.ask()
    with in_force(wish):
        interrupt.check()
        interrupt.pause(0)
    thread = threading.Thread(target=interrupt.check)
    thread.start()
    thread.join(LONG)


@pytest.fixture
def handlers() -> Iterator[None]:
    """Python's own, whatever started these tests or other tests made of them."""
    before = [
        (number, signal.signal(number, handler))
        for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL))
    ]
    yield
    for number, handler in before:
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_signals_are_heard_in_the_place_of_an_exception_and_put_back() -> None:
    heard: list[str] = []
    with signals(lambda: heard.append("one")):
        signal.raise_signal(signal.SIGINT)
        # it ends a process that did not ask for it, as ever
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert heard == ["one"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
