"""What a pod's state means, without a cluster."""

from __future__ import annotations

from typing import Any

import pytest
from slipway.clients.pods import Fault, Lasting, container_faults, is_over, why_not_ready

PULL = Fault("pull", "the image cannot be pulled (ErrImagePull)", "p", "n", "c")


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    status = [{"name": "c", "state": {"waiting": {"reason": reason, "message": message}}}]
    return {
        "metadata": {"name": "p"},
        "spec": {},
        "status": {"phase": "Pending", "containerStatuses": status},
    }


NOT_READY: list[tuple[dict[str, Any], str]] = [
    ({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}, ""),
    ({"phase": "Failed", "reason": "Evicted", "message": "The node was low. "}, "Evicted: The node was low."),
    (
        {
            "conditions": [
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3"}
            ]
        },
        "Unschedulable: 0/3",
    ),
    ({"conditions": [{"type": "Ready", "status": "False"}]}, "Ready is False"),
    ({"phase": "Pending"}, "Pending"),
]


@pytest.mark.parametrize(("status", "expected"), NOT_READY)
def test_why_a_pod_is_not_ready(status: dict[str, Any], expected: str) -> None:
    assert why_not_ready({"status": status}) == expected


def test_a_container_that_waits_is_named_with_its_reason() -> None:
    assert why_not_ready(waiting("ErrImagePull", "no such host")) == "container c: ErrImagePull: no such host"


def test_a_pod_that_leaves_is_over() -> None:
    pod = {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": "Running"}}
    assert is_over(pod)
    assert not is_over({**pod, "metadata": {}})


@pytest.mark.parametrize("message", ["not found", "Manifest Unknown", "x509: unknown authority"])
def test_what_no_second_pull_changes_is_final_at_once(message: str) -> None:
    found = container_faults(waiting("ErrImagePull", message))
    assert [fault.kind for fault in found] == ["pull for good"]
    assert Lasting().final(found, 0.0) == found


@pytest.mark.parametrize(
    "message", ["authorization failed: no basic auth credentials", "pull access denied", "401 Unauthorized"]
)
def test_a_refused_login_is_given_the_second_pull_that_has_the_secret(message: str) -> None:
    found = container_faults(waiting("ErrImagePull", message))
    lasting = Lasting()
    assert lasting.final(found, 0.0) == []
    assert lasting.final(container_faults(waiting("ImagePullBackOff", message)), 24.0) == []
    assert [fault.kind for fault in lasting.final(found, 25.0)] == ["pull"]


def test_what_may_pass_is_final_once_it_has_lasted() -> None:
    lasting = Lasting()
    assert lasting.final([PULL], 0.0) == []
    assert lasting.final([PULL], 24.9) == []
    assert lasting.final([PULL], 25.0) == [PULL]
    assert lasting.final([], 26.0) == []  # it went away: it starts anew
    assert lasting.final([PULL], 27.0) == []


def test_starting_is_no_fault() -> None:
    assert container_faults(waiting("ContainerCreating")) == []
