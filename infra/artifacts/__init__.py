"""Artifacts: pinned things from outside, checked, cached, by the sources of `artifacts.sources`."""

from __future__ import annotations

from infra.artifacts import from_modules, golang
from infra.artifacts.values import BaseImage, KubernetesArtifacts
from infra.core.context import Context
from infra.core.errors import EnvironmentFault
from infra.core.schema import Settings

__all__ = ["BaseImage", "KubernetesArtifacts", "kubernetes"]


def kubernetes(ctx: Context, settings: Settings) -> KubernetesArtifacts:
    """Kubernetes' node programs and images from the first source that has them."""

    def go() -> golang.Go:
        found = golang.installed()
        if found is None:
            raise EnvironmentFault("no Go")
        return found

    return from_modules.kubernetes(ctx, settings, go)
