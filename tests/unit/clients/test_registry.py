"""The registry client against a stand-in registry: HTTPS with its own CA, Basic and Bearer login."""

from __future__ import annotations

import base64
import datetime
import hashlib
import ipaddress
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from slipway.clients import registry as client
from slipway.core.errors import ImageError
from slipway.core.types import Registry

OCI = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
PASSWORD = "canary-9f3b"


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


CONFIG = json.dumps({"config": {"Labels": {"model": "mnist"}}}).encode()
MANIFEST = json.dumps({"mediaType": OCI, "config": {"digest": digest(CONFIG)}, "layers": []}).encode()
ATTESTED = json.dumps(
    {
        "mediaType": INDEX,
        "manifests": [
            {"digest": "sha256:" + "0" * 64, "platform": {"os": "unknown"}},
            {"digest": digest(MANIFEST), "platform": {"os": "linux"}},
        ],
    }
).encode()


@dataclass
class StandIn:
    """What the stand-in holds and how it asks for a login."""

    login: str = "basic"
    manifests: dict[str, bytes] = field(
        default_factory=lambda: {"1-ab": MANIFEST, digest(MANIFEST): MANIFEST}
    )
    blobs: dict[str, bytes] = field(default_factory=lambda: {digest(CONFIG): CONFIG})
    told_digest: str = ""
    fail: int = 0
    redirect: str = ""
    seen: list[tuple[str, str]] = field(default_factory=list)
    api: bool = False  # for referrers
    refuse_pushes: int = 0
    upload_to: str = ""  # another place that uploads are sent to
    uploads: dict[str, str] = field(default_factory=dict)  # path -> Authorization of each


@contextmanager
def serving(state: StandIn, folder: Path) -> Iterator[Registry]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def answer(self, code: int, body: bytes, **headers: str) -> None:
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            if self.allowed():
                if state.refuse_pushes:
                    self.answer(state.refuse_pushes, b"read only")
                else:
                    place = state.upload_to or self.path
                    self.answer(202, b"", Location=f"{place.rstrip('/')}/1?state=x")

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            path, _, query = self.path.partition("?")
            if "/uploads/" in path:
                state.uploads[path] = self.headers.get("Authorization", "")
                assert query == f"state=x&digest={digest(body).replace(':', '%3A')}"
                state.blobs[digest(body)] = body
                self.answer(201, b"")
            elif self.allowed():
                reference = path.rpartition("/")[2]
                assert json.loads(body)["mediaType"] == self.headers["Content-Type"]
                state.manifests[reference] = state.manifests[digest(body)] = body
                subject = json.loads(body).get("subject", {}).get("digest")
                self.answer(201, b"", **({"OCI_Subject": subject} if state.api and subject else {}))

        def allowed(self) -> bool:
            basic = "Basic " + base64.b64encode(f"slipway:{PASSWORD}".encode()).decode()
            wanted = {"basic": basic, "bearer": "Bearer t0ken"}.get(state.login)
            if wanted in (None, self.headers.get("Authorization")):
                return True
            host = f"https://127.0.0.1:{self.server.server_port}"  # type: ignore[attr-defined]  # an HTTPServer
            ask = {"basic": 'Basic realm="r"', "bearer": f'Bearer realm="{host}/token",service="r"'}
            self.answer(401, b"{}", WWW_Authenticate=ask[state.login])
            return False

        def do_GET(self) -> None:
            given = self.headers.get("Authorization", "")
            state.seen.append((self.path, given))
            basic = "Basic " + base64.b64encode(f"slipway:{PASSWORD}".encode()).decode()
            if self.path.startswith("/token"):
                if given == basic:
                    self.answer(200, b'{"token": "t0ken"}')
                else:
                    self.answer(401, b'{"errors": [{"code": "UNAUTHORIZED"}]}')
                return
            wanted = basic if state.login == "basic" else "Bearer t0ken"
            if state.login != "none" and given != wanted and not self.path.startswith("/storage/"):
                host = f"https://127.0.0.1:{self.server.server_port}"  # type: ignore[attr-defined]  # an HTTPServer
                ask = {
                    "basic": 'Basic realm="registry"',
                    "bearer": f'Bearer realm="{host}/token",service="registry",scope="x"',
                    "odd": "Negotiate",
                }[state.login]
                self.answer(401, b'{"errors": [{"code": "UNAUTHORIZED"}]}', WWW_Authenticate=ask)
            elif state.fail:
                self.answer(state.fail, b"disk full")
            elif self.path == "/v2/":
                self.answer(200, b"{}")
            elif "/referrers/" in self.path:
                subject = self.path.rpartition("/")[2]
                listed = {digest(one): one for one in state.manifests.values()}
                found = [
                    {"digest": name}
                    for name, one in listed.items()
                    if subject.encode() in one and name != subject
                ]
                self.answer(200 if state.api else 404, json.dumps({"manifests": found}).encode())
            elif "/manifests/" in self.path:
                body = state.manifests.get(self.path.rpartition("/")[2])
                if body is None:
                    self.answer(404, b"{}")
                else:
                    self.answer(200, body, Docker_Content_Digest=state.told_digest or digest(body))
            elif state.redirect and not self.path.startswith("/storage/"):
                self.answer(307, b"", Location=state.redirect + "/storage" + self.path)
            else:
                body = state.blobs.get(self.path.rpartition("/")[2])
                self.answer(404 if body is None else 200, body or b"{}")

    certificate, key = pem(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    (folder / "password").write_text(PASSWORD + "\n")
    try:
        yield Registry(f"127.0.0.1:{server.server_port}", "slipway", folder / "password", certificate)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def pem(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "slipway test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return folder / "ca.crt", folder / "key"


@pytest.mark.parametrize("login", ["basic", "bearer", "none"])
def test_it_logs_in_as_asked_and_finds_the_digest(tmp_path: Path, login: str) -> None:
    with serving(StandIn(login), tmp_path) as registry:
        assert client.manifest_digest(registry, "slipway/mnist", "1-ab") == digest(MANIFEST)
        assert client.manifest_digest(registry, "slipway/mnist", "2-cd") is None


def test_a_registry_may_be_reached_elsewhere_than_nodes_reach_it(tmp_path: Path) -> None:
    with serving(StandIn("basic"), tmp_path) as registry:
        inside = replace(registry, address="10.0.1.10:5000", reached=registry.address)
        assert client.manifest_digest(inside, "slipway/mnist", "1-ab") == digest(MANIFEST)


@pytest.mark.parametrize("login", ["basic", "bearer"])
def test_labels_come_from_the_config(tmp_path: Path, login: str) -> None:
    with serving(StandIn(login), tmp_path) as registry:
        assert client.labels(registry, "slipway/mnist", "1-ab") == {"model": "mnist"}
        assert client.labels(registry, "slipway/mnist", "none") is None


def test_an_index_with_an_attestation_is_seen_through(tmp_path: Path) -> None:
    state = StandIn()
    state.manifests["1-ab"] = ATTESTED
    with serving(state, tmp_path) as registry:
        assert client.manifest_digest(registry, "slipway/mnist", "1-ab") == digest(ATTESTED)
        assert client.labels(registry, "slipway/mnist", "1-ab") == {"model": "mnist"}


def test_the_login_does_not_follow_a_redirect(tmp_path: Path) -> None:
    state = StandIn()
    with serving(state, tmp_path) as registry:
        state.redirect = f"https://{registry.address}"
        assert client.labels(registry, "slipway/mnist", "1-ab") == {"model": "mnist"}
    given = dict(state.seen)
    (stored,) = [path for path in given if path.startswith("/storage/")]
    assert given[stored] == ""
    assert given[stored.removeprefix("/storage")].startswith("Basic ")


def error_of(registry: Registry) -> ImageError:
    with pytest.raises(ImageError) as caught:
        client.manifest_digest(registry, "slipway/mnist", "1-ab")
    error = caught.value
    assert error.exit_code == 5
    assert error.action
    assert PASSWORD not in "\n".join(error.lines())
    return error


@pytest.mark.parametrize("login", ["basic", "bearer"])
def test_a_wrong_password_is_refused_by_name(tmp_path: Path, login: str) -> None:
    with serving(StandIn(login), tmp_path) as registry:
        (tmp_path / "wrong").write_text("wrong")
        error = error_of(replace(registry, password_file=tmp_path / "wrong"))
        assert "refused the login of slipway" in error.what
        assert error.where == registry.address


def test_no_login_where_one_is_wanted(tmp_path: Path) -> None:
    with serving(StandIn(), tmp_path) as registry:
        error = error_of(replace(registry, username=None, password_file=None))
        assert "image.username" in error.action


def test_an_unknown_login_is_named(tmp_path: Path) -> None:
    with serving(StandIn("odd"), tmp_path) as registry:
        assert "Negotiate" in error_of(registry).what


def test_an_untrusted_certificate_names_the_setting(tmp_path: Path) -> None:
    with serving(StandIn(), tmp_path) as registry:
        error = error_of(replace(registry, ca_file=None))
        assert "certificate is not trusted" in error.what
        assert "image.ca_file" in error.action


def test_a_certificate_for_another_name_is_refused(tmp_path: Path) -> None:
    with serving(StandIn(), tmp_path) as registry:
        other = registry.address.replace("127.0.0.1", "localhost")
        assert "certificate is not trusted" in error_of(replace(registry, address=other)).what


def test_a_ca_file_without_certificates_is_refused(tmp_path: Path) -> None:
    with serving(StandIn(), tmp_path) as registry:
        (tmp_path / "empty.pem").write_text("")
        error = error_of(replace(registry, ca_file=tmp_path / "empty.pem"))
        assert error.where.endswith("empty.pem")


def test_an_answer_that_is_not_what_the_registry_says_is_refused(tmp_path: Path) -> None:
    with serving(StandIn(told_digest="sha256:" + "1" * 64), tmp_path) as registry:
        assert "the registry says sha256:111" in error_of(registry).what


def test_another_manifest_for_a_digest_is_refused(tmp_path: Path) -> None:
    state = StandIn()
    asked = "sha256:" + "2" * 64
    state.manifests[asked] = MANIFEST
    with serving(state, tmp_path) as registry, pytest.raises(ImageError):
        client.manifest(registry, "slipway/mnist", asked)


def test_a_sick_registry_is_quoted(tmp_path: Path) -> None:
    with serving(StandIn(fail=500), tmp_path) as registry:
        error = error_of(registry)
        assert "HTTP 500" in error.what
        assert error.tail == "disk full"


def test_a_registry_that_is_not_there(tmp_path: Path) -> None:
    with serving(StandIn(), tmp_path) as registry:
        pass
    error = error_of(registry)
    assert "cannot be reached" in error.what
    assert error.where == registry.address


def test_something_that_is_not_a_registry(tmp_path: Path) -> None:
    state = StandIn("none")
    state.manifests["1-ab"] = b"<html>"
    with serving(state, tmp_path) as registry:
        assert "not JSON" in error_of(registry).what


def test_plain_http_is_not_spoken(tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        error = error_of(Registry(f"127.0.0.1:{server.server_port}"))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert "HTTPS only" in error.action


def attached(registry: Registry, number: int = 1) -> str:
    """Attach a manifest to MANIFEST; returns its digest."""
    document = {"mediaType": OCI, "subject": {"digest": digest(MANIFEST)}, "annotations": {"n": str(number)}}
    data = json.dumps(document).encode()
    descriptor = {"mediaType": OCI, "digest": digest(data), "size": len(data)}
    client.Repository(registry, "slipway/mnist").attach(data, descriptor, digest(MANIFEST))
    return digest(data)


@pytest.mark.parametrize("login", ["basic", "bearer", "none"])
@pytest.mark.parametrize("api", [True, False])
def test_what_is_attached_is_listed_with_and_without_the_referrers_api(
    tmp_path: Path, api: bool, login: str
) -> None:
    state = StandIn(login, api=api)
    with serving(state, tmp_path) as registry:
        repository = client.Repository(registry, "slipway/mnist")
        assert repository.referrers(digest(MANIFEST)) == []
        names = [attached(registry, 1), attached(registry, 2), attached(registry, 2)]
        found = [one["digest"] for one in repository.referrers(digest(MANIFEST))]
    assert found == names[:2]
    assert (client.fallback_tag(digest(MANIFEST)) in state.manifests) is not api


def test_what_others_attached_under_the_fallback_tag_stays(tmp_path: Path) -> None:
    state = StandIn()
    theirs = {"mediaType": INDEX, "manifests": [{"digest": "sha256:" + "7" * 64, "artifactType": "theirs"}]}
    state.manifests[client.fallback_tag(digest(MANIFEST))] = json.dumps(theirs).encode()
    with serving(state, tmp_path) as registry:
        ours = attached(registry)
        found = client.Repository(registry, "slipway/mnist").referrers(digest(MANIFEST))
    assert [one["digest"] for one in found] == ["sha256:" + "7" * 64, ours]
    assert found[0]["artifactType"] == "theirs"


@pytest.mark.parametrize("login", ["basic", "bearer"])
def test_a_small_blob_is_uploaded_and_read_back(tmp_path: Path, login: str) -> None:
    with serving(StandIn(login), tmp_path) as registry:
        repository = client.Repository(registry, "slipway/mnist")
        repository.put_blob(b"a bundle")
        assert repository.blob(digest(b"a bundle")) == b"a bundle"
        with pytest.raises(ImageError, match="not what it names"):
            repository.blob(digest(b"another"))


def test_an_upload_to_storage_elsewhere_does_not_see_the_login(tmp_path: Path) -> None:
    state = StandIn()
    with serving(state, tmp_path) as registry:
        state.upload_to = f"https://localhost:{registry.address.rpartition(':')[2]}/uploads/elsewhere"
        with pytest.raises(ImageError, match="certificate is not trusted"):  # another name, as it should be
            client.Repository(registry, "slipway/mnist").put_blob(b"a bundle")
        state.upload_to = "http://127.0.0.1/uploads/plain"
        with pytest.raises(ImageError, match="which is not HTTPS"):
            client.Repository(registry, "slipway/mnist").put_blob(b"a bundle")
    assert state.uploads == {}


def test_a_registry_that_takes_no_pushes_is_quoted(tmp_path: Path) -> None:
    with (
        serving(StandIn(refuse_pushes=405), tmp_path) as registry,
        pytest.raises(ImageError, match="HTTP 405") as error,
    ):
        client.Repository(registry, "slipway/mnist").put_blob(b"a bundle")
    assert error.value.tail == "read only"
