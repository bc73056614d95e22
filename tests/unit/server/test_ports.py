from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from slipway_server import memory
from slipway_server.memory import MIB, Budget
from slipway_server.server import Ports

AT_REST = 350 * MIB


class Process:
    """A process that keeps what requests had until it is told to give it back."""

    def __init__(self) -> None:
        self.models, self.kept, self.told = AT_REST, 0, 0

    def resident(self) -> int:
        return self.models + self.kept

    def give_back(self) -> None:
        self.kept, self.told = 0, self.told + 1


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Process:
    process = Process()
    monkeypatch.setattr(memory, "resident", process.resident)
    monkeypatch.setattr(memory, "give_back", process.give_back)
    return process


def ports(process: Process, arrivals: int = 0) -> Ports:
    made = Ports.__new__(Ports)
    made._body, made._available, made._library = 8 * MIB, 1024 * MIB, 64 * MIB
    made.budget = Budget(0, process.resident(), process.resident)
    made._grpc = SimpleNamespace(arrivals=arrivals)  # type: ignore[assignment]
    return made


def test_what_is_kept_of_earlier_requests_is_not_taken_for_the_models(process: Process) -> None:
    server = ports(process)
    process.kept = 140 * MIB
    asyncio.run(server.measure())
    assert server.budget.at_rest == AT_REST
    assert process.told == 1


def test_a_model_that_came_is(process: Process) -> None:
    server = ports(process)
    process.models += 200 * MIB
    asyncio.run(server.measure())
    assert server.budget.at_rest == AT_REST + 200 * MIB
    # room is left for all of the library, however much of it is in memory now
    found = memory.limits(8 * MIB, 1024 * MIB, AT_REST + 264 * MIB)
    assert server.budget.total == found.requests


def test_a_server_at_rest_is_left_alone(process: Process) -> None:
    server = ports(process)
    asyncio.run(server.measure())
    assert process.told == 0


@pytest.mark.parametrize("busy", ["claims", "arrivals"])
def test_nothing_is_learned_while_requests_are_under_way(process: Process, busy: str) -> None:
    server = ports(process, arrivals=busy == "arrivals")
    server.budget.claimed = busy == "claims"
    process.kept = 140 * MIB
    asyncio.run(server.measure())
    assert (server.budget.at_rest, process.told) == (AT_REST, 0)
