"""How kubectl is called, and what its failures mean."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from slipway.clients.kubectl import Kubectl, KubectlError

# ---- the program itself, as a stand-in that records how it was called


@pytest.fixture
def stand_in(tmp_path: Path) -> Kubectl:
    """A kubectl that notes its arguments, environment and input, and answers what the test puts there."""
    program = tmp_path / "kubectl"
    program.write_text(
        f"#!{sys.executable}\n"
        "import json, os, pathlib, sys, time\n"
        "here = pathlib.Path(__file__).parent\n"
        "piped = '' if 'port-forward' in sys.argv else sys.stdin.read()\n"
        "with (here / 'calls').open('a') as file:\n"
        "    file.write(json.dumps([sys.argv[1:], piped, dict(os.environ)]) + '\\n')\n"
        "if 'port-forward' in sys.argv:\n"
        "    (here / 'pid').write_text(str(os.getpid()))\n"
        "    print('Forwarding from 127.0.0.1:40123 -> 8500', flush=True)\n"
        "    time.sleep(60)\n"
        "sys.stderr.write((here / 'err').read_text() if (here / 'err').exists() else '')\n"
        "sys.stdout.write((here / 'out').read_text() if (here / 'out').exists() else '')\n"
        "sys.exit(1 if (here / 'err').exists() else 0)\n"
    )
    program.chmod(0o755)
    return Kubectl(program, tmp_path / "kubeconfig", "there")


def calls(kubectl: Kubectl) -> list[tuple[list[str], str, dict[str, str]]]:
    return [tuple(json.loads(line)) for line in (kubectl.binary.parent / "calls").read_text().splitlines()]


def test_every_call_names_its_cluster_and_leaves_the_home_alone(stand_in: Kubectl) -> None:
    stand_in.run(["version"])
    ((argv, _, environ),) = calls(stand_in)
    assert argv == [f"--kubeconfig={stand_in.kubeconfig}", "--context=there", "version"]
    assert Path(environ["KUBECACHEDIR"]).name == "kubectl"
    assert environ["KUBECTL_KUBERC"] == "false"


def test_manifests_go_through_stdin(stand_in: Kubectl) -> None:
    stand_in.apply(
        [{"kind": "Secret", "data": {"x": "canary"}}], applyset="configmaps/s", namespace="n", force=True
    )
    ((argv, piped, environ),) = calls(stand_in)
    assert "canary" in piped
    assert "canary" not in " ".join(argv) + json.dumps(environ)
    assert argv[2:] == [
        *("apply", "--server-side", "--field-manager=slipway", "-f", "-", "--force-conflicts"),
        *("-n", "n", "--prune", "--applyset=configmaps/s"),
    ]
    assert environ["KUBECTL_APPLYSET"] == "true"


def test_a_conflict_is_not_forced_by_default(stand_in: Kubectl) -> None:
    stand_in.apply([])
    ((argv, _, _),) = calls(stand_in)
    assert "--force-conflicts" not in argv
    assert "--prune" not in argv


def test_find_gives_none_for_what_is_not_there(stand_in: Kubectl) -> None:
    assert stand_in.find("deployment", "x", namespace="n") is None
    (stand_in.binary.parent / "out").write_text('{"kind": "Deployment"}')
    assert stand_in.find("deployment", "x", namespace="n") == {"kind": "Deployment"}


def test_port_forward_lives_as_long_as_the_block(stand_in: Kubectl) -> None:
    with stand_in.port_forward("serving", "p1", 8500) as address:
        assert address == ("127.0.0.1", 40123)
        child = int((stand_in.binary.parent / "pid").read_text())
        assert Path(f"/proc/{child}").exists()
    assert not Path(f"/proc/{child}").exists()


REASONS = [
    ('Error from server (NotFound): deployments.apps "x" not found', "not_found"),
    (
        "The connection to the server 10.77.0.2:6443 was refused - did you specify the right host?",
        "unreachable",
    ),
    ("Unable to connect to the server: dial tcp: lookup cp: no such host", "unreachable"),
    ("tls: failed to verify certificate: x509: certificate signed by unknown authority", "unreachable"),
    ('error: Apply failed with 1 conflict: conflict with "helm": .spec.replicas', "conflict"),
    ('Error from server (Forbidden): pods is forbidden: User "x" cannot list', "denied"),
    ("error: You must be logged in to the server (Unauthorized)", "login"),
    (
        "error: You must be logged in to the server (the server has asked for the client to provide credentials)",
        "login",
    ),
    ('The Deployment "x" is invalid: spec.replicas: Invalid value: -1', "invalid"),
    ("error: current-context must exist in order to minify", "kubeconfig"),
    ("Error in configuration: context was not found for specified context: x", "kubeconfig"),
    ("error: cannot locate context x", "kubeconfig"),
    ("error: stat /none: no such file or directory", "kubeconfig"),
    ('error: error loading config file "c": yaml: did not find expected key', "kubeconfig"),
    (
        "The connection to the server localhost:8080 was refused - did you specify the right host?",
        "kubeconfig",
    ),
    ("something new", "other"),
]


# What client-go says of the program that a kubeconfig logs in by, and what is to be done about it
GETTING = "Unable to connect to the server: getting credentials: "
PLUGINS = [
    (
        f"{GETTING}exec: executable kubelogin not found\n\nIt looks like you are trying to use a client-go credential "
        "plugin that is not installed.",
        ("plugin_missing", "install kubelogin, the program"),
    ),
    (
        f'{GETTING}exec: "aws": executable file not found in $PATH',
        ("plugin_missing", "install aws, the program"),
    ),
    ('error: no Auth Provider found for name "gcp"', ("plugin_missing", "install gcp, the program")),
    (
        "The SSO session associated with this profile has expired.\n"
        f"{GETTING}exec: executable aws failed with exit code 255",
        ("plugin_failed", "log in anew with aws, by which"),
    ),
    (
        f"{GETTING}exec: fork/exec /opt/login: permission denied",
        ("plugin_failed", "log in anew with /opt/login,"),
    ),
    (f"{GETTING}decoding stdout: EOF", ("plugin_failed", "log in anew with the credential plugin,")),
]


@pytest.mark.parametrize(("text", "expected"), PLUGINS)
def test_a_program_that_logs_in_is_named(stand_in: Kubectl, text: str, expected: tuple[str, str]) -> None:
    (stand_in.binary.parent / "err").write_text(text)
    with pytest.raises(KubectlError) as caught:
        stand_in.get("pods")
    assert (caught.value.reason, caught.value.action[: len(expected[1])]) == expected


@pytest.mark.parametrize(("text", "reason"), REASONS)
def test_failures_say_why(stand_in: Kubectl, text: str, reason: str) -> None:
    (stand_in.binary.parent / "err").write_text(text)
    with pytest.raises(KubectlError) as caught:
        stand_in.get("pods")
    assert caught.value.reason == reason
    assert caught.value.tail == text
    assert caught.value.action
    assert ("cluster.context" in caught.value.action) == (reason == "kubeconfig")
