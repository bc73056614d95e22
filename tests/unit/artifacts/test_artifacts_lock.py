"""artifacts.lock: what is pinned, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.artifacts import lock, machine
from infra.artifacts.values import KUBERNETES
from infra.core.errors import ArtifactError, EnvironmentFault

ROW = 'name = "a"\nversion = "1"\nplatform = "linux/amd64"\n'


def test_every_row_is_sound_and_named_once() -> None:
    rows = lock.rows()
    assert len({(row.name, row.platform) for row in rows}) == len(rows)
    for row in rows:
        assert row.platform in ("linux/amd64", "linux/arm64", "any")
        assert bool(row.sha256) == bool(row.hash_source)


@pytest.mark.parametrize("platform", ["linux/amd64", "linux/arm64"])
@pytest.mark.parametrize("name", ["kubeadm", "kubelet", "kubectl"])
def test_kubernetes_rows_are_pinned_at_our_version(name: str, platform: str) -> None:
    row = lock.row(name, platform).pinned()
    assert row.version == KUBERNETES
    assert row.url == f"https://dl.k8s.io/release/v{KUBERNETES}/bin/{platform}/{name}"


def test_pulumi_has_no_public_hash_and_says_so() -> None:
    with pytest.raises(ArtifactError, match=r"pulumi 3\.272\.0 .* no public source") as error:
        lock.row("pulumi", "linux/amd64").pinned()
    assert "install pulumi 3.272.0 yourself" in error.value.action


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ROW + 'sha256 = "abc"\nhash_source = "x"\n', "not 64 hexadecimal digits"),
        (ROW + f'sha256 = "{"a" * 64}"\n', "go together"),
        (ROW + 'hash_source = "x"\n', "go together"),
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
        lock.rows(path)
    assert error.value.where == str(path)
    assert error.value.action


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ArtifactError, match="no row for nothing on") as error:
        lock.row("nothing")
    assert error.value.action


def test_unknown_machines_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(EnvironmentFault, match="riscv64"):
        machine.architecture()
