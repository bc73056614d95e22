"""The keys that sign: made once, kept, or refused with what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from slipway.core.errors import ImageError
from slipway.core.schema import ImageSettings, Settings
from slipway.core.state import State
from slipway.image import signing

PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, password: bytes = b"") -> bytes:
    hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(PEM, PKCS8, hidden)


def with_key(path: Path) -> Settings:
    return Settings(image=ImageSettings(signing_key=path))


def test_a_key_is_made_once_and_kept(tmp_path: Path) -> None:
    state = State(tmp_path / ".slipway")
    assert signing.kept_key(state, Settings()) is None
    assert not state.root.exists()
    first = signing.private_key(state, Settings())
    again = signing.private_key(state, Settings())
    assert first.public.hint == again.public.hint
    kept = signing.kept_key(state, Settings())
    assert kept is not None and kept.hint == first.public.hint


def test_where_there_is_a_key_none_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = State(tmp_path / ".slipway")
    first = signing.private_key(state, Settings())
    made: list[object] = []
    monkeypatch.setattr(ec, "generate_private_key", made.append)
    assert signing.private_key(state, Settings()).public.hint == first.public.hint
    assert made == []


def test_removing_the_key_is_how_it_is_rotated(tmp_path: Path) -> None:
    state = State(tmp_path / ".slipway")
    first = signing.private_key(state, Settings())
    (state.signing / "key.pem").unlink()
    fresh = signing.private_key(state, Settings())
    assert fresh.public.hint != first.public.hint
    assert signing.public_key(state.signing / "cosign.pub").hint == fresh.public.hint


BAD = {
    "empty": (b"", "it is no private key in PEM"),
    "public": (
        ec.generate_private_key(ec.SECP256R1())
        .public_key()
        .public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        "it is no private key in PEM",
    ),
    "encrypted": (pem(ec.generate_private_key(ec.SECP256R1()), b"word"), "is encrypted"),
    "another curve": (pem(ec.generate_private_key(ec.SECP384R1())), "of another kind than ECDSA P-256"),
    "rsa": (pem(rsa.generate_private_key(65537, 2048)), "of another kind than ECDSA P-256"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_key_that_cannot_sign_is_refused(tmp_path: Path, what: str) -> None:
    content, said = BAD[what]
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ImageError, match=said) as error:
        signing.private_key(State(tmp_path / ".slipway"), with_key(path))
    assert error.value.where == str(path)
    assert error.value.action


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    path.write_bytes(pem(ec.generate_private_key(ec.SECP256R1())))
    path.chmod(mode)
    with pytest.raises(ImageError, match="can be read by others") as error:
        signing.private_key(State(tmp_path / ".slipway"), with_key(path))
    assert error.value.action == f"chmod 600 {path}"


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_what_is_no_public_key_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "cosign.pub").write_bytes(content)
    with pytest.raises(ImageError, match="cannot read the public key"):
        signing.public_key(tmp_path / "cosign.pub")
    with pytest.raises(ImageError, match="No such file"):
        signing.public_key(tmp_path / "none")


def test_a_public_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 2048).public_key()
    path = tmp_path / "cosign.pub"
    path.write_bytes(key.public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(ImageError, match="of another kind than ECDSA P-256"):
        signing.public_key(path)
