"""site.yml, verify.yml and reset.yml on real hosts, in the order in which people meet them.

One small lab serves the whole module: a control plane with Docker and the registry, and one worker.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from slipway.clients import ansible_play, ssh
from slipway.clients.ansible_play import Played
from slipway.clients.kubectl import Kubectl, KubectlError
from slipway.core import process
from slipway.core.context import Context
from slipway.core.errors import ProvisionError
from slipway.core.schema import Settings
from slipway.core.state import State
from slipway.core.types import Hosts
from slipway.hosts.nspawn.labs import lab_name
from slipway.hosts.stage import MakeHosts, take_down
from slipway.provision.stage import Provision
from slipway.status.now import status_of

from tests.canaries import here, holds, what_others_can_read
from tests.lab_traces import traces

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1500)]

ROOT = Path(__file__).parents[2]
SETTINGS = Settings.model_validate({"hosts": {"workers": 1}})
UNITS = ("containerd", "docker", "docker-registry", "docker-registry-pull", "kubelet")
COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
# What the current value of a secret is in etcd, asked with the API server's own certificate
ETCD = """
import base64, json, ssl, sys, urllib.request
pki = "/etc/kubernetes/pki/"
context = ssl.create_default_context(cafile=pki + "etcd/ca.crt")
context.load_cert_chain(pki + "apiserver-etcd-client.crt", pki + "apiserver-etcd-client.key")
body = json.dumps({"key": base64.b64encode(sys.argv[1].encode()).decode()}).encode()
answer = json.load(urllib.request.urlopen("https://127.0.0.1:2379/v3/kv/range", body, 20, context=context))
sys.stdout.write(base64.b64decode(answer["kvs"][0]["value"]).decode("latin-1"))
"""
# HTTP status of a request with a client's certificate, a login or neither
ASK = """
import ssl, sys, urllib.error, urllib.request
url, method, *login = sys.argv[1:]
request = urllib.request.Request(url, method=method)
if login:
    import base64
    request.add_header("Authorization", "Basic " + base64.b64encode(":".join(login).encode()).decode())
try:
    print(urllib.request.urlopen(request, timeout=20, context=ssl._create_unverified_context()).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""
# The login of a proxy that nothing here uses: FTP's
PROXY_PASSWORD = f"canary/{secrets.token_hex(8)}@b"
# What a run may not touch when it says that it changes nothing.
TREES = "/etc /usr/bin /usr/lib/systemd /var/lib/dpkg /var/lib/apt/lists"


@dataclass
class Lab:
    ctx: Context
    hosts: Hosts

    def on(self, name: str, script: str) -> str:
        """What a shell script prints on a host."""
        host = next(host for host in self.hosts.hosts if host.name == name)
        with ssh.connect(host) as connection:
            return connection.run(["sh", "-c", script], timeout=120).stdout

    def python(self, name: str, program: str, *words: str) -> str:
        """What a Python program prints on a host."""
        return self.on(name, shlex.join(["python3", "-c", program, *words]))

    def kubectl(self, *words: str) -> str:
        return (
            Kubectl((self.ctx.state.bin / "kubectl").resolve(), self.ctx.state.kubeconfig).run(words).stdout
        )

    def get(self, *words: str) -> Any:
        return json.loads(self.kubectl("get", *words, "--output", "json"))

    def flags(self) -> dict[str, dict[str, str]]:
        """Flag to value of each part of the control plane, as its running process has them."""
        out = {}
        for name in COMPONENTS:
            read = f"tr '\\0' '\\n' </proc/$(pgrep --exact --oldest {name[:15]})/cmdline"
            words = [word.removeprefix("--") for word in self.on("cp", read).split() if word.startswith("--")]
            out[name] = dict(word.partition("=")[::2] for word in words)
        return out

    def ends(self) -> dict[str, str]:
        """When kubeadm says its certificates end, by name."""
        told = self.on(
            "cp",
            "kubeadm certs check-expiration --config /etc/kubernetes/kubeadm-init.yml --output json",
        )
        return {
            entry["name"]: entry["expirationDate"]
            for entry in json.loads(told)["certificates"]
            if not entry.get("missing")
        }

    def mark(self) -> None:
        for host in self.hosts.hosts:
            self.on(host.name, "touch /run/slipway-mark; sleep 0.1")

    def touched(self) -> dict[str, str]:
        """Files written since `mark`, by host."""
        find = f"find {TREES} -newer /run/slipway-mark -type f ! -name lock ! -name 'lock-*'"
        found = {host.name: self.on(host.name, find).strip() for host in self.hosts.hosts}
        return {name: files for name, files in found.items() if files}

    def started(self) -> dict[str, str]:
        """When each unit was last started."""
        show = f"systemctl show --property=Id,ActiveState,ActiveEnterTimestampMonotonic {' '.join(UNITS)}"
        return {host.name: self.on(host.name, show) for host in self.hosts.hosts}

    def play(self, playbook: str, *, check: bool = False, **extra: object) -> Played:
        return ansible_play.play(
            ROOT / "playbooks" / playbook,
            self.ctx.state.inventory,
            self.ctx.evidence(f"{playbook}.log"),
            check=check,
            extra=extra,
        )


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    root = tmp_path_factory.mktemp("provision")
    ctx = Context(State(root / ".slipway"), root / "run", ROOT)
    proxy = f"http://bob:{quote(PROXY_PASSWORD, safe='')}@proxy.invalid:3128"
    try:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("FTP_PROXY", proxy)
            yield Lab(ctx, MakeHosts().run(ctx, SETTINGS).value)
    finally:
        take_down(ctx)
        assert traces(lab_name(ctx.state.root)) == []


def test_a_dry_run_on_bare_hosts_says_what_would_happen_and_does_nothing(lab: Lab) -> None:
    lab.mark()
    lines = Provision().plan(lab.ctx, SETTINGS, lab.hosts)
    assert lab.touched() == {}
    text = "\n".join(lines)
    assert "would install docker.io" in text and "would install docker-registry" in text
    assert "cp: control_plane : Start the control plane with kubeadm" in text
    assert "would join the cluster of cp" in text


def test_site_makes_a_cluster(lab: Lab) -> None:
    outcome = Provision().run(lab.ctx, SETTINGS, lab.hosts)
    lab.ctx.state.keep(outcome.value)  # as the chain does: `status` reads it
    assert outcome.changed > 0
    assert [(node.name, node.role) for node in outcome.value.nodes] == [
        ("cp", "control_plane"),
        ("worker-1", "worker"),
    ]
    assert outcome.value.registry is not None
    password = (lab.ctx.state.registry / "password").read_text().strip()
    assert password
    said = "".join(path.read_text(errors="replace") for path in lab.ctx.run.rglob("*") if path.is_file())
    assert "PLAY RECAP" in said and password not in said
    assert lab.ctx.state.kubeconfig.stat().st_mode & 0o777 == 0o600


def test_no_login_is_in_a_file_that_others_read_or_in_what_the_cluster_tells(lab: Lab) -> None:
    """Neither here nor on a host: the registry's, and that of a proxy, which kubeadm would copy into pods."""
    registry = lab.ctx.state.registry
    logins = {
        "proxy": PROXY_PASSWORD,
        "registry": (registry / "password").read_text().strip(),
        "registry, to pull": (registry / "pull-password").read_text().strip(),
    }
    since = lab.ctx.state.inventory.stat().st_mtime - 600  # before the hosts were made
    for host in lab.hosts.hosts:
        with ssh.connect(host) as connection:

            def run(argv: list[str], text: str, connection: ssh.Connection = connection) -> str:
                return connection.run(argv, input=text, timeout=120).stdout

            assert holds(connection.run(["cat", "/etc/environment"]).stdout.encode(), PROXY_PASSWORD)
            assert what_others_can_read(run, logins, since) == []
            connection.run(["sh", "-c", "cat >/srv/seen && chmod 644 /srv/seen"], input=f"x{PROXY_PASSWORD}")
            assert what_others_can_read(run, logins, since) == [("/srv/seen", "proxy")]
            connection.run(["rm", "/srv/seen"])

    places = ["/etc", "/run", "/tmp", "/var", str(lab.ctx.state.root)]
    assert what_others_can_read(here, logins, since, places) == []
    everything = "daemonsets,deployments,pods,configmaps,nodes,events"
    told = lab.kubectl("get", everything, "--all-namespaces", "--output", "json").encode()
    assert b"kube-apiserver" in told and b"kube-proxy" in told
    assert [name for name, secret in logins.items() if holds(told, secret)] == []
    manifests = lab.on("cp", "cat /etc/kubernetes/manifests/*")
    assert manifests.count("kind: Pod") == 4 and not holds(manifests.encode(), PROXY_PASSWORD)


def test_the_running_control_plane_is_set_as_the_benchmark_asks(lab: Lab) -> None:
    flags = lab.flags()
    api = flags["kube-apiserver"]
    assert set(api["enable-admission-plugins"].split(",")) == {"NodeRestriction", "DenyServiceExternalIPs"}
    assert api["service-account-extend-token-expiration"] == "false"
    for name in COMPONENTS[1:]:
        assert flags[name]["profiling"] == "false", name
        assert flags[name]["tls-min-version"] == "VersionTLS12", name
    for name in COMPONENTS:
        suites = flags[name].get("tls-cipher-suites") or flags[name]["cipher-suites"]
        assert suites and all("ECDHE" in suite and "CBC" not in suite for suite in suites.split(",")), name
    assert lab.on("cp", "ls /etc/kubernetes/super-admin.conf 2>&1; true").startswith("ls: cannot access")
    tokens = lab.get("secrets", "--all-namespaces", "--field-selector", "type=bootstrap.kubernetes.io/token")
    assert tokens["items"] == []
    with pytest.raises(KubectlError) as refused:
        lab.kubectl("get", "--raw", "/debug/pprof/")
    assert "NotFound" in refused.value.output or "could not find" in refused.value.output


def test_who_has_no_login_gets_health_and_the_clusters_ca_alone(lab: Lab) -> None:
    def status(path: str) -> str:
        return lab.python("worker-1", ASK, f"https://{lab.hosts.hosts[0].address}:6443{path}", "GET").strip()

    public = ("/livez", "/readyz", "/healthz", "/api/v1/namespaces/kube-public/configmaps/cluster-info")
    assert [status(path) for path in public] == ["200"] * 4
    hidden = ("/version", "/api", "/metrics", "/openid/v1/jwks", "/api/v1/namespaces/kube-public/configmaps")
    assert [status(path) for path in hidden] == ["401"] * 5


def test_secrets_lie_encrypted_in_etcd_and_in_no_log(lab: Lab) -> None:
    lab.kubectl("create", "secret", "generic", "canary", "--from-literal=word=gopher-in-the-mine")
    lab.kubectl("create", "configmap", "canary", "--from-literal=word=gopher-in-the-open")
    assert "gopher-in-the-open" in lab.python("cp", ETCD, "/registry/configmaps/default/canary")
    held = lab.python("cp", ETCD, "/registry/secrets/default/canary")
    assert held.startswith("k8s:enc:secretbox:v1:slipway:")
    found = "grep --recursive --files-with-matches --text gopher-in-the-{} /var/lib/etcd /var/log/kubernetes; true"
    assert "/var/lib/etcd/member/" in lab.on("cp", found.format("open"))
    assert lab.on("cp", found.format("mine")) == ""
    audit = [
        json.loads(line) for line in lab.on("cp", "cat /var/log/kubernetes/audit/audit.log").splitlines()
    ]
    made = [e for e in audit if e["verb"] == "create" and e.get("objectRef", {}).get("name") == "canary"]
    assert {event["objectRef"]["resource"] for event in made} == {"secrets", "configmaps"}
    assert all("requestObject" not in event and "responseObject" not in event for event in audit)
    modes = lab.on(
        "cp", "stat --format '%a %n' /etc/kubernetes/api-server/* /var/log/kubernetes/audit/audit.log"
    )
    assert {line.split()[0] for line in modes.splitlines()} == {"600"}


def test_every_kubelet_is_set_as_the_benchmark_asks(lab: Lab) -> None:
    for host in lab.hosts.hosts:
        told = json.loads(lab.kubectl("get", "--raw", f"/api/v1/nodes/{host.name}/proxy/configz"))
        config = told["kubeletconfig"]
        assert config["seccompDefault"] is True
        assert config["podPidsLimit"] == 4096
        assert config["enableProfilingHandler"] is False
        assert config["tlsMinVersion"] == "VersionTLS12"
        assert all("ECDHE" in suite and "CBC" not in suite for suite in config["tlsCipherSuites"])
        # Kubernetes' own defaults, which the benchmark asks for too
        assert config["authentication"]["anonymous"]["enabled"] is False
        assert config["authorization"]["mode"] == "Webhook"
        assert config.get("readOnlyPort", 0) == 0
        assert config["rotateCertificates"] is True
        assert config["makeIPTablesUtilChains"] is True
        assert config["streamingConnectionIdleTimeout"] != "0s"


# HOST CA PORT -> the names in the certificate that a server shows, once it is verified
SHOWN = """
import json, socket, ssl, sys
host, ca, port = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
with socket.create_connection((host, int(port)), 20) as plain, context.wrap_socket(plain, server_hostname=host) as secure:
    print(json.dumps(sorted(value for _, value in secure.getpeercert()["subjectAltName"])))
"""


def test_kubelets_serve_with_what_the_cluster_signed_for_them_and_are_verified(lab: Lab) -> None:
    assert lab.flags()["kube-apiserver"]["kubelet-certificate-authority"] == "/etc/kubernetes/pki/ca.crt"
    for host in lab.hosts.hosts:
        told = lab.python("cp", SHOWN, host.address, "/etc/kubernetes/pki/ca.crt", "10250")
        assert json.loads(told) == sorted([host.address, host.name])


def test_a_request_for_another_nodes_name_stays_open(lab: Lab) -> None:
    """Made as the kubelet of worker-1, for the control plane's address."""
    cp, worker = lab.hosts.hosts
    subject, names = f"/O=system:nodes/CN=system:node:{worker.name}", f"subjectAltName=IP:{cp.address}"
    pem = lab.on(
        "worker-1",
        "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null"
        f" -subj {subject} -addext {names} 2>/dev/null",
    )
    asked = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": "another"},
        "spec": {
            "request": base64.b64encode(pem.encode()).decode(),
            "signerName": "kubernetes.io/kubelet-serving",
            "usages": ["digital signature", "server auth"],
        },
    }
    lab.on("cp", f"cat >/run/asked.json <<'END'\n{json.dumps(asked)}\nEND\n")
    lab.on(
        "cp",
        "kubectl --kubeconfig /etc/kubernetes/admin.conf create --filename /run/asked.json"
        f" --as system:node:{worker.name} --as-group system:nodes",
    )
    again = Provision().run(lab.ctx, SETTINGS, lab.hosts)
    assert again.changed == 0, [play.changed_tasks for play in again.value.plays.values()]
    log = " ".join(lab.ctx.evidence("site.log").read_text().split())  # Ansible breaks long lines
    told = "request another of the kubelet of worker-1 is not approved: it is for"
    assert f"{told} {cp.address}; expected {worker.address} and worker-1 alone" in log
    assert "certificate" not in lab.get("certificatesigningrequests", "another")["status"]
    lab.kubectl("delete", "certificatesigningrequests", "another")


def test_metrics_server_measures_every_node_and_may_nothing_else(lab: Lab) -> None:
    measured = lab.get("nodes.metrics.k8s.io")["items"]
    assert {item["metadata"]["name"] for item in measured} == {host.name for host in lab.hosts.hosts}
    assert "kube-proxy" in lab.kubectl("top", "pods", "--namespace", "kube-system")
    service = lab.get("apiservice", "v1beta1.metrics.k8s.io")["spec"]
    assert service["caBundle"] and not service.get("insecureSkipTLSVerify")
    (pod,) = lab.get("pods", "--namespace", "kube-system", "--selector", "k8s-app=metrics-server")["items"]
    (container,) = pod["spec"]["containers"]
    assert not [word for word in container["args"] if "insecure" in word]
    assert container["resources"]["limits"]["memory"] == "256Mi"
    process_of = "$(pgrep --exact metrics-server)"
    where = pod["spec"]["nodeName"]
    fields = dict(line.split(":", 1) for line in lab.on(where, f"cat /proc/{process_of}/status").splitlines())
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0
    assert fields["Uid"].split() == ["65532"] * 4
    assert fields["NoNewPrivs"].strip() == "1"
    assert fields["Seccomp"].strip() == "2"
    mounts = lab.on(where, f"cat /proc/{process_of}/mounts").splitlines()
    root = next(line.split() for line in mounts if line.split()[1] == "/")
    assert "ro" in root[3].split(",")
    folder = "/etc/kubernetes/metrics-server"
    modes = lab.on("cp", f"stat --format '%a %n' {folder} {folder}/tls.key {folder}/secret.yml")
    assert [line.split()[0] for line in modes.splitlines()] == ["700", "600", "600"]
    asks = "kubectl --kubeconfig /etc/kubernetes/admin.conf --as system:serviceaccount:kube-system:metrics-server"
    for what, said in (
        ("get nodes --subresource metrics", "yes"),
        ("get nodes --subresource proxy", "no"),
        ("get secrets", "no"),
    ):
        answer = lab.on("cp", f"{asks} auth can-i {what} --all-namespaces 2>/dev/null || true")
        assert answer.strip() == said, what


def test_flannel_keeps_one_capability_and_writes_nowhere(lab: Lab) -> None:
    for host in lab.hosts.hosts:
        fields = dict(
            line.split(":", 1)
            for line in lab.on(host.name, "cat /proc/$(pgrep --exact flanneld)/status").splitlines()
        )
        assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 1 << 12, "CAP_NET_ADMIN"
        assert fields["NoNewPrivs"].strip() == "1"
        assert fields["Seccomp"].strip() == "2"
        mounts = lab.on(host.name, "cat /proc/$(pgrep --exact flanneld)/mounts").splitlines()
        root = next(line.split() for line in mounts if line.split()[1] == "/")
        assert "ro" in root[3].split(",")


def test_nodes_hold_a_login_that_cannot_push(lab: Lab) -> None:
    registry = lab.ctx.state.registry
    push = ("slipway", (registry / "password").read_text().strip())
    pull = ("slipway-pull", (registry / "pull-password").read_text().strip())
    host = lab.hosts.hosts[0].address

    def status(port: int, method: str, path: str, *login: str) -> str:
        return lab.python("cp", ASK, f"https://{host}:{port}{path}", method, *login).strip()

    upload = "/v2/x/blobs/uploads/"
    assert status(5000, "POST", upload, *push) == "202"
    assert status(5000, "POST", upload, *pull) == "401"
    assert status(5000, "GET", "/v2/", *pull) == "401"
    assert [status(5001, "GET", "/v2/", *login) for login in (push, pull)] == ["200", "200"]
    assert [status(5001, "POST", upload, *login) for login in (push, pull)] == ["405", "405"]
    assert [
        status(5001, "DELETE", "/v2/x/manifests/sha256:" + "0" * 64, *login) for login in (push, pull)
    ] == [
        "405",
        "405",
    ]
    assert status(5001, "GET", "/v2/") == "401"
    seen = lab.on("worker-1", f"cat /etc/containerd/certs.d/{host}:5000/hosts.toml")
    assert f'server = "https://{host}:5001"' in seen


def taken(log: str) -> set[str]:
    """The tasks that were not skipped; without those by which Ansible looks at a role's variables."""
    tasks = re.findall(
        r"^TASK \[(?:slipway\.serving\.)?(.+?)\] \*+\n(.*?)(?=^TASK|^PLAY)", log, re.MULTILINE | re.DOTALL
    )
    ran = {name for name, said in tasks if re.search(r"^(ok|changed|included): ", said, re.MULTILINE)}
    return {name for name in ran if "Validating arguments" not in name}


def test_a_second_run_changes_nothing_and_restarts_nothing(lab: Lab, ansible: str) -> None:
    lab.mark()
    before = lab.started()
    again = Provision().run(lab.ctx, SETTINGS, lab.hosts)
    assert again.changed == 0, [play.changed_tasks for play in again.value.plays.values()]
    assert lab.started() == before
    assert taken(lab.ctx.evidence("site.log").read_text()) == {
        *("host : Take the host for this run", "host : Gather facts", "host : Ask the cluster"),
        *("host : Settle under which address each host is known", "See that nobody complains"),
        # its logins are compared by the passwords, which no fact tells
        *(
            "registry : Set the logins",
            "registry : Tell whoever started the play what the registry is called",
        ),
    }, "the facts say that there is nothing to do"
    assert Provision().plan(lab.ctx, SETTINGS, lab.hosts) == []
    # by hand, from the folder above: without ansible.cfg
    done = process.run([ansible, "-i", lab.ctx.state.inventory, "playbooks/site.yml"], cwd=ROOT, timeout=900)
    assert done.stdout.count("changed=0 ") == 2, done.stdout[-2000:]
    assert lab.started() == before
    assert lab.touched() == {}


def test_it_works_even_where_docker_closed_the_forward_chain(lab: Lab) -> None:
    """Docker sets this policy where it is the one to switch forwarding on.

    Pods of the cluster's DNS are on any host.
    """
    for host in lab.hosts.hosts:
        lab.on(host.name, "iptables --policy FORWARD DROP")
    assert lab.play("verify.yml").changed == 0


def test_a_failing_task_is_told_with_host_task_and_cause(lab: Lab) -> None:
    before = lab.on("cp", "cat /etc/docker/daemon.json")
    with pytest.raises(ProvisionError) as caught:
        lab.play("site.yml", docker_daemon={"no-such-key": True})
    assert caught.value.where == "cp"
    assert "docker : Configure the daemon" in caught.value.what
    assert "no-such-key" in caught.value.tail
    assert "PLAY RECAP" in caught.value.evidence[0].read_text()
    assert lab.on("cp", "cat /etc/docker/daemon.json") == before, "what does not validate is not put in place"


def test_preflight_tells_all_problems_before_anything_changes(lab: Lab) -> None:
    lab.mark()
    with pytest.raises(ProvisionError) as caught:
        lab.play(
            "site.yml",
            kube_version="1.35.0",
            registry_password_file="/none/such",
            kubernetes_node_eviction_hard={"imagefs.available": "99.9%"},
        )
    log = caught.value.evidence[0].read_text()
    assert "registry_password_file /none/such does not exist" in log
    back = "the cluster runs Kubernetes 1.36.3, and kube_version is 1.35.0: a cluster does not go back"
    assert log.count(back) >= 2, "from both hosts"
    assert log.count("imagefs.available 99.9%") >= 2
    assert "TASK [slipway.serving.cni : Check the variables and the host]" in log
    assert "TASK [slipway.serving.docker : Make" not in log and "Install Docker" not in log
    assert lab.touched() == {}


def test_what_was_cut_short_or_stopped_is_mended(lab: Lab) -> None:
    lab.on("worker-1", "touch /etc/kubernetes/kubeadm-unfinished")
    lab.on("cp", "systemctl stop docker-registry")
    lab.on("cp", "kubectl --kubeconfig /etc/kubernetes/admin.conf delete node worker-1")
    planned = Provision().plan(lab.ctx, SETTINGS, lab.hosts)  # of one that is no node before a real run
    assert any("would join the cluster of cp" in line or "Name the join" in line for line in planned), planned
    mended = Provision().run(lab.ctx, SETTINGS, lab.hosts)
    plays = mended.value.plays
    assert plays["cp"].changed_tasks[:1] == ("registry : Run the registry",)
    assert "kubernetes_node : Reset the node" in plays["worker-1"].changed_tasks
    assert "worker : Join with kubeadm" in plays["worker-1"].changed_tasks
    assert lab.play("verify.yml").changed == 0


# Host to what spoils there one of each kind of what the facts tell, and the tasks that mend it
SPOILT = {
    "cp": (
        "echo x >>/etc/docker/daemon.json; chmod 666 /etc/docker/registry/htpasswd-pull;"
        " sed -i 's/^slipway:.*/slipway:wrong/' /etc/docker/registry/htpasswd; echo >>/etc/docker/registry/pull.yml;"
        " printf x >>/usr/bin/kubectl; chmod 600 /etc/kubernetes/flannel.yml; rm /etc/kubernetes/network-policy.yml",
        {
            "docker : Configure the daemon",
            "cni : Write the manifest",
            "registry : Configure the registry",
            "registry : Set the logins",
            "kubernetes_node : Install the programs",
            "network_policy : Write the manifest",
        },
    ),
    "worker-1": (
        "echo >>/etc/containerd/config.toml; chmod 600 /etc/default/kubelet; rm /etc/cni/net.d/10-slipway.conflist;"
        " rm /etc/sysctl.d/90-kubernetes.conf; echo >>/etc/systemd/system/kubelet.service;"
        " name=$(ctr -n k8s.io images ls -q | grep --max-count 1 kube-proxy:);"
        " ctr -n k8s.io images label $name io.cri-containerd.pinned=;"
        " sysctl -qw net.bridge.bridge-nf-call-iptables=0",
        {
            "cni : Connect pods to the network",
            "kubernetes_node : Configure containerd",
            "kubernetes_node : Configure the kubelet for this host",
            "kubernetes_node : Import the archives",
            "kubernetes_node : Install the kubelet's unit",
            "kubernetes_node : Load the kernel modules and settings",
            "kubernetes_node : Write the kernel's settings",
        },
    ),
}


def test_what_somebody_spoilt_is_found_and_mended(lab: Lab) -> None:
    """Files by content and by mode, programs, a login, images, kernel settings, and objects in the cluster.

    What somebody else set beside containerd's configuration stays, and has its effect.
    """
    beside = "/etc/containerd/conf.d/99-operator.toml"
    lab.on("worker-1", f"mkdir -p {Path(beside).parent}; echo '[debug]\n  level = \"warn\"' >{beside}")
    for name, (script, _) in SPOILT.items():
        lab.on(name, script)
    lab.kubectl("--namespace", "kube-system", "scale", "deployment", "metrics-server", "--replicas", "0")
    lab.kubectl("delete", "clusterrolebinding", "kube-network-policies")
    lab.ctx.state.kubeconfig.unlink()
    login = "grep ^slipway: /etc/docker/registry/htpasswd; stat -c %a /etc/docker/registry/htpasswd-pull"
    assert lab.on("cp", login).split() == ["slipway:wrong", "666"]
    lab.mark()
    foreseen = {(change.host, change.task) for change in lab.play("site.yml", check=True).changes}
    assert lab.touched() == {}
    mended = Provision().run(lab.ctx, SETTINGS, lab.hosts)
    plays = mended.value.plays
    did = {(name, task) for name, play in plays.items() for task in play.changed_tasks}
    assert len(did & foreseen) >= 0.8 * len(did), sorted(did - foreseen)
    hashed, mode = lab.on("cp", login).split()
    assert (hashed.startswith("slipway:$2"), mode) == (True, "640")
    for name, (_, tasks) in SPOILT.items():
        assert tasks <= set(plays[name].changed_tasks), tasks - set(plays[name].changed_tasks)
    assert {"network_policy : Apply the manifest", "metrics_server : Apply the manifests"} <= set(
        plays["cp"].changed_tasks
    )
    assert 'level = "warn"' in lab.on("worker-1", "containerd config dump").partition("[debug]")[2]
    lab.on("worker-1", f"rm {beside}")
    assert lab.play("verify.yml").changed == 0
    again = Provision().run(lab.ctx, SETTINGS, lab.hosts)
    assert again.changed == 0, [play.changed_tasks for play in again.value.plays.values()]


def test_certificates_that_end_soon_are_renewed_and_what_reads_them_started_anew(lab: Lab) -> None:
    """Of the cluster and of the registry: made short here, long again by the next run, and then left alone."""
    config = "/etc/kubernetes/kubeadm-init.yml"
    lab.on(
        "cp",
        f"sed 's/^certificateValidityPeriod: .*/certificateValidityPeriod: 720h0m0s/' {config} >/run/short.yml &&"
        " kubeadm certs renew all --config /run/short.yml && rm /etc/docker/registry/tls/server.crt",
    )
    lab.play("registry.yml", registry_certificate_days=30, registry_renew_days=0)
    rows = {row["name"]: row for row in status_of(lab.ctx)[0]["certificates"]}
    due = [name for name, row in rows.items() if "`slipway provision` renews it" in row.get("detail", "")]
    assert [name.split()[1] for name in due] == ["kubernetes", "registry"]
    short = lab.ends()
    assert Provision().plan(lab.ctx, SETTINGS, lab.hosts) != []
    before = lab.get("pods", "--namespace", "kube-system", "--selector", "tier=control-plane")["items"]

    renewed = Provision().run(lab.ctx, SETTINGS, lab.hosts)

    tasks = renewed.value.plays["cp"].changed_tasks
    assert "control_plane : Renew the certificates that end soon" in tasks
    assert "registry : Make the certificate" in tasks
    assert all(end > short[name] for name, end in lab.ends().items())
    after = lab.get("pods", "--namespace", "kube-system", "--selector", "tier=control-plane")["items"]
    assert len(after) == 4
    for pod in after:
        (old,) = [other for other in before if other["metadata"]["name"] == pod["metadata"]["name"]]
        assert (
            pod["status"]["containerStatuses"][0]["containerID"]
            != old["status"]["containerStatuses"][0]["containerID"]
        )
    assert [row["detail"] for row in status_of(lab.ctx)[0]["certificates"]] == [""] * len(rows)
    assert lab.play("verify.yml").changed == 0
    again = Provision().run(lab.ctx, SETTINGS, lab.hosts)
    assert again.changed == 0, [play.changed_tasks for play in again.value.plays.values()]


def test_what_kubelets_and_metrics_server_serve_with_is_renewed_in_time(lab: Lab) -> None:
    def serials() -> dict[str, str]:
        kubelet = "openssl x509 -noout -serial -in /var/lib/kubelet/pki/kubelet-server-current.pem"
        found = {host.name: lab.on(host.name, kubelet) for host in lab.hosts.hosts}
        return found | {
            "": lab.on("cp", f"{kubelet.rpartition(' ')[0]} /etc/kubernetes/metrics-server/tls.crt")
        }

    before = serials()
    days: dict[str, Any] = {"kubernetes_node_renew_days": 400, "metrics_server_renew_days": 900}
    renewed = lab.play("kubernetes.yml", **days, metrics_server_certificate_days=901)
    tasks = {change.task for change in renewed.changes}
    assert {
        "kubernetes_node : Approve what it may be called",
        "metrics_server : Make its certificate",
    } <= tasks
    after = serials()
    assert all(after[name] != before[name] for name in before), (before, after)
    assert lab.play("verify.yml").changed == 0
    again = Provision().run(lab.ctx, SETTINGS, lab.hosts)
    assert again.changed == 0, [play.changed_tasks for play in again.value.plays.values()]


def test_reset_asks_first_then_leaves_bare_hosts_that_site_takes_again(lab: Lab) -> None:
    with pytest.raises(ProvisionError, match="See that it is meant"):
        lab.play("reset.yml")
    lab.play("reset.yml", reset_confirmed=True)
    for host in lab.hosts.hosts:
        left = lab.on(
            host.name,
            "dpkg-query -W -f '${Package} ${db:Status-Status}\\n' containerd docker.io docker-registry 2>/dev/null"
            " | grep ' installed'; ls -d /etc/kubernetes /etc/docker /usr/bin/kubelet /var/lib/etcd 2>/dev/null;"
            " iptables-save | grep -E 'KUBE-|FLANNEL-|CNI-|DOCKER'; ls /sys/class/net | grep -E 'cni0|flannel|docker0'; true",
        )
        assert left == "", host.name


@pytest.mark.soak
def test_a_cluster_made_without_these_settings_takes_them(lab: Lab) -> None:
    lab.play(
        "site.yml",
        control_plane_encrypt_secrets=False,
        control_plane_audit_log=False,
        control_plane_limit_anonymous=False,
        control_plane_strong_ciphers=False,
        control_plane_profiling=True,
        control_plane_keep_super_admin=True,
        registry_pull_password_file="",
    )
    before = lab.flags()
    assert "audit-log-path" not in before["kube-apiserver"]
    assert "tls-cipher-suites" not in before["kube-scheduler"]
    lab.kubectl("create", "secret", "generic", "canary", "--from-literal=word=gopher-in-the-mine")
    assert "gopher-in-the-mine" in lab.python("cp", ETCD, "/registry/secrets/default/canary")

    planned = Provision().plan(lab.ctx, SETTINGS, lab.hosts)
    assert "cp: control_plane : Configure kubeadm (/etc/kubernetes/kubeadm-init.yml)" in planned
    assert len(Provision().run(lab.ctx, SETTINGS, lab.hosts).value.nodes) == 2

    after = lab.flags()
    assert after["kube-apiserver"]["audit-log-path"] == "/var/log/kubernetes/audit/audit.log"
    assert "tls-cipher-suites" in after["kube-scheduler"] and "cipher-suites" in after["etcd"]
    kept = yaml.safe_load(
        lab.get("configmap", "kubeadm-config", "--namespace", "kube-system")["data"]["ClusterConfiguration"]
    )
    assert kept["networking"]["podSubnet"] == "10.244.0.0/16"
    assert {"name": "profiling", "value": "false"} in kept["scheduler"]["extraArgs"]
    assert lab.python("cp", ETCD, "/registry/secrets/default/canary").startswith(
        "k8s:enc:secretbox:v1:slipway:"
    )
    word = lab.get("secret", "canary")["data"]["word"]
    assert base64.b64decode(word) == b"gopher-in-the-mine"
    again = Provision().run(lab.ctx, SETTINGS, lab.hosts)
    assert again.changed == 0, [play.changed_tasks for play in again.value.plays.values()]
    assert lab.play("verify.yml").changed == 0
    with pytest.raises(ProvisionError, match="Refuse hosts with problems") as caught:
        lab.play("site.yml", control_plane_encrypt_secrets=False)
    assert "without their key nobody reads them again" in caught.value.tail
