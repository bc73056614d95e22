"""Role docker on a real host: its users, what others configured, and a container."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from slipway.artifacts.cache import sha256_of
from slipway.clients.oci_layout import Layout
from slipway.core.errors import ProvisionError
from slipway.core.schema import Settings
from slipway.hosts.formats import writing
from slipway.hosts.nspawn.backend import Nspawn

from tests.playbooks.bare_host import BareHost, bare_host

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

DAEMON = "/etc/docker/daemon.json"
STARTED = "systemctl show --property=MainPID,ActiveEnterTimestampMonotonic docker.service containerd.service"
# systemd starts Docker three times a minute and no more
OFTEN = "systemctl reset-failed docker"
# What the operator of a GPU puts there, and names where containerd looks
DROP_IN = """
mkdir /etc/containerd/conf.d
echo 'version = 2' >/etc/containerd/conf.d/99-gpu.toml
sed -i '1i imports = ["/etc/containerd/conf.d/*.toml"]' /etc/containerd/config.toml
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareHost]:
    with bare_host(tmp_path_factory.mktemp("docker"), "docker", docker_users=["ann"]) as made:
        made.on("useradd ann; useradd ben")
        yield made


def test_what_others_configured_survives_and_a_second_run_changes_nothing(host: BareHost) -> None:
    host.on(f'mkdir /etc/docker; echo \'{{"debug": true, "mtu": 900}}\' >{DAEMON}')
    dry = host.play("docker.yml", check=True)
    assert "docker : Configure the daemon" in {change.task for change in dry.changes}
    host.play("docker.yml")
    ours = json.loads(host.on(f"cat {DAEMON}"))
    assert ours["debug"] is True and ours["mtu"] != 900 and ours["live-restore"] is True

    host.on(DROP_IN)
    theirs = ours | {"labels": ["rack=7"], "log-opts": {**ours["log-opts"], "tag": "x"}}
    host.on(f"cat >{DAEMON} <<'END'\n{json.dumps(theirs)}\nEND\nsystemctl restart docker; {OFTEN}")
    asked = f"cat {DAEMON} /etc/containerd/config.toml /etc/containerd/conf.d/*; {STARTED}"
    before = host.on(asked)
    again = host.play("docker.yml")
    assert again.changed == 0, again.changes
    assert host.on(asked) == before


def test_what_differs_is_set_back_and_the_rest_stays(host: BareHost) -> None:
    theirs = json.loads(host.on(f"cat {DAEMON}"))
    spoilt = theirs | {"live-restore": False, "log-opts": {**theirs["log-opts"], "max-size": "1g"}}
    host.on(f"cat >{DAEMON} <<'END'\n{json.dumps(spoilt)}\nEND\ngpasswd --delete ann docker; {OFTEN}")
    done = host.play("docker.yml", docker_daemon={"labels": None, "shutdown-timeout": 20})
    assert {change.task for change in done.changes} >= {
        *("docker : Configure the daemon", "docker : Add users to group docker", "docker : Restart docker"),
    }
    wanted = {key: value for key, value in theirs.items() if key != "labels"} | {"shutdown-timeout": 20}
    assert json.loads(host.on(f"cat {DAEMON}")) == wanted
    assert host.on("stat -c %a " + DAEMON).strip() == "644"


def test_a_configuration_that_docker_refuses_is_not_put_in_place(host: BareHost) -> None:
    before = host.on(f"cat {DAEMON}")
    with pytest.raises(ProvisionError, match="docker : Configure the daemon") as caught:
        host.play("docker.yml", docker_daemon={"no-such-key": True})
    assert "no-such-key" in caught.value.tail
    assert host.on(f"cat {DAEMON}") == before


def test_a_container_runs_for_the_users_too_and_leaves_nothing(host: BareHost) -> None:
    host.mark()
    assert host.play("verify.yml").changed == 0
    assert host.on("docker ps --all --quiet; docker image ls --all --quiet; docker volume ls --quiet") == ""
    assert [
        path for path in host.touched() if not path.startswith(("/var/lib/docker/", "/var/lib/containerd/"))
    ] == []
    with pytest.raises(ProvisionError, match="See that users can use Docker"):
        host.play("verify.yml", docker_users=["ann", "ben"])


def test_a_user_who_does_not_exist_is_told_and_not_made(host: BareHost) -> None:
    with pytest.raises(ProvisionError, match="Look up the users") as caught:
        host.play("docker.yml", docker_users=["nobody-here"])
    assert "nobody-here" in str(caught.value) + caught.value.tail
    assert "nobody-here" not in host.on("cat /etc/passwd /etc/group")


def test_a_root_as_an_oci_image_is_loaded_and_runs(host: BareHost, tmp_path: Path) -> None:
    settings = Settings.model_validate({"hosts": {"workers": 0, "golden": False}})
    root, _ = Nspawn().bake(host.ctx, settings)
    file = writing.write(host.ctx, settings, root, "oci", tmp_path / "node.tar").file
    with tarfile.open(file) as tar:
        tar.extractall(tmp_path / "layout", filter="data")
    layout = Layout(tmp_path / "layout")
    ((digest, tag),) = layout.images().items()
    manifest = layout.manifest(digest)
    assert manifest is not None
    (layer,) = manifest.document["layers"]
    packed = tmp_path / "layout/blobs" / layer["digest"].replace(":", "/")
    assert (packed.stat().st_size, f"sha256:{sha256_of(packed)}") == (layer["size"], layer["digest"])
    config = json.loads(layout.blob(manifest.document["config"]["digest"]))

    assert f"slipway-node:{tag}" in host.on("docker load", file.read_bytes())
    try:
        told = json.loads(host.on(f"docker image inspect slipway-node:{tag}"))[0]
        assert told["RootFS"]["Layers"] == config["rootfs"]["diff_ids"]
        assert told["Config"]["Cmd"] == ["/sbin/init"]
        assert told["Config"]["Labels"]["org.opencontainers.image.version"] == root.name
        said = host.on(
            f"docker run --rm --network none slipway-node:{tag} sh -c 'cat /etc/os-release; id -u'"
        )
        assert "VERSION_CODENAME=trixie" in said and said.endswith("\n0\n")
    finally:
        host.on(f"docker image rm slipway-node:{tag}")
