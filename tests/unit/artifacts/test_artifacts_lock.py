"""artifacts.lock: what is pinned, and what is refused."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest
from slipway.artifacts import machine, pins
from slipway.artifacts.values import KUBERNETES
from slipway.core.errors import ArtifactError, EnvironmentFault

ROW = 'name = "a"\nversion = "1"\nplatform = "linux/amd64"\n'


def test_every_row_is_sound_and_named_once() -> None:
    rows = pins.rows()
    assert len({(row.name, row.platform) for row in rows}) == len(rows)
    for row in rows:
        assert row.platform in ("linux/amd64", "linux/arm64", "any")
        assert bool(row.hash) == bool(row.hash_source)


@pytest.mark.parametrize("platform", ["linux/amd64", "linux/arm64"])
@pytest.mark.parametrize("name", ["kubeadm", "kubelet", "kubectl"])
def test_kubernetes_rows_are_pinned_at_our_version(name: str, platform: str) -> None:
    row = pins.row(name, platform).pinned()
    assert row.version == KUBERNETES
    assert row.url == f"https://dl.k8s.io/release/v{KUBERNETES}/bin/{platform}/{name}"


@pytest.mark.parametrize("platform", ["linux/amd64", "linux/arm64"])
def test_pulumi_is_pinned_at_the_versions_of_its_libraries(platform: str) -> None:
    """The engine takes a provider of exactly the version that the Python library names."""
    for program in ("pulumi", "pulumi-resource-kubernetes"):
        row = pins.row(program, platform).pinned()
        assert row.version == version(program.replace("-resource", ""))
        assert f"v{row.version}-linux-" in row.url


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ROW + 'sha256 = "abc"\nhash_source = "x"\n', "not 64 hexadecimal digits"),
        (ROW + f'sha256 = "{"a" * 64}"\n', "go together"),
        (ROW + 'hash_source = "x"\n', "go together"),
        (ROW + 'h1 = "h1:abc="\nhash_source = "x"\n', "not a hash of Go's checksum database"),
        (ROW + f'h1 = "h1:{"a" * 43}="\n', "go together"),
        (ROW + f'h1 = "h1:{"a" * 43}="\nsha256 = "{"a" * 64}"\nhash_source = "x"\n', "one hash is enough"),
        (ROW + 'url = "http://example.org/a"\n', "not https"),
        (ROW + "color = 1\n", "unexpected keyword"),
        ('name = "a"\n', "missing"),
        ("nonsense", "cannot read the lock"),
    ],
)
def test_bad_locks_are_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "artifacts.lock"
    path.write_text("[[artifact]]\n" + text if "=" in text else text)
    with pytest.raises(ArtifactError, match=said) as error:
        pins.rows(path)
    assert error.value.where == str(path)
    assert error.value.action


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ArtifactError, match="no row for nothing on") as error:
        pins.row("nothing")
    assert error.value.action


def test_unknown_machines_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(EnvironmentFault, match="riscv64"):
        machine.architecture()
