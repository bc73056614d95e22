"""What a person names an image by: the lab's last one, one of a registry, or one in a folder."""

from __future__ import annotations

import re
from pathlib import Path

from slipway.clients.oci_layout import Layout
from slipway.clients.registry import Repository, manifest_digest
from slipway.core.context import Context
from slipway.core.errors import ImageError, UsageError
from slipway.core.registries import in_use
from slipway.core.schema import Settings
from slipway.core.types import Cluster, ImageRef, Registry
from slipway.image.origin import Store

_NAMED = re.compile(
    r"(?P<registry>[^/@]+)/(?P<repository>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
    r"(?::(?P<tag>[\w][\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


def resolve(ctx: Context, settings: Settings, named: str, *, offline: bool) -> tuple[Store, str, str]:
    """Where to look, that place in words, and the image's digest.

    named: HOST/REPOSITORY with :TAG or @DIGEST, or the folder of an OCI layout, with @DIGEST where it holds
    several images; "" for the image that was built here last, in its registry, or, offline, in the state
    folder. Raises UsageError for a name that is none of these, ImageError for a tag that is not there.
    """
    if not named:
        return _last(ctx, settings, offline=offline)
    folder, at, digest = named.partition("@")
    if Path(folder).is_dir():
        return Layout(Path(folder)), folder, digest if at else _only(Path(folder))
    if offline:
        raise UsageError(
            f"there is no folder {folder}",
            action="offline, name the folder of an OCI layout, or nothing for the image built here last",
        )
    found = _NAMED.fullmatch(named)
    if found is None or not (found["tag"] or found["digest"]):
        raise UsageError(
            f"{named} is no image", action="name it HOST/REPOSITORY:TAG or HOST/REPOSITORY@sha256:..."
        )
    registry = _registry(ctx, settings, found["registry"])
    wanted = found["digest"] or manifest_digest(registry, found["repository"], found["tag"])
    if wanted is None:
        raise ImageError(
            f"there is no tag {found['tag']} in {found['repository']}",
            where=registry.address,
            action="check the name; a digest names an image without its tag",
        )
    return Repository(registry, found["repository"]), named, str(wanted)


def _last(ctx: Context, settings: Settings, *, offline: bool) -> tuple[Store, str, str]:
    image = ctx.state.kept(ImageRef)
    if image is None:
        raise UsageError("no image was built here yet", action="name one, or build it: `slipway image build`")
    if offline:
        folder = ctx.state.image / "layout"
        return Layout(folder), str(folder), image.digest
    address, _, repository = image.repository.partition("/")
    return Repository(_registry(ctx, settings, address), repository), image.reference, image.digest


def _only(folder: Path) -> str:
    images = Layout(folder).images()
    if len(images) == 1:
        return next(iter(images))
    listed = "\n".join(f"{digest} {tag}".rstrip() for digest, tag in images.items())
    raise UsageError(
        f"{folder} holds {len(images)} images",
        tail=listed,
        action=f"name one: {folder}@sha256:...",
    )


def _registry(ctx: Context, settings: Settings, address: str) -> Registry:
    """That registry with the login in use for it; any other is asked without one."""
    own = in_use(settings, ctx.state.kept(Cluster))
    return own if own is not None and own.address == address else Registry(address)
