"""The proof before the push: the image runs under Docker once and answers the export's fixed requests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from slipway.clients.docker import Docker
from slipway.core.context import Context
from slipway.core.errors import ImageError, SlipwayError, Timeout
from slipway.core.retry import Pending, wait_for
from slipway.core.types import ExportedModel

if TYPE_CHECKING:  # gRPC is imported when an image is asked, not when a command starts
    from slipway_client.client import VersionStatus

PORT = 8500
STARTS_WITHIN = 120.0  # seconds; a cold host first reads 700 MB of libraries from disk
_TAIL = 20


def run_and_ask(ctx: Context, docker: Docker, reference: str, model: ExportedModel) -> int:
    """Start the image locked up as in the cluster, ask every model its fixed requests; returns how many were
    right.

    Raises ImageError when the container ends, never serves a model, or answers a request otherwise
    than the export did. The container is removed and its log kept as evidence whatever happens.
    """
    from slipway_client import requests as fixed
    from slipway_client.check import check
    from slipway_client.connect import connect

    wanted = [(one, fixed.read(one.requests)) for one in model.served]
    name = f"slipway-check-{hashlib.sha256(str(ctx.state.root.resolve()).encode()).hexdigest()[:12]}"
    log = ctx.evidence("image-check.log")
    with docker.running(reference, name, port=PORT, to=PORT):
        try:
            with docker.shell.tunnel("127.0.0.1", PORT) as (host, port), connect(f"{host}:{port}") as client:
                reports = []
                for one, requests in wanted:
                    _wait(docker, name, partial(client.status, one.name), _called(one, model))
                    reports.append((one, check(client, one.name, requests)))
        except ImageError:
            raise
        except SlipwayError as error:
            raise ImageError(
                f"the image's server does not answer as it must: {error.what}",
                where=docker.where,
                tail=error.tail or docker.logs(name, _TAIL),
                action=error.action or "read the container's log",
                evidence=(log,),
            ) from error
        finally:
            ctx.keep_evidence("image-check.log", f"{docker.logs(name)}\n")
    for one, report in reports:
        if report.ok and report.versions == (one.version,):
            continue
        served = ", ".join(map(str, report.versions)) or "none"
        raise ImageError(
            f"the image answers wrongly{_called(one, model)}: of {report.requests} fixed requests "
            f"{report.errors} failed and {report.differences} differ from the export's "
            f"answers (model version {served})",
            where=docker.where,
            tail="\n".join(report.failures),
            action="the image is not pushed; compare the server's and the export's TensorFlow versions",
            evidence=(log,),
        )
    return sum(report.requests for _, report in reports)


def _called(one: ExportedModel, model: ExportedModel) -> str:
    """Which of several models it is, to follow what is said; nothing where there is one."""
    return f" for model {one.name}" if model.beside else ""


def _wait(
    docker: Docker, name: str, status: Callable[[], tuple[VersionStatus, ...]], which: str = ""
) -> None:
    """Until a version is AVAILABLE; a container that has ended is not waited for."""
    from slipway_client.errors import NotReachable, TimedOut

    def attempt() -> None:
        state = docker.state(name)
        if not state.running:
            raise ImageError(
                f"the image's container ended with exit code {state.exit_code} at its start",
                where=docker.where,
                tail=docker.logs(name, _TAIL) or state.error,
                action="the lines above are its log; the whole log is in the run's evidence",
            )
        try:
            versions = status()
        except (NotReachable, TimedOut) as error:
            raise Pending(f"{error.what}\n{docker.logs(name, _TAIL)}") from error
        said = "\n".join(f"version {one.version}: {one.state} {one.error}".rstrip() for one in versions)
        if versions and all(one.state == "END" for one in versions):
            raise ImageError(
                f"the image's server cannot load the model{which.removeprefix(' for model')}",
                where=docker.where,
                tail=said,
                action="the model is not one the server can serve: look at it with `slipway model inspect`",
            )
        if not any(one.state == "AVAILABLE" for one in versions):
            raise Pending(f"{said or 'no version yet'}\n{docker.logs(name, _TAIL)}")

    try:
        wait_for("serving the model", attempt, timeout=STARTS_WITHIN, interval=0.25)
    except Timeout as error:
        raise ImageError(
            f"the image's server did not serve the model{which.removeprefix(' for model')} within "
            f"{STARTS_WITHIN:g} s",
            where=docker.where,
            tail=error.tail,
            action="the lines above are the container's log",
        ) from error
