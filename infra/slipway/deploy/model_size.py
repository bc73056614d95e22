"""Whether a model fits into the memory that its replicas are given, asked before anything is deployed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from slipway.clients.kubectl import Manifest
from slipway.core.errors import UsageError
from slipway.core.setting_types import bytes_of
from slipway.core.types import ExportedModel

_MIB = 1 << 20
# Measured: the portable server has 338 MB resident with a model of one number and 764 MB with one of 400 MB,
# and no more at its peak. A model takes as much as its files, once.
_AT_REST = {"portable": 320 * _MIB, "tensorflow": 0}
_FOR_REQUESTS = 192 * _MIB  # what the portable server's own limits want (docs/model_server.md)
_BESIDE_MODELS = 1 << 30  # of a limit; the stack's default, which fits models of a few megabytes


def size_of(models: Iterable[ExportedModel]) -> int:
    """Bytes of what a server loads of these models: graphs and variables. 0 where the files are not here."""
    return sum(
        path.stat().st_size
        for model in models
        for path in (*model.path.glob("saved_model.pb*"), *model.path.glob("variables/*"))
        if path.is_file()
    )


def require_room(manifests: Sequence[Manifest], model: ExportedModel, server: str) -> str:
    """What is to be said of the limit where little is left for requests; empty if there is enough.

    Raises UsageError, with the setting and a figure, where not even the models fit.
    """
    limit = _limit(manifests)
    size = size_of(model.served)
    left = limit - size - _AT_REST[server] if limit else _FOR_REQUESTS
    if left >= _FOR_REQUESTS:
        return ""
    names = " and ".join(one.name for one in model.served)
    takes = f"{names} take{'s' * (len(model.served) == 1)} {size / _MIB:,.0f} MiB of memory"
    wanted = f"deploy.memory_limit: {_in_words(size + _BESIDE_MODELS)}"
    if left < 0:
        raise UsageError(
            f"{takes}, the server beside {'them' if len(model.served) > 1 else 'it'} "
            f"{_AT_REST[server] // _MIB} MiB; a replica is ended at {limit / _MIB:,.0f} MiB",
            where="deploy.memory_limit",
            action=f"set {wanted}, and deploy.memory_request: {_in_words(size + _BESIDE_MODELS // 2)}",
        )
    return (
        f"{takes} of {limit / _MIB:,.0f} MiB, which leaves {left / _MIB:,.0f} MiB for requests; "
        f"{wanted} leaves more"
    )


def _limit(manifests: Sequence[Manifest]) -> int:
    """Bytes at which the server's container is ended; 0 without a limit."""
    for item in manifests:
        if item["kind"] == "Deployment":
            container = item["spec"]["template"]["spec"]["containers"][0]
            return bytes_of(str(container.get("resources", {}).get("limits", {}).get("memory", "0")))
    return 0


def _in_words(size: int) -> str:
    """A size as a setting takes it, rounded up to 256 MiB."""
    steps = -(-size // (256 * _MIB))
    return f"{steps // 4}Gi" if steps % 4 == 0 else f"{steps * 256}Mi"
