"""One registry for who pushes and who pulls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from slipway.core import registries
from slipway.core.context import Context
from slipway.core.errors import EnvironmentFault, UsageError
from slipway.core.schema import Settings
from slipway.core.state import State
from slipway.core.types import Cluster, Host, Hosts, Login, Registry
from slipway.image.build import registry_of

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
        assert registries.in_use(asked, there) == brought == registry_of(asked, there)
    assert registries.in_use(settings(), cluster(OWN)) == OWN == registry_of(settings(), cluster(OWN))
    assert registries.in_use(asked, None) == brought


def test_without_a_registry_nothing_can_be_pushed() -> None:
    assert registries.in_use(settings(), cluster(None)) is None
    with pytest.raises(UsageError, match="no registry to push") as refused:
        registry_of(settings(), cluster(None))
    assert "image.registry" in refused.value.action


def test_hosts_have_a_registry_of_their_own_beside_none(
    tmp_path: Path, theirs: tuple[Settings, Registry]
) -> None:
    ctx = Context(State(tmp_path), tmp_path, tmp_path)
    hosts = Hosts("ssh", (Host("cp", "192.0.2.1", "root", "ssh-ed25519 AAAA", ("registry",)),))
    kept = ctx.state.registry
    assert registries.provided(ctx, settings(), hosts) == Registry(
        "192.0.2.1:5000",
        "slipway",
        kept / "password",
        kept / "ca.crt",
        Login("slipway-pull", kept / "pull-password"),
    )
    assert registries.provided(ctx, theirs[0], hosts) == theirs[1]
    assert registries.provided(ctx, settings(), Hosts("ssh", ())) is None
    assert registries.provided(ctx, settings(), None) is None


@pytest.mark.parametrize(
    ("data", "said"), [(b"", "nothing"), (b"a\nb\n", "more than a line"), (b"\xff", "UTF-8")]
)
def test_a_password_file_that_holds_something_else_is_told(tmp_path: Path, data: bytes, said: str) -> None:
    file = tmp_path / "password"
    file.write_bytes(data)
    with pytest.raises(EnvironmentFault, match=said) as refused:
        registries.password(Registry("r.lab:5000", "me", file))
    assert "image.password_file must be a file" in refused.value.action


def test_blanks_are_part_of_a_password_and_the_lines_end_is_not(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes(b" s3 cret \r\n")
    assert registries.password(Registry("r.lab:5000", "me", file)) == " s3 cret "
