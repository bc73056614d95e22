"""A golden root from a host's disk: what is kept of it, and when it is made anew. Needs root, for an overlay."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from slipway.core.context import Context
from slipway.core.errors import EnvironmentFault, ProvisionError
from slipway.core.events import Event, Note
from slipway.core.schema import Settings
from slipway.core.state import State
from slipway.core.types import Host, Hosts, Outcome
from slipway.hosts.nspawn import golden, roots
from slipway.hosts.nspawn.golden import Recipe

HOST = Host("cp", "192.0.2.1", "root", "ssh-ed25519 AAAA", ("control_plane", "docker"))
OWN = {
    "etc/machine-id": "5c0ffee\n",
    "etc/hostname": "cp\n",
    "root/.ssh/authorized_keys": "ssh-ed25519 AAAA\n",
    "etc/apt/auth.conf.d/10-site.conf": "machine mirror login bob password canary\n",
}


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@dataclass
class Maker:
    """Makes a folder as a host has one, and keeps what it was asked."""

    asked: list[str] = field(default_factory=list)

    def up(self, ctx: Context, settings: Settings) -> Outcome[Hosts]:
        self.asked.append(f"up with {settings.hosts.workers} workers")
        machine = ctx.state.hosts / "cp"
        write(machine / "upper", OWN)
        write(machine, {"made": "\n".join(OWN)})
        for name in ("docker", "containerd", "kubelet", "lxd"):
            (machine / "volumes" / name).mkdir(parents=True)
        return Outcome(Hosts("nspawn", (HOST,)), 1, "")

    def power_off(self, ctx: Context) -> list[Path]:
        self.asked.append("power off")
        return [ctx.state.hosts / "cp"]

    def down(self, ctx: Context) -> list[str]:
        self.asked.append("down")
        return []


@dataclass
class Baker:
    """Puts a package's files and an image where they would be."""

    key: str = "one"
    wrong: Exception | None = None

    def bake_key(self, ctx: Context, settings: Settings) -> str:
        return self.key

    def bake(self, ctx: Context, settings: Settings, hosts: Hosts) -> None:
        if self.wrong is not None:
            raise self.wrong
        machine = ctx.state.hosts / hosts.hosts[0].name
        host = {
            "usr/bin/kubelet": "program",
            "var/log/syslog": "cp did this",
            "etc/ssh/ssh_host_rsa_key": "SECRET",
        }
        write(machine / "upper", {**host, "var/lib/apt/lists/list": "packages of that day"})
        (machine / "upper/etc/removed").parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["mknod", machine / "upper/etc/removed", "c", "0", "0"], check=True
        )  # an overlay's whiteout
        blob = "io.containerd.content.v1.content/blobs/sha256/abc"
        write(
            machine / "volumes/containerd",
            {blob: "layer", "io.containerd.metadata.v1.bolt/meta.db": "images"},
        )
        write(machine / "volumes/docker", {"engine-id": "5ca1ab1e", "overlay2/l1/diff/file": "layer"})


@dataclass
class Oven:
    """A cache with a bare root, and what was said."""

    ctx: Context
    base: Path
    maker: Maker = field(default_factory=Maker)
    said: list[Event] = field(default_factory=list)

    def bake(self, baker: Baker | None = None, **more: object) -> tuple[Path, bool]:
        recipe = Recipe(self.base, [baker or Baker()], self.maker)
        return golden.ensure(self.ctx, Settings(), recipe, **more)  # type: ignore[arg-type]


@pytest.fixture
def oven(tmp_path: Path) -> Oven:
    base = tmp_path / "cache/roots/trixie-abc"
    write(base, {"etc/os-release": "Debian", "etc/removed": "gone in the end", "etc/hosts": "bare"})
    said: list[Event] = []
    ctx = Context(State(tmp_path / "state"), tmp_path / "run", tmp_path, tmp_path / "cache", said.append)
    return Oven(ctx, base, said=said)


def files(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != "slipway-root.json"
    }


def test_packages_and_images_are_kept_and_nothing_of_the_host(oven: Oven) -> None:
    root, made = oven.bake()
    assert made
    assert files(root) == {
        "etc/os-release": "Debian",
        "etc/hosts": "bare",
        "usr/bin/kubelet": "program",
        "var/lib/containerd/io.containerd.content.v1.content/blobs/sha256/abc": "layer",
        "var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db": "images",
        "var/lib/docker/overlay2/l1/diff/file": "layer",
    }
    assert oven.maker.asked == ["up with 0 workers", "power off", "down"]
    assert {path.name for path in root.parent.iterdir()} == {root.name, "trixie-abc", golden.LOCK}
    notes = [event.text for event in oven.said if isinstance(event, Note)]
    assert len(notes) == 1
    assert "baking the root" in notes[0]


def test_it_is_made_once_and_anew_for_other_content(oven: Oven) -> None:
    root, _ = oven.bake()
    assert oven.bake() == (root, False)
    other, made = oven.bake(Baker("two"))
    assert made
    assert other != root
    assert oven.bake() == (root, False)


def test_a_torn_one_is_made_anew(oven: Oven) -> None:
    root, _ = oven.bake()
    (root / "usr/bin/kubelet").write_text("")
    assert oven.bake() == (root, True)
    assert (root / "usr/bin/kubelet").read_text() == "program"
    assert "bytes, not" in [event.text for event in oven.said if isinstance(event, Note)][-1]


def test_a_failure_leaves_nothing(oven: Oven) -> None:
    with pytest.raises(ProvisionError, match="no package"):
        oven.bake(Baker(wrong=ProvisionError("no package", action="")))
    assert {path.name for path in oven.base.parent.iterdir()} == {"trixie-abc", golden.LOCK}
    assert oven.maker.asked == ["up with 0 workers", "down"]


def test_a_disk_that_cannot_be_kept_leaves_nothing(oven: Oven) -> None:
    shutil.rmtree(oven.base)
    with pytest.raises(EnvironmentFault, match="cannot be kept"):
        oven.bake()
    assert {path.name for path in oven.base.parent.iterdir()} == {golden.LOCK}


def test_what_a_kill_left_is_taken_down_first(oven: Oven) -> None:
    root, _ = oven.bake()
    shutil.rmtree(root)
    left = root.with_name(f"{root.name}.baking") / "hosts"
    left.mkdir(parents=True)
    oven.maker.asked.clear()
    assert oven.bake() == (root, True)
    assert oven.maker.asked == ["down", "up with 0 workers", "power off", "down"]
    assert not left.parent.exists()


def test_old_ones_go_but_for_those_in_use(oven: Oven) -> None:
    made = [oven.bake(Baker("0"))[0]]
    for key in "1234":
        made.append(oven.bake(Baker(key), in_use={made[0]})[0])
    assert [path.exists() for path in made] == [True, False, True, True, True]
    assert not roots.damage(made[0])
