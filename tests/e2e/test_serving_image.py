"""The serving image of a real lab: what is in it, what it answers, what a failed build leaves behind."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from slipway.clients import registry as registries
from slipway.clients import ssh
from slipway.clients.docker import Docker
from slipway.core import process
from slipway.core.context import Context
from slipway.core.errors import ArtifactError, ImageError
from slipway.core.schema import Settings
from slipway.core.state import State
from slipway.core.types import Cluster, ExportedModel, Hosts, ImageRef, Outcome
from slipway.image.stage import BuildImage

from tests.e2e.conftest import PROJECT

if TYPE_CHECKING:
    from tests.e2e.conftest import Project

pytestmark = pytest.mark.lab


@dataclass(frozen=True)
class Made:
    """The lab's values around the image stage, and its build host."""

    ctx: Context
    hosts: Hosts
    cluster: Cluster
    model: ExportedModel
    image: ImageRef

    def build(self, settings: Settings | None = None, **changed: object) -> Outcome[ImageRef]:
        values = replace(self, **changed)  # type: ignore[arg-type]  # its own fields
        return BuildImage().run(
            values.ctx, settings or Settings(), values.hosts, values.cluster, values.model
        )

    @contextmanager
    def docker(self) -> Iterator[Docker]:
        host = self.hosts.group("docker")[0]
        with ssh.connect(host) as connection:
            yield Docker(connection, host.name)

    def inside(self, script: str) -> str:
        """What a shell script prints inside the image."""
        words = ["docker", "run", "--rm", "--read-only", "--network", "none", "--entrypoint", "/bin/sh"]
        with self.docker() as docker:
            done = docker.shell.run([*words, self.image.reference, "-c", script], timeout=300)
        return done.stdout


@pytest.fixture(scope="module")
def made(lab: Project, tmp_path_factory: pytest.TempPathFactory) -> Made:
    assert lab.first is not None and lab.first.code == 0
    state = State(lab.state)
    hosts, cluster, model, image = (
        state.kept(Hosts),
        state.kept(Cluster),
        state.kept(ExportedModel),
        state.kept(ImageRef),
    )
    assert hosts and cluster and model and image
    return Made(Context(state, tmp_path_factory.mktemp("image"), PROJECT), hosts, cluster, model, image)


@pytest.fixture(autouse=True)
def clean_build_host(made: Made) -> Iterator[None]:
    """Whatever a test did: no container and no login is left on the build host."""
    yield
    with made.docker() as docker:
        left = docker.shell.run(["docker", "ps", "--all", "--format", "{{.Names}}"], timeout=60).stdout
        assert "slipway-check" not in left
        logins = "find /root/.docker /tmp -name config.json 2>/dev/null | xargs -r grep -l auths"
        assert docker.shell.run(["sh", "-c", logins], timeout=60, check=False).stdout == ""


def test_the_registry_holds_it_under_the_digest(made: Made) -> None:
    registry = made.cluster.registry
    assert registry is not None
    repository = made.image.repository.removeprefix(f"{registry.address}/")
    assert registries.manifest_digest(registry, repository, made.image.tag) == made.image.digest
    labels = registries.labels(registry, repository, made.image.digest) or {}
    assert labels["slipway.model.sha256"] == made.model.sha256
    assert labels["slipway.model.name"] == made.model.name
    assert labels["slipway.model.version"] == str(made.model.version)
    assert labels["slipway.server"] == "portable"


def test_it_is_configured_for_the_cluster(made: Made) -> None:
    with made.docker() as docker:
        text = docker.shell.run(
            ["docker", "image", "inspect", "--format", "{{json .Config}}", made.image.reference], timeout=60
        ).stdout
    config = json.loads(text)
    assert config["User"] == "65532:65532"
    assert set(config["ExposedPorts"]) == {"8500/tcp", "8501/tcp"}
    assert "slipway-model-server" in " ".join(config["Entrypoint"])


def test_a_new_model_is_a_small_layer(made: Made) -> None:
    with made.docker() as docker:
        layers = docker.layers(made.image.reference)
    packages = layers.index(max(layers))
    assert sum(layers[packages + 2 :]) < 10_000_000
    assert sum(layers) < 1_000_000_000


def test_it_holds_model_server_and_client_and_nothing_serving_never_loads(made: Made) -> None:
    out = made.inside(
        "id -u; python -m slipway_client --help >/dev/null && echo client; "
        "python3 -c 'import sys; print(sys.version_info[:2])'; "
        f"ls /models/{made.model.name}/{made.model.version}; "
        "for name in pip apt-get gcc cc; do command -v $name; done; "
        "find / -xdev \\( -path '*/tensorflow/include' -o -name keras -o -name '*libclang*' \\) -print 2>/dev/null; true"
    ).split("\n")
    assert out[:3] == ["65532", "client", "(3, 13)"]
    assert "saved_model.pb" in out
    assert not [line for line in out if line.startswith("/")]
    files = made.inside("cd /opt/slipway && find slipway_* -name '*.py' | cut -d/ -f1 | sort -u").split()
    assert files == ["slipway_client", "slipway_server"]


def test_nothing_of_this_machines_mirrors_is_in_it(made: Made) -> None:
    names = mirrors()
    assert names, "this machine gets packages from somewhere, so its names can be looked for"
    with made.docker() as docker:
        told = docker.shell.run(["docker", "image", "inspect", made.image.reference], timeout=60).stdout
        told += docker.shell.run(["docker", "history", "--no-trunc", made.image.reference], timeout=60).stdout
    assert [name for name in sorted(names) if name in told] == []
    wanted = " ".join(f"-e {shlex.quote(name)}" for name in sorted(names))
    found = made.inside(f"grep -rIF {wanted} /etc /var /opt /root 2>/dev/null | cut -c 1-300; true")
    assert found == ""


def mirrors() -> set[str]:
    """Host names this machine's own apt, pip, Go and proxy settings send it to."""
    lines = process.run(["apt-config", "dump"], check=False).stdout.splitlines()
    lines = [line for line in lines if "Proxy" in line]
    for path in Path("/etc/apt").rglob("*"):
        if path.is_file() and path.suffix in (".list", ".sources"):
            text = path.read_text(errors="replace")
            lines += [line for line in text.splitlines() if line.startswith(("deb", "URIs:"))]
    wanted = re.compile(r"(?i)^(\w*proxy|\w*index_url|\w*find_links)$")
    lines += [value for name, value in os.environ.items() if wanted.match(name)]
    for path in (Path("/etc/pip.conf"), Path.home() / ".config/pip/pip.conf", Path.home() / ".pip/pip.conf"):
        lines += path.read_text().splitlines() if path.is_file() else []
    urls = re.findall(r"https?://[^\s\"'\\,|;]+", "\n".join(lines))
    return {host for url in urls if (host := urlsplit(url).hostname)}


def test_the_same_image_again_changes_nothing(made: Made) -> None:
    assert BuildImage().plan(made.ctx, Settings(), made.hosts, made.cluster, made.model) == []
    outcome = made.build()
    assert outcome.changed == 0
    assert outcome.value == made.image


def test_wrong_answers_keep_it_from_the_registry(made: Made, tmp_path: Path) -> None:
    lines = made.model.requests.read_text().splitlines()
    request = json.loads(lines[4])
    scores = next(iter(request["expected"].values()))
    scores["values"][0] += 1
    lines[4] = json.dumps(request)
    (tmp_path / "requests.jsonl").write_text("\n".join(lines) + "\n")
    wrong = replace(made.model, requests=tmp_path / "requests.jsonl", sha256="0" * 64)
    with pytest.raises(ImageError) as caught:
        made.build(model=wrong)
    assert "1 differ" in caught.value.what
    assert "request 5" in caught.value.tail
    assert caught.value.where == made.hosts.group("docker")[0].name
    assert BuildImage().plan(made.ctx, Settings(), made.hosts, made.cluster, wrong) != []


def test_a_model_that_cannot_be_loaded_is_told_with_the_servers_words(made: Made, tmp_path: Path) -> None:
    path = tmp_path / "mnist" / "1"
    path.mkdir(parents=True)
    (path / "saved_model.pb").write_bytes(b"garbage")
    with pytest.raises(ImageError) as caught:
        made.build(model=replace(made.model, path=path, sha256="1" * 64))
    assert "cannot load the model" in caught.value.what
    assert caught.value.tail and caught.value.exit_code == 5


def test_a_port_in_use_is_named(made: Made) -> None:
    with made.docker() as docker:
        script = "import socket,time\ns=socket.create_server(('127.0.0.1',8500))\nprint('held',flush=True)\ntime.sleep(600)"
        unit = ["systemd-run", "--unit", "slipway-test-port", "--collect", "python3", "-c", script]
        docker.shell.run(unit, timeout=60)
        try:
            with pytest.raises(ImageError) as caught:
                made.build(model=replace(made.model, sha256="2" * 64))
        finally:
            docker.shell.run(["systemctl", "stop", "slipway-test-port"], timeout=60)
    assert "8500" in caught.value.action


def test_a_wrong_password_and_an_untrusted_registry_end_before_any_build(made: Made, tmp_path: Path) -> None:
    registry = made.cluster.registry
    assert registry is not None
    (tmp_path / "password").write_text("not-the-password")
    for changed, said in (
        (replace(registry, password_file=tmp_path / "password"), "refused the login"),
        (replace(registry, ca_file=None), "not trusted"),
        (replace(registry, address=registry.address.rpartition(":")[0] + ":1"), "cannot be reached"),
    ):
        with pytest.raises(ImageError, match=said) as caught:
            made.build(cluster=replace(made.cluster, registry=changed))
        assert caught.value.where == changed.address


def test_docker_refuses_a_wrong_password_without_leaving_a_login(made: Made, tmp_path: Path) -> None:
    registry = made.cluster.registry
    assert registry is not None
    (tmp_path / "password").write_text("not-the-password")
    with made.docker() as docker, pytest.raises(ImageError, match="cannot be logged in to"):
        docker.push(f"{registry.address}/x:1", replace(registry, password_file=tmp_path / "password"))


def test_googles_server_is_built_or_says_what_is_missing(made: Made) -> None:
    """Where its repository answers it must come out whole; elsewhere one clear error names it."""
    settings = Settings.model_validate({"image": {"server": "tensorflow"}})
    try:
        outcome = made.build(settings)
    except ArtifactError as error:
        assert "storage.googleapis.com" in error.where
        assert "image.server: portable" in error.action
    else:
        assert outcome.value.server == "tensorflow"
