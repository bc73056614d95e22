"""Artifacts: the things from outside that slipway builds on, pinned, checked and cached.

In: settings (`artifacts.sources`, `site`), artifacts.lock and modules/*/go.sum. Out: paths of files that
were checked against a pin or signature and against what was recorded when they were cached.
Never here: a hash taken from the download it is to check, a file used before its check, anything that runs
on a host.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from slipway.artifacts import from_modules, from_release
from slipway.artifacts.pip_wheels import wheels
from slipway.artifacts.products import product
from slipway.artifacts.tensorflow_serving import tensorflow_server, tensorflow_server_key
from slipway.artifacts.values import BaseImage, KubernetesArtifacts, SourceName
from slipway.core.context import Context
from slipway.core.errors import ArtifactError, NotCached, SlipwayError
from slipway.core.events import Note
from slipway.core.schema import Settings

__all__ = [
    "BaseImage",
    "KubernetesArtifacts",
    "base_image",
    "cached_pulumi",
    "containerd",
    "kubernetes",
    "product",
    "pulumi",
    "tensorflow_server",
    "tensorflow_server_key",
    "wheels",
]

T = TypeVar("T")


def kubernetes(ctx: Context, settings: Settings) -> KubernetesArtifacts:
    """Kubernetes' node programs and images from the first of `artifacts.sources` that has them.

    What is cached whole is used before any network is asked, so a second run neither waits nor changes.
    Raises the last source's error, with those of the others in its tail.
    """
    return _first(
        ctx,
        settings,
        "Kubernetes",
        {
            "release": lambda network: from_release.kubernetes(ctx, settings, network=network),
            "modules": lambda network: from_modules.kubernetes(ctx, settings, network=network),
        },
    )


def containerd(ctx: Context, settings: Settings) -> Path:
    """Folder with containerd 2, its shim and ctr, from the first of `artifacts.sources` that has it.

    Only `modules` does: no public source gives the hash of a release. Raises as `kubernetes` does.
    """
    return _first(
        ctx,
        settings,
        "containerd",
        {
            "release": lambda _network: None,
            "modules": lambda network: from_modules.containerd(ctx, network=network),
        },
    )


def base_image(ctx: Context, settings: Settings) -> BaseImage:
    """What the serving image starts from, from the first of `artifacts.sources` that has it.

    Raises as `kubernetes` does.
    """
    return _first(
        ctx,
        settings,
        "the Python image",
        {
            "release": lambda network: from_release.base_image() if network else None,
            "modules": lambda network: from_modules.base_image(ctx, settings, network=network),
        },
    )


def pulumi(ctx: Context, settings: Settings) -> Path:
    """The Pulumi CLI with its kubernetes plugin: beside `bin/` a PULUMI_HOME, `home/`.

    From the first of `artifacts.sources` that has it. Raises as `kubernetes` does.
    """
    return _first(ctx, settings, "Pulumi", _pulumi_offers(ctx))


def cached_pulumi(ctx: Context, settings: Settings) -> Path | None:
    """The same if a source's lies in the cache, else None."""
    return _cached(settings, _pulumi_offers(ctx))


def _pulumi_offers(ctx: Context) -> Mapping[SourceName, Callable[[bool], Path | None]]:
    return {
        "release": lambda network: from_release.pulumi(ctx, network=network),
        "modules": lambda network: from_modules.pulumi(ctx, network=network),
    }


def _cached(settings: Settings, offers: Mapping[SourceName, Callable[[bool], T | None]]) -> T | None:
    for source in settings.artifacts.sources:
        try:
            found = offers[source](False)
        except ArtifactError:  # told when the source is asked in earnest
            continue
        if found is not None:
            return found
    return None


def _first(
    ctx: Context, settings: Settings, what: str, offers: Mapping[SourceName, Callable[[bool], T | None]]
) -> T:
    sources = settings.artifacts.sources
    cached = _cached(settings, offers)
    if cached is not None:
        return cached
    said: list[str] = []
    for position, source in enumerate(sources):
        try:
            made = offers[source](True)
        except NotCached:
            raise
        except SlipwayError as error:
            said.append(f"{source}: {error.what}")
            if position + 1 == len(sources):
                if len(said) > 1:
                    error.tail = "\n".join([*said[:-1], error.tail]).strip("\n")
                raise
            ctx.emit(Note(f"{said[-1]}; using {sources[position + 1]}"))
            continue
        if made is not None:
            return made
    raise ArtifactError(f"no source has {what}", tail="\n".join(said), action="see artifacts.sources")
