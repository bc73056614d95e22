"""What the bench says a play spends its time on, of events as ansible-runner tells them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bench.play_profile import Profile


def event(task: str, begin: int, end: int, kind: str = "ok", **result: Any) -> dict[str, Any]:
    moment = "2026-11-26T20:00:{:02}.000000"
    data = {"task": task, "task_uuid": task, "start": moment.format(begin), "end": moment.format(end)}
    return {"event": f"runner_on_{kind}", "event_data": {**data, "res": result}}


def seen(*events: dict[str, Any]) -> Profile:
    profile = Profile()
    for each in events:
        profile.take(each)
    return profile


ASKED: dict[str, Any] = {"invocation": {"module_args": {}}}


def test_each_task_of_each_host_counts_once_and_a_loop_as_one() -> None:
    item = event("write", 1, 2) | {"event": "runner_item_on_ok"}
    assert seen(event("write", 1, 2), item, event("write", 1, 3, "skipped")).results == 2


def test_hosts_beside_each_other_are_one_time_and_gaps_are_none() -> None:
    events = [event("a", 0, 4, **ASKED), event("a", 1, 3, **ASKED), event("b", 10, 12, results=[ASKED])]
    assert seen(*events).in_modules() == 6.0


@pytest.mark.parametrize("result", [{}, {"msg": "All assertions passed"}, {"results": [{"skipped": True}]}])
def test_what_runs_on_no_host_is_overhead(result: dict[str, Any]) -> None:
    assert seen(event("assert", 0, 4, **result)).in_modules() == 0.0


def test_a_module_with_a_secret_counts() -> None:
    assert seen(event("log in", 0, 4, censored="hidden")).in_modules() == 4.0


def test_the_slowest_tasks_from_the_first_host_to_the_last() -> None:
    profile = seen(event("fast", 0, 1), event("slow", 1, 4), event("slow", 2, 7, "failed"))
    assert profile.slowest(1) == {"slow": 6.0}
    assert list(profile.slowest(9)) == ["slow", "fast"]
