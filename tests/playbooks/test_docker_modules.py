"""What role docker stands on, without a host: keys beside those of others, and what facts decide."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from slipway.core.errors import CommandError

from tests.plugins import ended, load, of

json_keys = load("modules/json_keys.py")
differing_keys = load("filter/differing_keys.py").differing_keys
host_facts = load("modules/host_facts.py")


class TestJsonKeys:
    def test_keys_of_others_stay(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "daemon.json"
        path.write_text('{"debug": true, "mtu": 900, "log-opts": {"tag": "x", "max-size": "1g"}, "old": 1}')
        keys = {"mtu": 1400, "log-opts": {"max-size": "10m"}, "live-restore": True, "old": None}
        dry = ended(json_keys, capsys, path=str(path), keys=keys, _ansible_check_mode=True)
        assert dry["changed"] and '"mtu": 900' in path.read_text()
        done = ended(json_keys, capsys, path=str(path), keys=keys, mode="0640")
        assert json.loads(path.read_text()) == {
            **{"debug": True, "mtu": 1400, "live-restore": True},
            "log-opts": {"tag": "x", "max-size": "10m"},
        }
        assert path.stat().st_mode & 0o777 == 0o640
        assert "debug" not in str(done["diff"]), "what others put there is not told"
        assert done["diff"]["before"] != done["diff"]["after"]
        assert not ended(json_keys, capsys, path=str(path), keys=keys, mode="0640")["changed"]
        path.chmod(0o666)
        assert ended(json_keys, capsys, path=str(path), keys=keys, mode="0640")["changed"]

    def test_a_mode_that_nobody_asks_for_stays(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path, new = tmp_path / "daemon.json", tmp_path / "new" / "daemon.json"
        path.write_text("{}")
        path.chmod(0o640)
        for file in (path, new):
            assert ended(json_keys, capsys, path=str(file), keys={"mtu": 1})["changed"]
        assert [file.stat().st_mode & 0o777 for file in (path, new)] == [0o640, 0o644]

    @pytest.mark.parametrize("text", ["{} x", "[]", "{"])
    def test_a_file_that_is_none_is_kept_beside(
        self, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "daemon.json"
        path.write_text(text)
        done = ended(json_keys, capsys, path=str(path), keys={"mtu": 1})
        assert json.loads(path.read_text()) == {"mtu": 1}
        assert Path(done["kept"]).read_text() == text

    def test_what_does_not_validate_is_not_put_in_place(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "daemon.json"
        told = ended(json_keys, capsys, path=str(path), keys={"mtu": 1}, validate="grep --quiet other %s")
        assert told["failed"] and not path.exists()
        assert ended(json_keys, capsys, path=str(path), keys={"mtu": 1}, validate="grep mtu %s")["changed"]
        assert path.exists()


class TestFacts:
    def test_of_dockers_configuration_only_known_keys_are_told(self) -> None:
        text = json.dumps(
            {
                **{"mtu": 1400, "live-restore": True, "proxies": {"http-proxy": "http://a:canary@b"}},
                "log-opts": {"max-size": "10m", "splunk-token": "canary"},
            }
        )
        told = host_facts.docker_daemon(text)
        assert told == {"mtu": 1400, "live-restore": True, "log-opts.max-size": "10m"}
        assert host_facts.docker_daemon("{} x") == host_facts.docker_daemon("[]") == {}

    def test_what_differs_from_them(self) -> None:
        told = {"mtu": 1400, "live-restore": True, "log-opts.max-size": "10m"}
        wanted = {"mtu": 1400, "live-restore": True, "log-opts": {"max-size": "10m"}}
        assert differing_keys(wanted, told) == []
        assert differing_keys({"mtu": "1400", "log-opts": {"max-size": "1g"}}, told) == [
            *("mtu", "log-opts.max-size"),
        ]
        assert differing_keys({"live-restore": 1, "debug": True, "labels": {}}, told) == [
            *("live-restore", "debug", "labels"),
        ]

    def test_what_ansible_writes_down_where_a_text_is_from_makes_no_difference(self) -> None:
        class Tagged(str):
            """As Ansible's own are, of what a playbook says; a module's answer is plain."""

        assert differing_keys({"log-driver": Tagged("json-file")}, {"log-driver": "json-file"}) == []


def test_a_host_that_is_as_asked_is_left_alone(decided: Callable[..., dict[str, Any]]) -> None:
    told = {
        "live-restore": True,
        "log-driver": "json-file",
        "mtu": 1400,
        "log-opts.max-size": "10m",
        "log-opts.max-file": "3",
    }
    there = {"docker.io": "26", "docker-cli": "26", "docker-buildx": "0.13", "iptables": "1.8"}
    facts = of("Debian", "13", packages=there)
    facts["slipway_host"].update(
        docker_daemon=told,
        files={"/etc/docker/daemon.json": {"mode": "0644"}},
        units=["docker.service"],
        groups={},
    )
    names = ["_docker_is_as_asked"]
    assert decided("docker", names, facts, docker_mtu=1400)["_docker_is_as_asked"] is True
    for other in ({"docker_mtu": 1500}, {"docker_mtu": 1400, "docker_users": ["ops"]}):
        assert decided("docker", names, facts, **other)["_docker_is_as_asked"] is False


def test_other_packages_of_docker_go_before_docker_ce_comes(
    decided: Callable[..., dict[str, Any]],
) -> None:
    there = {"docker.io": "26", "docker-cli": "26", "containerd": "1.7", "runc": "1.1", "podman": "5"}
    names = ["_docker_others"]
    facts = of("Debian", "13", packages=there)
    assert sorted(decided("docker", names, facts, docker_source="docker")["_docker_others"]) == [
        *("containerd", "docker-cli", "docker.io", "runc"),
    ]
    assert decided("docker", names, facts)["_docker_others"] == []
    facts = of("Ubuntu", "24.04", packages={"docker-ce": "28", "containerd.io": "1.7"})
    assert decided("docker", names, facts, docker_source="docker")["_docker_others"] == []


def test_docker_ce_that_is_there_stays(decided: Callable[..., dict[str, Any]]) -> None:
    facts = of("Debian", "13", packages={"docker-ce": "28", "docker-ce-cli": "28", "containerd.io": "1.7"})
    names = ["_docker_from", "_docker_kept", "_docker_others"]
    assert decided("docker", names, facts) == dict(zip(names, ("docker", True, []), strict=True))
    with pytest.raises(CommandError) as refused:
        decided("docker", names, facts, docker_source="distribution")
    said = " ".join(refused.value.output.split())
    assert (
        "docker: this host has docker-ce, which docker.io would take the place of; leave docker_source out"
        in said
    )
    snap = of("Ubuntu", "24.04", snaps=["docker"])
    with pytest.raises(CommandError) as refused:
        decided("docker", names, snap)
    assert "docker: this host has Docker as a snap" in " ".join(refused.value.output.split())


@pytest.mark.parametrize(
    ("packages", "validates"),
    [
        ({"docker.io": "20.10.24+dfsg1-1+deb12u1"}, False),
        ({"docker.io": "26.1.5+dfsg1-9+b9"}, True),
        ({"docker-ce": "5:28.3.0-1~debian.13~trixie"}, True),
        ({}, True),
    ],
)
def test_a_docker_that_judges_no_file_is_not_asked_to(
    packages: dict[str, str], validates: bool, decided: Callable[..., dict[str, Any]]
) -> None:
    name = "_docker_validates"
    assert decided("docker", [name], of("Debian", "12", packages=packages))[name] is validates
