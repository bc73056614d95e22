"""Every replica by name: the requests over gRPC, some again over REST, Predict against Classify.

Of many replicas each is asked a sample over gRPC, and enough failures end the asking.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from slipway_client.check import Report, carried, check, methods_agree, sample, selection, unlike
from slipway_client.client import Answer, Client
from slipway_client.connect import connect
from slipway_client.interface import Transport
from slipway_client.requests import FixedRequest

from slipway.core.errors import SlipwayError
from slipway.core.schema import SmokeSettings
from slipway.core.types import Replica
from slipway.smoke.access import OPEN, Access
from slipway.smoke.reach import Reach

READY_SECONDS = 20.0  # a pod is Ready before it is asked; this is for one that has just stopped being so
AT_ONCE = 8
# Where there are many: the proof has failed anyway, and what does not answer costs its time
ENOUGH_FAILED = 50
READY_SECONDS_OF_MANY = 5.0

Sampled = list[tuple[FixedRequest, Answer]]


@dataclass(frozen=True)
class Tried:
    """What one replica did. error: why it could not be asked everything. methods and transports: how many
    requests were asked both ways; the disagreements are empty if both ways gave the same. not_over_rest: what
    kept others from being asked over REST."""

    replica: Replica
    report: Report | None = None
    error: str = ""
    methods: int = 0
    methods_disagree: str = ""
    transports: int = 0
    transports_disagree: str = ""
    not_over_rest: str = ""
    sampled: Sampled | None = None


def ask_all(
    way: Reach,
    replicas: Sequence[Replica],
    model: str,
    requests: Sequence[FixedRequest],
    settings: SmokeSettings,
    *,
    access: Access = OPEN,
) -> tuple[Tried, ...]:
    """Ask every replica, several at once. One that cannot be asked does not keep others from being asked."""

    def one(replica: Replica) -> Tried:
        return ask_one(way, replica, model, requests, settings, access=access)

    return _each(one, replicas)


def ask_many(
    way: Reach,
    replicas: Sequence[Replica],
    model: str,
    requests: Sequence[FixedRequest],
    settings: SmokeSettings,
    *,
    access: Access = OPEN,
) -> tuple[Tried, ...]:
    """Ask every replica for its version and the same `smoke.sample` answers, several at once.

    Once ENOUGH_FAILED have failed, the others are not asked, and say so.
    """
    asked = selection(requests, settings.sample)
    guard = threading.Lock()
    failed = 0

    def one(replica: Replica) -> Tried:
        nonlocal failed
        if failed >= ENOUGH_FAILED:
            count = f"{ENOUGH_FAILED} replica{'s' * (ENOUGH_FAILED > 1)}"
            return Tried(replica, error=f"not asked: {count} had failed before")
        tried = _ask_briefly(way, replica, model, asked, settings, access=access)
        if tried.error or tried.report is None or not tried.report.ok:
            with guard:
                failed += 1
        return tried

    return _each(one, replicas)


def _each(one: Callable[[Replica], Tried], replicas: Sequence[Replica]) -> tuple[Tried, ...]:
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        return tuple(pool.map(one, replicas))


def _ask_briefly(
    way: Reach,
    replica: Replica,
    model: str,
    asked: Sequence[FixedRequest],
    settings: SmokeSettings,
    *,
    access: Access,
) -> Tried:
    """The sample over gRPC; what has no recorded answer is kept, to be compared with other replicas'."""
    tried = Tried(replica)
    try:
        with contextlib.ExitStack() as open_ways:
            grpc = _client(open_ways, way, replica, "grpc", timeout=settings.timeout, access=access)
            report = check(grpc, model, asked, ready_timeout=READY_SECONDS_OF_MANY)
            tried = replace(tried, report=report)
            unknown = [request for request in asked if request.recorded is None or request.forms]
            if unknown and not report.errors:
                tried = replace(tried, sampled=sample(grpc, model, unknown))
    except SlipwayError as error:
        return replace(tried, error=error.in_one_line())
    return tried


def ask_one(
    way: Reach,
    replica: Replica,
    model: str,
    requests: Sequence[FixedRequest],
    settings: SmokeSettings,
    *,
    access: Access = OPEN,
) -> Tried:
    """Ask one replica everything; what fails is in the result, not raised."""
    tried = Tried(replica)
    with contextlib.ExitStack() as open_ways:
        try:
            grpc = _client(open_ways, way, replica, "grpc", timeout=settings.timeout, access=access)
            report = check(
                grpc,
                model,
                selection(requests, settings.num_tests),
                concurrency=settings.concurrency,
                ready_timeout=READY_SECONDS,
            )
            tried = replace(tried, report=report)
            if report.errors:  # it fails its gate already; asking on would only wait for more deadlines
                return tried
            asked, found = methods_agree(grpc, model, requests)
            tried = replace(tried, methods=asked, methods_disagree=found)
            ours = sample(grpc, model, requests)
            tried = replace(tried, sampled=ours)
            if replica.rest_port:
                rest = _client(open_ways, way, replica, "rest", timeout=settings.timeout, access=access)
                both, why = carried(grpc, model, ours)
                again = sample(rest, model, [request for request, _ in both])
                found = unlike(again, both, "over gRPC")
                tried = replace(
                    tried,
                    transports=len(both),
                    transports_disagree=f"over REST: {found}" if found else "",
                    not_over_rest=why,
                )
        except SlipwayError as error:
            # without its address, which is a tunnel's
            return replace(tried, error=error.in_one_line())
    return tried


def _client(
    open_ways: contextlib.ExitStack,
    way: Reach,
    replica: Replica,
    transport: Transport,
    *,
    timeout: float,
    access: Access,
) -> Client:
    port = replica.grpc_port if transport == "grpc" else replica.rest_port
    host, local = open_ways.enter_context(way.to(replica, port))
    client = connect(f"{host}:{local}", transport, timeout=timeout, tls=access.tls, token=access.token)
    return open_ways.enter_context(client)


def odd_ones_out(tried: Sequence[Tried]) -> dict[str, str]:
    """Pod -> how its sample of answers differs from that of the first replica that has one."""
    known = [one for one in tried if one.sampled]
    out = {}
    for one in known[1:]:
        found = unlike(one.sampled or [], known[0].sampled or [], f"from pod {known[0].replica.pod}")
        if found:
            out[one.replica.pod] = found
    return out
