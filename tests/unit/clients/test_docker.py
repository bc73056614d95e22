"""Docker's command line on a build host: what is asked, what its failures become, what is left behind."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from slipway.clients.docker import Docker
from slipway.core.errors import CommandError, HostError, ImageError
from slipway.core.process import Completed
from slipway.core.types import Registry
from slipway_stacks import outputs

DIGEST = "sha256:" + "a" * 64
PASSWORD = "canary-77aa"


class Host:
    """A build host with scripted answers: words of the command -> (exit code, stdout, stderr)."""

    def __init__(self, **answers: tuple[int, str, str] | Exception) -> None:
        self.answers = {name.replace("_", " "): answer for name, answer in answers.items()}
        self.argv: list[tuple[str, ...]] = []
        self.inputs: list[str] = []
        self.streamed: list[Path] = []

    def run(
        self,
        argv: Sequence[str],
        *,
        input: str | None = None,
        timeout: float | None = None,
        check: bool = True,
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        words = tuple(argv)
        assert timeout is not None, "a host that hangs must not hang slipway"
        self.argv.append(words)
        if input is not None:
            self.inputs.append(input)
        line = " ".join(words)
        found = next((answer for name, answer in self.answers.items() if name in line), (0, "", ""))
        if isinstance(found, Exception):
            raise found
        done = Completed(words, *found)
        if check and done.returncode:
            raise CommandError(words, done.returncode, done.output, where="cp")
        return done

    def stream_in(
        self, argv: Sequence[str], local: Path, *, timeout: float | None = None, check: bool = True
    ) -> Completed:
        self.streamed.append(local)
        return self.run(argv, timeout=timeout, check=check)

    @contextmanager
    def tunnel(self, address: str, port: int) -> Iterator[tuple[str, int]]:
        yield (address, port)

    def lines(self, word: str) -> list[str]:
        return [line for argv in self.argv if word in (line := " ".join(argv))]


def docker(**answers: tuple[int, str, str] | Exception) -> tuple[Docker, Host]:
    host = Host(**answers)
    return Docker(host, "cp"), host


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    (tmp_path / "ca.crt").write_text("PEM")
    return Registry("10.0.0.1:5000", "slipway", tmp_path / "password", tmp_path / "ca.crt")


def error_of(call: Callable[[], object]) -> ImageError:
    with pytest.raises(ImageError) as caught:
        call()
    error = caught.value
    assert error.where == "cp" and error.action and error.exit_code == 5
    assert PASSWORD not in "\n".join(error.lines())
    return error


def test_the_daemon_says_who_it_is() -> None:
    server = json.dumps({"Version": "26.1.5", "Arch": "amd64"})
    client, _ = docker(docker_version=(0, server, ""), buildx=(0, "v0.13", ""))
    daemon = client.daemon()
    assert (daemon.version, daemon.architecture, daemon.buildkit) == ("26.1.5", "amd64", True)
    client, _ = docker(docker_version=(0, server, ""), buildx=(1, "", "unknown command"))
    assert not client.daemon().buildkit


def test_docker_that_is_not_installed_and_a_daemon_that_is_not_there_are_told_apart() -> None:
    client, host = docker()
    host.answers["command -v docker"] = (1, "", "")
    assert "not installed" in error_of(client.daemon).what
    client, _ = docker(docker_version=(1, "", "Cannot connect to the Docker daemon at unix:///var/run"))
    error = error_of(client.daemon)
    assert "no Docker daemon answers" in error.what and "Cannot connect" in error.tail


def test_a_build_gets_its_context_as_a_stream_and_no_network(tmp_path: Path) -> None:
    client, host = docker()
    client.build(tmp_path / "c.tar.gz", "slipway/x:1", arguments={"BASE": "b:1"}, labels={"a.b": "c d"})
    (argv,) = host.argv
    assert argv[:4] == ("env", "DOCKER_BUILDKIT=1", "BUILDX_NO_DEFAULT_ATTESTATIONS=1", "docker")
    assert argv[-1] == "-"
    assert host.streamed == [tmp_path / "c.tar.gz"]
    for pair in (("--network", "none"), ("--build-arg", "BASE=b:1"), ("--label", "a.b=c d")):
        assert pair in list(pairwise(argv))
    client.build(tmp_path / "c.tar.gz", "slipway/x:1", arguments={}, buildkit=False)
    assert "DOCKER_BUILDKIT=0" in host.argv[-1] and "--progress=plain" not in host.argv[-1]


def test_a_failed_build_quotes_both_streams(tmp_path: Path) -> None:
    client, _ = docker(build=(1, "Step 3/5 : RUN false\n", "The command returned a non-zero code: 1\n"))
    error = error_of(lambda: client.build(tmp_path / "c", "x", arguments={}))
    assert "RUN false" in error.tail and "non-zero code" in error.tail


def test_a_container_runs_locked_up_and_is_removed() -> None:
    client, host = docker()
    with client.running("x:1", "slipway-check", port=8500, to=8500):
        pass
    (run,) = host.lines("docker run")
    for flag in (
        "--read-only",
        "--user 65532:65532",
        "--cap-drop ALL",
        "no-new-privileges",
        "--publish 127.0.0.1:8500:8500",
        "--pull never",
    ):
        assert flag in run, flag
    assert [" ".join(argv[:3]) for argv in host.argv] == [
        "docker rm --force",
        "docker run --detach",
        "docker rm --force",
    ]


# securityContext of the deployment's pods -> the flag that says the same; "" where Docker does so itself
FLAGS = {
    "runAsUser: 65532": "--user 65532:65532",
    "runAsGroup: 65532": "--user 65532:65532",
    "runAsNonRoot: True": "--user 65532:65532",
    "seccompProfile: {'type': 'RuntimeDefault'}": "",
    "privileged: False": "",
    "allowPrivilegeEscalation: False": "--security-opt no-new-privileges",
    "readOnlyRootFilesystem: True": "--read-only",
    "capabilities: {'drop': ['ALL']}": "--cap-drop ALL",
}


def test_a_container_is_locked_up_as_the_deployments_pods_are() -> None:
    client, host = docker()
    with client.running("x:1", "slipway-check", port=8500, to=8500):
        pass
    (run,) = host.lines("docker run")
    context = {**outputs.pod_security(), **outputs.container_security()}
    assert {f"{key}: {value}" for key, value in context.items()} == FLAGS.keys()
    for flag in FLAGS.values():
        assert flag in run
    for taken_back in ("--privileged", "--cap-add", "seccomp=", "--group-add", "--volume", "--device"):
        assert taken_back not in run


@pytest.mark.parametrize("what", [RuntimeError("x"), KeyboardInterrupt()])
def test_a_container_is_removed_whatever_happens(what: BaseException) -> None:
    client, host = docker()
    with pytest.raises(type(what)), client.running("x:1", "n", port=1, to=1):
        raise what
    assert host.argv[-1][:3] == ("docker", "rm", "--force")


def test_a_container_that_cannot_start_is_removed_too() -> None:
    client, host = docker(docker_run=(125, "", "port is already allocated"))

    def start() -> None:
        with client.running("x:1", "n", port=8500, to=1):
            pytest.fail("it did not start")

    error = error_of(start)
    assert "already allocated" in error.tail and "8500" in error.action
    assert host.argv[-1][:3] == ("docker", "rm", "--force")


def test_a_lost_connection_does_not_hide_what_happened() -> None:
    client, host = docker()
    with pytest.raises(RuntimeError, match="first"), client.running("x", "n", port=1, to=1):
        host.answers["docker rm"] = HostError("the connection was lost")
        raise RuntimeError("first")


def test_removing_what_is_not_there_is_fine_and_what_stays_is_said() -> None:
    client, _ = docker(docker_rm=(1, "", "Error: No such container: n"))
    client.remove("n")
    client, _ = docker(docker_rm=(1, "", "permission denied"))
    assert "docker rm --force n" in error_of(lambda: client.remove("n")).action


def test_push_logs_in_by_stdin_and_leaves_no_login(registry: Registry) -> None:
    client, host = docker(mktemp=(0, "/tmp/tmp.x\n", ""), push=(0, f"1-ab: digest: {DIGEST} size: 9\n", ""))
    assert client.push("10.0.0.1:5000/a:1-ab", registry) == DIGEST
    assert host.inputs == [PASSWORD]
    assert not [argv for argv in host.argv if PASSWORD in " ".join(argv)]
    assert all("--config /tmp/tmp.x" in line for line in host.lines("docker "))
    assert [argv[3] for argv in host.argv if argv[0] == "docker"] == ["login", "push", "logout"]
    assert host.argv[-1] == ("rm", "-rf", "--", "/tmp/tmp.x")


@pytest.mark.parametrize(
    ("step", "said"),
    [("login", "unauthorized"), ("push", "no space left on device")],
)
def test_a_refused_login_or_push_leaves_no_login(registry: Registry, step: str, said: str) -> None:
    client, host = docker(mktemp=(0, "/tmp/tmp.x\n", ""))
    host.answers[f" {step} "] = (1, "", said)
    error = error_of(lambda: client.push("10.0.0.1:5000/a:1", registry))
    assert said in error.tail
    assert host.argv[-1] == ("rm", "-rf", "--", "/tmp/tmp.x")
    assert host.lines("logout")


def test_a_registry_without_login_is_pushed_to_without_one(registry: Registry) -> None:
    client, host = docker(mktemp=(0, "/tmp/x\n", ""), push=(0, f"digest: {DIGEST}", ""))
    client.push("r/a:1", Registry("r"))
    assert not host.lines("docker --config /tmp/x login")


def test_a_push_without_a_digest_is_not_believed(registry: Registry) -> None:
    client, _ = docker(mktemp=(0, "/tmp/x\n", ""), push=(0, "Everything up to date", ""))
    assert "named no digest" in error_of(lambda: client.push("r/a:1", registry)).what


def test_the_registrys_ca_is_written_once(registry: Registry) -> None:
    path = "/etc/docker/certs.d/10.0.0.1:5000/ca.crt"
    client, host = docker()
    host.answers = {f"cat {path}": (1, "", "No such file")}
    assert client.trust(registry)
    assert host.inputs == ["PEM"] and path in host.argv[-1]
    host.answers = {f"cat {path}": (0, "PEM", "")}
    assert not client.trust(registry)
    assert not client.trust(Registry("r"))


def test_a_host_without_room_for_the_ca_or_the_login_is_named(registry: Registry) -> None:
    client, host = docker()
    host.answers = {"cat /etc": (1, "", ""), "mkdir -p": (1, "", "No space left on device")}
    assert "No space left" in error_of(lambda: client.trust(registry)).tail
    client, host = docker(mktemp=(1, "", "No space left on device"))
    assert "No space left" in error_of(lambda: client.push("r/a:1", registry)).tail
    assert not host.lines("rm -rf")


def test_layers_come_base_first_without_empty_ones() -> None:
    client, _ = docker(history=(0, "0\n1618697\n704334204\n103588846\n", ""))
    assert client.layers("x") == (103588846, 704334204, 1618697)


def test_state_and_logs_of_a_container_that_ended() -> None:
    state = json.dumps({"Running": False, "ExitCode": 3, "Error": ""})
    client, _ = docker(inspect=(0, state, ""), logs=(0, "out\n", "err\n"))
    assert (client.state("n").running, client.state("n").exit_code) == (False, 3)
    assert client.logs("n") == "out\nerr"
    client, _ = docker(logs=(1, "", "No such container"))
    assert client.logs("n") == ""


def test_a_program_of_an_image_runs_locked_up_and_reaches_nothing() -> None:
    here, host = docker(docker_run=(0, "debian 13\n", ""))
    assert here.output("image:1", ["sh", "-c", "list"]) == "debian 13\n"
    (argv,) = host.argv
    assert argv[:6] == ("docker", "run", "--rm", "--pull", "never", "--network")
    assert argv[6] == "none" and "--read-only" in argv and ("--cap-drop", "ALL") in pairwise(argv)
    assert argv[-5:] == ("--entrypoint", "sh", "image:1", "-c", "list")
