"""Role apt_source on a real host, against repositories that are as they should be, and as they should not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from slipway.core.errors import ProvisionError

from tests.playbooks.bare_host import PLAYBOOKS, SERVED, URL, BareHost, bare_host
from tests.standins.apt_repository import Fault, Package, SigningKey, publish
from tests.standins.authority import Authority

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

PACKAGE = Package("stand-in", "1.0", {"/usr/share/stand-in/file": b"one\n"})
FAULTS: dict[str, tuple[Fault, float]] = {
    "good": ("", 365),
    "soon": ("", 10),
    "ended": ("", -101),
    "unsigned": ("unsigned", 365),
    "wrongly-signed": ("wrongly signed", 365),
    "altered": ("altered", 365),
    "cut-release": ("cut release", 365),
    "cut-lists": ("cut lists", 365),
}


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return SigningKey()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, key: SigningKey) -> Iterator[BareHost]:
    folder = tmp_path_factory.mktemp("apt")
    for name, (fault, ends_in) in FAULTS.items():
        publish(folder / "served" / name, key, {"main": [PACKAGE]}, fault=fault, ends_in=ends_in)
    (folder / "served/page").mkdir()
    (folder / "served/page/key.gpg").write_text("<html>log in</html>")
    with bare_host(folder) as made:
        made.put(folder / "served", SERVED)
        made.serve()
        yield made


@pytest.fixture(autouse=True)
def _collection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_COLLECTIONS_PATH", str(PLAYBOOKS / "collections"))


def call(key: SigningKey, repository: str = "good", **more: Any) -> dict[str, Any]:
    """What the module is told."""
    return {
        "name": "stand-in",
        "uri": f"{URL}/{repository}",
        "suites": "stable",
        "components": ["main"],
        "architectures": ["amd64"],
        "key_url": f"{URL}/{repository}/key.gpg",
        "fingerprint": key.fingerprint,
        "timeout": 3,
        "retries": 1,
        **more,
    }


def role(key: SigningKey, repository: str = "good", **more: Any) -> dict[str, Any]:
    """A task that adds the source."""
    given = {
        name.replace("fingerprint", "key_fingerprint"): value for name, value in call(key, repository).items()
    }
    return {
        "name": f"Add {repository}",
        "ansible.builtin.include_role": {"name": "slipway.serving.apt_source"},
        "vars": {f"apt_source_{name}": value for name, value in {**given, **more}.items()},
    }


def lists(host: BareHost) -> str:
    return host.on("find /var/lib/apt/lists -name '*_*'; find /tmp -name 'apt-source*'")


UNINSTALL = {
    "name": "Take it away",
    "ansible.builtin.include_role": {"name": "slipway.serving.apt_source", "tasks_from": "uninstall"},
    "vars": {"apt_source_name": "stand-in"},
}


def test_each_fault_has_its_message_and_leaves_the_host_as_it_was(host: BareHost, key: SigningKey) -> None:
    # somebody lets apt take anything: these roles do not
    host.on("echo 'Acquire::AllowInsecureRepositories \"true\";' >/etc/apt/apt.conf.d/99insecure")
    before = host.files("/etc/apt"), lists(host)
    calls = {name: call(key, name) for name in FAULTS if name not in ("good", "soon")} | {
        "absent": call(key, "nothing", key_url=f"{URL}/good/key.gpg"),
        "no-key": call(key, "page"),
        "other-key": call(key, "good", fingerprint="0" * 40),
        "unreachable": call(key, "good", uri="http://127.0.0.1:9/x"),
        "key-unreachable": call(key, "good", key_url="http://127.0.0.1:9/key.gpg"),
        "ended-advice": call(key, "ended", ended="take the other one"),
    }
    each = {
        "name": "Try each",
        "slipway.serving.apt_source": "{{ item | combine({'required': false}) }}",
        "loop": list(calls.values()),
        "register": "tried",
    }
    assert host.play([each, host.tell("tried", "tried.results")]).changed == 0
    told = dict(zip(calls, host.told("tried"), strict=True))
    assert {name: said["kind"] for name, said in told.items()} == {
        "ended": "ended",
        "unsigned": "unsigned",
        "wrongly-signed": "wrongly-signed",
        "altered": "wrongly-signed",
        "cut-release": "truncated",
        "cut-lists": "truncated",
        "absent": "absent",
        "no-key": "no-key",
        "other-key": "other-key",
        "unreachable": "unreachable",
        "key-unreachable": "unreachable",
        "ended-advice": "ended",
    }
    for name, said in told.items():
        what, *rest = said["problem"].splitlines()
        assert "stand-in" in what, name
        assert rest[0].startswith("  where: ") and rest[-1].startswith("  what to do: "), said["problem"]
    assert "ended on " in told["ended"]["problem"] and "E: " in told["cut-lists"]["problem"]
    assert told["ended-advice"]["problem"].endswith("what to do: take the other one")
    assert key.fingerprint in told["other-key"]["problem"] and "0" * 40 in told["other-key"]["problem"]
    assert (host.files("/etc/apt"), lists(host)) == before
    host.on("rm /etc/apt/apt.conf.d/99insecure")

    with pytest.raises(ProvisionError) as caught:
        host.play([role(key, "unsigned")])
    assert "is not signed" in f"{caught.value} {caught.value.tail}"


def test_a_host_somebody_set_up_by_older_instructions(
    host: BareHost, key: SigningKey, tmp_path: Path
) -> None:
    packed = key.public().hex()
    other = SigningKey().public().hex()
    line = f"deb [arch=amd64%s] {URL}/good stable main"
    before = host.files("/etc/apt")
    write = "python3 -c 'import sys; open(sys.argv[1], \"ab\").write(bytes.fromhex(sys.argv[2]))'"
    host.on(
        f"cd /etc/apt && echo '{line % ''}' >sources.list.d/old.list && mkdir -p /usr/share/keyrings\n"
        f"echo '{line % ' signed-by=/usr/share/keyrings/old.gpg'}' >sources.list.d/older.list\n"
        f"printf 'deb http://x.invalid/ y z\\n{line % ''}\\n' >sources.list\n"
        f"printf 'Types: deb\\nURIs: {URL}/good/\\nSuites: stable\\nComponents: main\\nSigned-By: /none\\n' >sources.list.d/x.sources\n"
        f"{write} trusted.gpg {other}{packed}; {write} trusted.gpg.d/old.gpg {packed}\n"
        f"{write} /usr/share/keyrings/old.gpg {packed}"
    )
    assert "Conflicting values" in host.on("apt-get indextargets 2>&1 >/dev/null || true")

    dry = host.play([role(key)], check=True)
    assert dry.changed == 1
    assert f"-{line % ''}" in dry.log.read_text()
    assert "Conflicting values" in host.on("apt-get indextargets 2>&1 >/dev/null || true"), "nothing was done"

    assert host.play([role(key)]).changed == 1
    after = host.files("/etc/apt", "/usr/share/keyrings")
    written = ["keyrings/stand-in.asc", "sources.list.d/stand-in.sources"]
    new = {f"/etc/apt/{name}" for name in (*written, "sources.list", "trusted.gpg")}
    assert set(after) - set(before) >= new
    assert {path for path in set(after) - set(before) if path.startswith("/etc")} - {
        "/etc/apt/keyrings"
    } == new
    assert "/usr/share/keyrings/old.gpg" not in after
    assert host.on("cat /etc/apt/sources.list") == "deb http://x.invalid/ y z\n"
    left = host.on('python3 -c \'print(open("/etc/apt/trusted.gpg", "rb").read().hex())\'').strip()
    assert left == other, "somebody else's key stays"
    host.on("rm /etc/apt/sources.list /etc/apt/trusted.gpg")
    assert host.on("apt-get indextargets 2>&1 >/dev/null") == ""
    assert "1.0" in host.on("apt-cache policy stand-in")

    assert host.play([role(key)]).changed == 0
    host.on(
        "sed -i /Signed-By/d /etc/apt/sources.list.d/stand-in.sources; echo x >/etc/apt/keyrings/stand-in.asc"
    )
    assert host.play([role(key)]).changed == 1
    assert {
        path: host.files("/etc/apt").get(path) for path in after if path.endswith((".asc", ".sources"))
    } == {path: said for path, said in after.items() if path.endswith((".asc", ".sources"))}

    assert host.play([UNINSTALL]).changed == 1
    assert {p: s for p, s in host.files("/etc/apt").items() if p != "/etc/apt/keyrings"} == {
        p: s for p, s in before.items() if p != "/etc/apt/keyrings"
    }
    assert "stand-in" not in host.on("ls /var/lib/apt/lists; apt-cache policy stand-in")


def test_a_key_that_ends_soon_is_watched_and_renewed(host: BareHost, key: SigningKey, tmp_path: Path) -> None:
    (tmp_path / "key.gpg").write_bytes(key.public(10))
    file = {"key_file": str(tmp_path / "key.gpg"), "key_url": ""}
    first = host.play([role(key, "soon", **file), host.tell("first", "__apt_source_added")])
    said = host.told("first")
    assert first.changed == 1 and said["key_ends"]
    assert f"ends on {said['key_ends']}, in 10 days; after that apt reads nothing new" in said["warnings"][0]

    again = [role(key, "soon"), host.tell("again", "__apt_source_added")]
    assert host.play(again).changed == 0
    assert "its publisher has none yet that is valid for longer" in host.told("again")["warnings"][0]
    assert host.play([role(key, "soon", renew_days=5), host.tell("quiet", "__apt_source_added")]).changed == 0
    assert "warnings" not in host.told("quiet")

    renewed = key.public(400).hex()
    host.on(f'python3 -c \'open("{SERVED}/soon/key.gpg", "wb").write(bytes.fromhex("{renewed}"))\'')
    assert host.play(again).changed == 1
    assert host.told("again")["key_ends"] > said["key_ends"] and "warnings" not in host.told("again")
    host.play([UNINSTALL])


# What a forward proxy is asked for is a whole address; this folder of the stand-in answers for one host
PROXIED = "repository.invalid"
TLS = """
import functools, http.server, ssl, sys
class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # a connection that ends with its answer is an error to apt's TLS
handler = functools.partial(Handler, directory="/srv/stand-in")
server = http.server.ThreadingHTTPServer(("127.0.0.1", 8443), handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/srv/tls/server.crt", "/srv/tls/server.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


def test_behind_a_proxy_that_apt_and_the_environment_name(host: BareHost, key: SigningKey) -> None:
    uri = f"http://{PROXIED}/good"
    through = {"uri": uri, "key_url": f"{uri}/key.gpg"}
    with pytest.raises(ProvisionError) as caught:
        host.play([role(key, **through)])
    said = f"{caught.value} {caught.value.tail}"
    assert "what to do: see that this host reaches it: name resolution, firewall, proxy, certificates" in said
    host.on(f"mkdir -p {SERVED}/http: && ln -s .. {SERVED}/http:/{PROXIED}")
    host.on(f"echo 'Acquire::http::Proxy \"{URL}\";' >/etc/apt/apt.conf.d/99proxy")
    environment = {"http_proxy": URL}
    try:
        block = {"name": "Through", "block": [role(key, **through)], "environment": environment}
        assert host.play([block]).changed == 1
        assert "1.0" in host.on("apt-cache policy stand-in")
    finally:
        host.on("rm /etc/apt/apt.conf.d/99proxy")
        host.play([UNINSTALL])


def test_a_server_whose_authority_only_this_site_knows(
    host: BareHost, key: SigningKey, tmp_path: Path
) -> None:
    ours = Authority("ca.site.invalid")
    private, certificate = ours.sign("repository")
    files = {
        "server.key": private,
        "server.crt": certificate,
        "ca.crt": ours.certificate,
        "serve.py": TLS.encode(),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    host.put(tmp_path, "/srv/tls")
    host.on("systemd-run --quiet --unit=stand-in-https python3 /srv/tls/serve.py")
    uri = "https://127.0.0.1:8443/good"
    over: dict[str, Any] = {"uri": uri, "key_url": f"{uri}/key.gpg", "timeout": 20}
    with pytest.raises(ProvisionError) as caught:
        host.play([role(key, **over)])
    said = f"{caught.value} {caught.value.tail}".lower()
    assert "certificate" in said and "what to do: see that this host reaches it" in said
    host.on(
        "cp /srv/tls/ca.crt /usr/local/share/ca-certificates/site.crt && update-ca-certificates --fresh >/dev/null 2>&1"
    )
    try:
        assert host.play([role(key, **over)]).changed == 1
        assert "1.0" in host.on("apt-cache policy stand-in")
    finally:
        host.on(
            "rm /usr/local/share/ca-certificates/site.crt && update-ca-certificates --fresh >/dev/null 2>&1"
        )
        host.play([UNINSTALL])


def test_packages_are_installed_from_it(host: BareHost, key: SigningKey) -> None:
    packages = {
        "name": "Install",
        "ansible.builtin.include_role": {"name": "slipway.serving.apt_source", "tasks_from": "packages"},
        "vars": {"apt_source_packages": ["stand-in"], "apt_source_retries": 0},
    }
    host.on(
        "cp -a /etc/apt/sources.list.d /srv/kept; rm /etc/apt/sources.list.d/*"
    )  # only ours: no mirror is asked
    try:
        assert host.play([role(key), packages]).changed == 3
        assert host.on("cat /usr/share/stand-in/file") == "one\n"
        host.on(
            "apt-get purge -q -y stand-in; echo 'deb http://127.0.0.1:9/ x y' >/etc/apt/sources.list.d/z.list"
        )
        host.on("touch -d 2000-01-01 /var/lib/apt/lists; rm -f /var/lib/apt/periodic/update-success-stamp")
        with pytest.raises(ProvisionError) as caught:
            host.play([packages])
        said = f"{caught.value} {caught.value.tail}"
        assert "stand-in cannot be installed" in said and "http://127.0.0.1:9/" in said, (
            "which of them it was"
        )
        assert "what to do: mend the package source that is named" in said
        host.play([UNINSTALL])
    finally:
        host.on("rm -rf /etc/apt/sources.list.d && mv /srv/kept /etc/apt/sources.list.d")
