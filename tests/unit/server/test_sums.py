"""What several processes tell each other: metrics that are added up, and health that is all's."""

from __future__ import annotations

import json

from slipway_server.health import Health
from slipway_server.metrics import Metrics


def made(count: int, latency: float) -> Metrics:
    metrics = Metrics()
    metrics.requests.add("m", "OK", amount=count)
    metrics.request_latency.observe(latency, "m", "Predict", "GRPC")
    return metrics


def test_metrics_are_added_cell_by_cell() -> None:
    one, other = made(3, 15.0), made(4, 2e4)
    other.requests.add("m", "NOT_FOUND")
    other.queuing_latency.observe(150.0, "pool")
    state = json.loads(json.dumps(other.state()))  # as it comes from another process
    wanted = made(7, 15.0)
    wanted.request_latency.observe(2e4, "m", "Predict", "GRPC")
    wanted.requests.add("m", "NOT_FOUND")
    wanted.queuing_latency.observe(150.0, "pool")
    assert one.sum([state]).text() == wanted.text()
    assert one.text() == made(3, 15.0).text()  # and what one process has stays its own


def test_the_sum_of_one_is_itself() -> None:
    metrics = made(3, 15.0)
    assert metrics.sum([]).text() == metrics.text()


def test_health_is_serving_when_all_are() -> None:
    told: list[bool] = []
    health = Health(told.append)
    health.others_serve(False)
    health.serving = True
    assert not health.serving
    assert told == [True]  # of this process alone
    health.others_serve(True)
    assert health.serving
    health.serving = False
    assert not health.serving
    health.serving = True
    health.others_serve(False)
    assert not health.serving
    assert told == [True, False, True]


def test_health_that_is_closed_stays_so() -> None:
    health = Health()
    health.serving = True
    assert health.serving
    health.close()
    health.serving = True
    health.others_serve(True)
    assert not health.serving
