"""One registry for who pushes and who pulls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra.cluster import registry
from infra.core.context import Context
from infra.core.errors import UsageError
from infra.core.schema import Settings
from infra.core.state import State
from infra.core.types import Cluster, Host, Hosts, Registry
from infra.images.build import registry_of

OWN = Registry("own:5000")


def settings(**sections: Any) -> Settings:
    return Settings.model_validate(sections)


def cluster(own: Registry | None) -> Cluster:
    return Cluster(Path("k"), Path("kubectl"), "", (), own)


@pytest.fixture
def theirs(tmp_path: Path) -> tuple[Settings, Registry]:
    """Settings that name a registry, and that registry."""
    (tmp_path / "p").write_text("x")
    named = {"registry": "theirs:443", "username": "u", "password_file": tmp_path / "p"}
    return settings(image=named), Registry("theirs:443", "u", tmp_path / "p", None)


def test_nodes_pull_from_where_the_image_is_pushed_to(theirs: tuple[Settings, Registry]) -> None:
    asked, brought = theirs
    for there in (cluster(OWN), cluster(None)):  # a registry named since the cluster was made counts at once
        assert registry.in_use(asked, there) == brought == registry_of(asked, there)
    assert registry.in_use(settings(), cluster(OWN)) == OWN == registry_of(settings(), cluster(OWN))
    assert registry.in_use(asked, None) == brought


def test_without_a_registry_nothing_can_be_pushed() -> None:
    assert registry.in_use(settings(), cluster(None)) is None
    with pytest.raises(UsageError, match="no registry to push") as refused:
        registry_of(settings(), cluster(None))
    assert "image.registry" in refused.value.action


def test_hosts_have_a_registry_of_their_own_beside_none(
    tmp_path: Path, theirs: tuple[Settings, Registry]
) -> None:
    ctx = Context(State(tmp_path), tmp_path, tmp_path)
    hosts = Hosts("ssh", (Host("cp", "192.0.2.1", "root", "ssh-ed25519 AAAA", ("registry",)),))
    kept = ctx.state.registry
    assert registry.provided(ctx, settings(), hosts) == Registry(
        "192.0.2.1:5000", "slipway", kept / "password", kept / "ca.crt"
    )
    assert registry.provided(ctx, theirs[0], hosts) == theirs[1]
    assert registry.provided(ctx, settings(), Hosts("ssh", ())) is None
    assert registry.provided(ctx, settings(), None) is None
