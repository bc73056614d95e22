"""Build the serving image, prove it under Docker, push it, name it by digest."""

from __future__ import annotations

from typing import ClassVar

from slipway.core.context import Context
from slipway.core.errors import ImageError
from slipway.core.schema import Settings
from slipway.core.types import Cluster, ExportedModel, Hosts, ImageRef, Outcome


class BuildImage:
    """An image with the model and the client in it, signed. Exactly this in the registry already: no-op."""

    title: ClassVar[str] = "Build, check and push the serving image"

    def prepare(self, ctx: Context, settings: Settings) -> None:
        """Have the base image, the cut-down packages and Google's server ready, which needs no host."""
        from slipway import artifacts
        from slipway.image import runtime

        if settings.image.server == "tensorflow":
            artifacts.tensorflow_server(ctx, settings)
        runtime.of(ctx, settings).packages(ctx)

    def bake_key(self, ctx: Context, settings: Settings) -> str:
        """Base and packages of every model's server, and where its images go."""
        from slipway.image import baking

        return baking.key(ctx, settings)

    def bake(self, ctx: Context, settings: Settings, hosts: Hosts) -> None:
        """Put base and packages into the stores of Docker, registry and containerd, where there is Docker."""
        from slipway.image import baking

        for host in hosts.group("docker"):
            baking.bake(ctx, settings, host)

    def run(
        self, ctx: Context, settings: Settings, hosts: Hosts | None, cluster: Cluster, model: ExportedModel
    ) -> Outcome[ImageRef]:
        """Put the model's image into the registry, and its origin beside it.

        Raises ImageError with the host and what to do. On failure nothing is in the registry that was
        not there before, and neither a container nor a login is left on the build host.
        """
        from slipway.image import build

        want = build.wanted(ctx, settings, cluster, model)
        digest = build.up_to_date(ctx, want)
        if digest is not None:
            found = want.reference(digest)
            return Outcome(found, changed=0, summary=f"{found.reference} is there and up to date")
        with build.build_host(ctx, settings, hosts) as docker:
            digest = build.make(ctx, want, docker)
            size = sum(docker.layers(want.local_image))
        made = want.reference(digest)
        return Outcome(made, changed=1, summary=f"{made.reference} ({want.tag}, {size / 1e6:.0f} MB)")

    def plan(
        self,
        ctx: Context,
        settings: Settings,
        hosts: Hosts | None,
        cluster: Cluster | None,
        model: ExportedModel | None,
    ) -> list[str]:
        """What is to build and push."""
        from slipway.image import build

        if model is None or cluster is None:
            return ["build, check and push the serving image (its model or registry is not there yet)"]
        want = build.wanted(ctx, settings, cluster, model)
        try:
            if build.up_to_date(ctx, want) is not None:
                return []
        except ImageError as error:
            return [f"build, check and push {want.name} (the registry cannot be asked: {error.what})"]
        return [f"build, check and push {want.name}"]
