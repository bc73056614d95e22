"""When certificates end, from what hosts print."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from slipway.clients import kubectl, ssh
from slipway.core.context import Context
from slipway.core.process import Completed
from slipway.core.schema import Settings
from slipway.core.state import State
from slipway.core.types import Cluster, Host, Hosts
from slipway.status import apt_keys, certificates, doctor, now
from slipway.status.certificates import Ending
from slipway.status.now import status_of

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
PROJECT = Path(__file__).parents[3]
KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(autouse=True)
def _no_apt_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway.clients.apt.own_options", lambda _proxy: {})
    monkeypatch.setattr("slipway.clients.apt.own_origins", dict)


def pem(ends: datetime) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(ends)
        .sign(KEY, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


def after(days: float) -> datetime:
    return NOW + timedelta(days=days)


def host(name: str) -> Host:
    return Host(name, "192.0.2.1", "root", "ssh-ed25519 AAAA", ("control_plane",))


@pytest.fixture
def printed() -> dict[str, str]:
    """What each host prints."""
    return {
        "cp": "# kubernetes apiserver\n"
        + pem(after(364))
        + "# kubernetes admin.conf\n"
        + pem(after(40))
        + "# kubernetes ca\n"
        + pem(after(3649))
        + "# registry server\n"
        + pem(after(800))
        + "# kubernetes empty\n",
        "worker-1": "# kubelet\n" + pem(after(200)) + pem(after(100)) + "# kubelet-server\n" + pem(after(95)),
    }


@pytest.fixture
def ctx(tmp_path: Path, printed: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Context:
    """A lab on record whose third host is off."""
    made = Context(State(tmp_path / "s"), tmp_path / "run", PROJECT, cache=tmp_path / "c")
    hosts = (host("cp"), host("worker-1"), host("worker-2"))
    made.state.keep(Hosts("ssh", hosts))
    made.state.keep(Cluster(Path("kubeconfig"), Path("kubectl"), "https://192.0.2.1:6443", (), None))

    class Connection:
        def __init__(self, name: str) -> None:
            self.name = name

        def run(self, argv: list[str], *, input: str, timeout: float) -> Completed:
            assert argv == ["sh", "-s"] and timeout < 30
            assert "PRIVATE" not in input and ".key" not in input
            return Completed(tuple(argv), 0, printed[self.name], "")

    @contextmanager
    def connect(asked: Host, timeout: float) -> Iterator[Connection]:
        assert timeout <= 5
        if asked.name not in printed:
            raise ssh.Unreachable("no SSH", where=asked.name)
        yield Connection(asked.name)

    class Silent:
        def get(self, kind: str, **_: object) -> dict[str, list[object]]:
            return {"items": []}

        def status(self, _: Context) -> tuple[()]:
            return ()

    monkeypatch.setattr(ssh, "connect", connect)
    monkeypatch.setattr(certificates, "now", lambda: NOW)
    monkeypatch.setattr(kubectl.Kubectl, "of", lambda _: Silent())
    monkeypatch.setattr(now, "made_here", lambda _: Silent())
    return made


def test_every_certificate_is_read_and_of_a_chain_the_one_that_ends_first(
    printed: dict[str, str],
) -> None:
    found = certificates.parse("cp", printed["cp"], PROJECT)
    assert [(ending.name, ending.ends) for ending in found] == [
        ("kubernetes apiserver", after(364)),
        ("kubernetes admin.conf", after(40)),
        ("kubernetes ca", after(3649)),
        ("registry server", after(800)),
    ]
    assert [
        (ending.name, ending.ends) for ending in certificates.parse("w", printed["worker-1"], PROJECT)
    ] == [
        ("kubelet", after(100)),
        ("kubelet-server", after(95)),
    ]


def test_the_first_of_each_kind_is_shown_and_authorities_apart(printed: dict[str, str]) -> None:
    shown = certificates.first_of_each(certificates.parse("cp", printed["cp"], PROJECT))
    assert [ending.name for ending in shown] == ["kubernetes admin.conf", "kubernetes ca", "registry server"]


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (364.5, "ends 2027-11-25, in 364 days"),
        (1, "ends 2026-11-26, in 1 days"),
        (0.5, "ends today"),
        (-0.1, "ended 2026-11-25"),
    ],
)
def test_the_time_left_in_words(days: float, words: str) -> None:
    assert Ending("cp", "kubernetes apiserver", after(days)).left(NOW) == words


@pytest.mark.parametrize(
    ("name", "days", "told"),
    [
        ("kubernetes apiserver", 91, ""),
        ("kubernetes apiserver", 89, "`slipway provision` renews it"),
        ("registry server", 89, "`slipway provision` renews it"),
        ("registry ca", 89, "`slipway provision` renews it"),
        ("kubernetes etcd/ca", 89, "kubeadm renews no authority"),
        ("kubelet", 89, ""),  # it renews its own about then
        ("kubelet", 29, "look at its journal"),
        ("kubelet-server", 91, ""),
        ("kubelet-server", 89, "`slipway provision` renews it"),  # nobody else approves what it asks for
        ("metrics-server", 89, "`slipway provision` renews it"),
    ],
)
def test_what_to_do_follows_from_whose_it_is(name: str, days: float, told: str) -> None:
    said = Ending("cp", name, after(days)).soon(NOW)
    assert (told in said) if told else said == ""


def test_status_shows_them_and_which_host_does_not_tell(ctx: Context) -> None:
    rows = status_of(ctx)[0]["certificates"]
    lines = status_of(ctx)[1]
    assert [row["name"] for row in rows][:5] == [
        "cp: kubernetes admin.conf",
        "cp: kubernetes ca",
        "cp: registry server",
        "worker-1: kubelet",
        "worker-1: kubelet-server",
    ]
    assert rows[-1] == {"name": "worker-2", "state": "not known: no SSH"}
    line = next(line for line in lines if "admin.conf" in line)
    assert "ends 2027-01-04, in 40 days: `slipway provision` renews it" in line


def test_doctor_names_the_one_that_ends_first_and_what_to_do(ctx: Context, printed: dict[str, str]) -> None:
    def check() -> doctor.Check:
        return next(each for each in doctor.examine(ctx, Settings()) if each.name == "certificates")

    assert not check().ok and not check().needed
    assert "kubernetes admin.conf of cp ends 2027-01-04, in 40 days; `slipway provision`" in check().line()
    printed["cp"] = "# kubernetes apiserver\n" + pem(after(-1))
    assert check().needed
    printed["cp"] = "# kubernetes apiserver\n" + pem(after(364))
    assert check().ok and "kubelet-server of worker-1" in check().found


def packet(tag: int, body: bytes) -> bytes:
    """An OpenPGP packet."""
    return bytes([0xC0 | tag, len(body)]) + body


def apt_key(ends: datetime | None, seed: int = 1) -> tuple[bytes, str]:
    """An OpenPGP key that says of itself when it ends, and its fingerprint."""
    created = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp())
    primary = b"\x04" + created.to_bytes(4, "big") + bytes([22, seed] * 20)
    fingerprint = hashlib.sha1(b"\x99" + len(primary).to_bytes(2, "big") + primary).digest()  # RFC 9580
    said = bytes([5, 2]) + created.to_bytes(4, "big") + bytes([9, 16]) + fingerprint[-8:]
    if ends is not None:
        said += bytes([5, 9]) + (int(ends.timestamp()) - created).to_bytes(4, "big")
    signature = bytes([4, 0x13, 22, 8]) + len(said).to_bytes(2, "big") + said + bytes(20)
    return packet(6, primary) + packet(2, signature), fingerprint.hex().upper()


def told_of(*keys: tuple[str, bytes]) -> str:
    return "".join(f"# apt {name}\n{base64.encodebytes(content).decode()}" for name, content in keys)


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> str:
    """The fingerprint of keys with seed 1, which the roles then pin for each source."""
    fingerprint = apt_key(None)[1]
    monkeypatch.setattr(apt_keys, "pins", lambda _: dict.fromkeys(apt_keys.PINS, fingerprint))
    return fingerprint


def test_the_roles_own_pins_count() -> None:
    found = apt_keys.pins(PROJECT)
    assert set(found) == {"docker", "kubernetes", "tensorflow-serving"}
    assert len(set(found.values())) == 3
    assert all(len(bytes.fromhex(pin)) == 20 for pin in found.values())
    problem = apt_keys.read(PROJECT, "docker", apt_key(None)[0]).problem
    assert f"not only the pinned {found['docker']}" in problem


@pytest.mark.parametrize(
    ("content", "state", "detail"),
    [
        (apt_key(after(31))[0], "ends 2026-12-26, in 31 days", ""),
        (apt_key(after(29))[0], "ends 2026-12-24, in 29 days", "fetches it anew"),
        (apt_key(after(-1))[0], "ended 2026-11-24", "fetches it anew"),
        (apt_key(None)[0], "never ends", ""),
        (apt_key(None, seed=2)[0], f"holds {apt_key(None, seed=2)[1]}, not only", "puts the pinned one"),
        (apt_key(None)[0] + apt_key(None, 2)[0], "not only the pinned", "puts the pinned one"),
        (b"<html>\n# kubernetes ca\n", "is not an OpenPGP public key", "puts the pinned one"),
        (b"", "is not an OpenPGP public key", "puts the pinned one"),
    ],
    ids=lambda value: value if isinstance(value, str) else "key",
)
@pytest.mark.parametrize("name", apt_keys.PINS)
def test_status_and_doctor_tell_of_apts_keys(
    ctx: Context, printed: dict[str, str], pinned: str, name: str, content: bytes, state: str, detail: str
) -> None:
    printed.clear()
    printed["cp"] = "# kubernetes apiserver\n" + pem(after(364)) + told_of((name, content))
    rows = {row["name"]: row for row in status_of(ctx)[0]["certificates"]}
    assert set(rows) >= {"cp: kubernetes apiserver", f"cp: apt {name}"}
    assert state in rows[f"cp: apt {name}"]["state"]
    assert (
        (detail in rows[f"cp: apt {name}"]["detail"]) if detail else rows[f"cp: apt {name}"]["detail"] == ""
    )
    check = next(each for each in doctor.examine(ctx, Settings()) if each.name == "certificates")
    assert check.ok is (not detail)
    if detail:
        assert f"apt {name} of cp" in check.found and state in check.found and detail in check.action


def test_without_a_lab_nobody_is_asked(tmp_path: Path) -> None:
    ctx = Context(State(tmp_path / "s"), tmp_path / "run", tmp_path)
    assert certificates.endings(ctx) == ([], [])
    assert status_of(ctx)[0]["certificates"] == []
    assert not [check for check in doctor.examine(ctx, Settings()) if check.name == "certificates"]
