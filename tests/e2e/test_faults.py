"""Three ways a deployment lies: smoke exits 1 and names pod and node. What else goes wrong in a chain."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from slipway.clients import ssh
from slipway.core.types import Hosts, load

from tests.canaries import here, holds, what_others_can_read
from tests.e2e.conftest import Project, new_project
from tests.e2e.test_chain import pods

pytestmark = pytest.mark.lab


@pytest.fixture
def healthy(lab: Project) -> Iterator[list[dict[str, Any]]]:
    """Three good pods before; what a test spoilt is deleted and replaced after."""
    yield pods(lab)
    lab.kubectl("delete", "pod", "-n", "serving", "--all", "--grace-period=1", "--wait=true")
    lab.kubectl("rollout", "status", "deployment/mnist-deployment", "-n", "serving", "--timeout=120s")


def container(lab: Project, pod: dict[str, Any]) -> tuple[str, str]:
    """(host, container id) of a pod's server."""
    identity = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    return pod["spec"]["nodeName"], identity


def failed_smoke(lab: Project, pod: dict[str, Any]) -> tuple[str, Any]:
    done = lab.run("smoke", limit=300)
    assert done.code == 1, done.err[-4000:]
    assert pod["metadata"]["name"] in done.err
    assert pod["spec"]["nodeName"] in done.err
    smoke = lab.report("smoke.json")
    assert smoke["ok"] is False
    assert any(not gate["ok"] for gate in smoke["gates"])
    assert lab.report()["ok"] is False
    assert pod["metadata"]["name"] in (lab.latest / "junit.xml").read_text()
    return done.err, smoke


def test_a_wrong_model_in_one_pod(lab: Project, healthy: list[dict[str, Any]], tmp_path: Path) -> None:
    """Another training lands beside the right version in one pod, whose server takes it for the newer one."""
    other = new_project(tmp_path / "other", "model: {epochs: 1, seed: 9}\n")
    assert other.run("model", "train").code == 0
    victim = healthy[0]
    name = victim["metadata"]["name"]
    host, identity = container(lab, victim)
    # the node's own view of the container's root is writable
    models = f"/run/containerd/io.containerd.runtime.v2.task/k8s.io/{identity}/rootfs/models/mnist"
    packed = tmp_path / "other.tar"
    with tarfile.open(packed, "w") as archive:
        archive.add(other.value("model")["path"], arcname=".")
    machines = load(Hosts, json.dumps(lab.value("hosts")).encode())
    with ssh.connect(next(h for h in machines.hosts if h.name == host)) as connection:
        connection.run(["mkdir", f"{models}/.900"])
        connection.stream_in(["tar", "-x", "--no-same-owner", "-C", f"{models}/.900", "-f", "-"], packed)
        connection.run(["chmod", "-R", "a+rX", f"{models}/.900"])
        connection.run(["mv", f"{models}/.900", f"{models}/900"])

    def served() -> str:
        return lab.kubectl("exec", "-n", "serving", name, "--", "python3", "-c", STATUS)

    for _ in range(60):
        if '"900"' in served():
            break
        time.sleep(1)
    assert '"900"' in served()
    _, smoke = failed_smoke(lab, victim)
    bad = next(replica for replica in smoke["replicas"] if replica["pod"] == name)
    assert bad["differences"] > 0
    assert bad["model_version"] == 900
    others = {pod["metadata"]["name"] for pod in healthy[1:]}
    good = [replica for replica in smoke["replicas"] if replica["pod"] in others]
    assert len(good) == 2
    assert all(replica["differences"] == replica["errors"] == 0 for replica in good)


STATUS = (
    "import urllib.request as u;print(u.urlopen('http://127.0.0.1:8501/v1/models/mnist').read().decode())"
)


def test_a_stopped_server_in_one_pod(lab: Project, healthy: list[dict[str, Any]]) -> None:
    victim = healthy[1]
    host, identity = container(lab, victim)
    pid = f"/run/containerd/io.containerd.runtime.v2.task/k8s.io/{identity}/init.pid"
    lab.on_host(host, f"kill -STOP $(cat {pid})")
    failed_smoke(lab, victim)
    lab.on_host(host, f"kill -CONT $(cat {pid}) || true")


def test_a_pod_taken_out_of_the_service(lab: Project, healthy: list[dict[str, Any]]) -> None:
    victim = healthy[2]
    selector = lab.get("service", "mnist-service", "-n", "serving")["spec"]["selector"]
    key = "run" if "run" in selector else next(iter(selector))
    lab.kubectl(
        "label", "pod", victim["metadata"]["name"], "-n", "serving", f"{key}=elsewhere", "--overwrite"
    )
    failed_smoke(lab, victim)


def test_an_image_that_does_not_pull_ends_early_with_the_reason(lab: Project, tmp_path: Path) -> None:
    """A saved image that the registry does not have: deploy must say so, and the old pods keep serving."""
    path = lab.state / "values" / "image.json"
    good = path.read_text()
    image = json.loads(good)
    image["digest"] = "sha256:" + "0" * 64
    path.write_text(json.dumps(image))
    try:
        done = lab.run("deploy", limit=300)
    finally:
        path.write_text(good)
    assert done.code == 6, done.err[-4000:]
    assert "ErrImagePull" in done.err or "ImagePullBackOff" in done.err
    assert "mnist-" in done.err
    run = lab.report()
    failed = next(stage for stage in run["stages"] if stage["name"] == "deploy")
    assert failed["status"] == "failed"
    assert failed["evidence"]
    again = lab.run("deploy", limit=600)  # the whole chain is proved again after the next fault
    assert again.code == 0, again.err[-4000:]


def test_a_playbook_task_that_fails_names_host_and_task(lab: Project) -> None:
    """The registry's port is taken on the host: the play must say which task failed there."""
    lab.on_host("cp", "systemctl stop docker-registry && systemctl mask --runtime docker-registry")
    try:
        done = lab.run("provision", limit=600)
        assert done.code == 4, done.err[-4000:]
        assert "cp" in done.err
        assert "what to do" in done.err
    finally:
        lab.on_host("cp", "systemctl unmask --runtime docker-registry && systemctl start docker-registry")
    assert lab.run("up", limit=600).code == 0


def test_a_host_that_shows_another_key_is_refused(lab: Project, tmp_path: Path) -> None:
    known = lab.state / "ssh" / "known_hosts"
    good = known.read_text()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    other = " ".join((tmp_path / "other.pub").read_text().split()[:2])
    known.write_text("".join(f"{line.split()[0]} {other}\n" for line in good.splitlines() if line.strip()))
    try:
        done = lab.run("provision", limit=300)
    finally:
        known.write_text(good)
    assert done.code == 4, done.err[-3000:]
    assert "host key" in done.err.lower(), done.err[-3000:]


def test_no_secret_is_in_logs_reports_or_process_lists(lab: Project) -> None:
    secrets = {
        "registry password": (lab.state / "registry" / "password").read_text().strip(),
        "registry's password for pulling": (lab.state / "registry" / "pull-password").read_text().strip(),
        "ssh key": (lab.state / "ssh" / "id_ed25519").read_text().splitlines()[2],
        "kubeconfig key": next(
            line.split()[1]
            for line in (lab.state / "kubeconfig").read_text().splitlines()
            if "client-key-data" in line
        )[:200],
    }
    for path in (
        lab.state / "registry" / "password",
        lab.state / "registry" / "pull-password",
        lab.state / "ssh" / "id_ed25519",
        lab.state / "kubeconfig",
    ):
        assert path.stat().st_mode & 0o777 == 0o600

    def leaks(secret: str) -> list[str]:
        """Files and command lines that hold the secret, in whichever form."""
        told = [path for name in ("runs", "logs") for path in (lab.state / name).rglob("*") if path.is_file()]
        files = {str(path.resolve()) for path in told if holds(path.read_bytes(), secret)}
        return sorted(files) + [argv for argv in lab.seen_argv if holds(argv.encode(), secret)]

    canary = "canary/7f3a@b"
    planted = lab.latest / "evidence" / "canary.log"
    planted.parent.mkdir(parents=True, exist_ok=True)
    for form in (
        f"password is {canary}",
        f"http://bob:{quote(canary, safe='')}@proxy",
        *(base64.b64encode(f"{user}:{canary}".encode()).decode() for user in ("", "a", "ab")),
    ):
        planted.write_text(f"{form}\n")
        assert leaks(canary) == [str(planted.resolve())], form
    planted.unlink()
    lab.run("hosts", "ssh", "cp", f"sh -c 'sleep 1; true {canary}'")
    assert any("sleep 1" in found for found in leaks(canary))
    assert lab.seen_argv
    for name, secret in secrets.items():
        assert len(secret) >= 16, name
        assert leaks(secret) == [], name


def test_no_secret_is_in_a_file_that_others_read(lab: Project) -> None:
    """On this machine and on every host, whatever stage of the chain wrote it; what runs counts as files."""
    registry = lab.state / "registry"
    secrets = {name: (registry / name).read_text().strip() for name in ("password", "pull-password")}
    secrets["ssh key"] = (lab.state / "ssh" / "id_ed25519").read_text().splitlines()[2]
    since = (lab.root / "slipway.yaml").stat().st_ctime - 60  # written before everything else
    machines = load(Hosts, json.dumps(lab.value("hosts")).encode())
    for host in machines.hosts:
        with ssh.connect(host) as connection:

            def there(argv: list[str], text: str, connection: ssh.Connection = connection) -> str:
                return connection.run(argv, input=text, timeout=120).stdout

            assert what_others_can_read(there, secrets, since) == [], host.name

    assert what_others_can_read(here, secrets, since, ["/etc", "/run", "/tmp", "/var"]) == []
    # pytest's folders are closed to others, a user's project need not be: its files by their own permissions
    assert open_to_others(lab.root, secrets) == []
    seen = lab.root / "seen"
    seen.write_text(base64.b64encode(f"slipway:{secrets['password']}".encode()).decode())
    seen.chmod(0o644)
    assert open_to_others(lab.root, secrets) == [(seen, "password")]
    seen.unlink()


def open_to_others(root: Path, secrets: dict[str, str]) -> list[tuple[Path, str]]:
    """Files below a folder that anybody could read were the folder itself open, and that hold a secret."""
    found = []
    for folder, below, names in os.walk(root):
        below[:] = [name for name in below if (Path(folder) / name).lstat().st_mode & 0o001]
        for path in (Path(folder) / name for name in names):
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and status.st_mode & 0o004 and status.st_size <= 1 << 24:
                content = path.read_bytes()
                found += [(path, name) for name, secret in secrets.items() if holds(content, secret)]
    return found
