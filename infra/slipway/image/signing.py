"""Signed statements about an image: keys, DSSE envelopes, and the Sigstore bundles that carry them.

The form is that of `cosign sign --key` and `cosign attest --key` of version 3: ECDSA over P-256, an in-toto
statement in a DSSE envelope in a Sigstore bundle, without a transparency log, which a private registry has no
use for.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import FormatError, VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey

from slipway.core.errors import ImageError
from slipway.core.schema import Settings
from slipway.core.state import State, create_once, write_atomically

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_IN_TOTO = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
BUNDLES = "application/vnd.dev.sigstore.bundle"  # what the media types of all its versions begin with


@dataclass(frozen=True)
class PublicKey:
    """What signatures are checked with. hint: its name in a bundle, the base64 of a hash over it."""

    path: Path
    key: SSlibKey
    hint: str

    @property
    def fingerprint(self) -> str:
        """Its SHA-256 in hexadecimal digits, as `openssl pkey -pubin -outform DER | sha256sum` prints it."""
        return base64.b64decode(self.hint).hex()


@dataclass(frozen=True)
class PrivateKey:
    """What signs; never leaves this machine."""

    signer: CryptoSigner
    public: PublicKey


class Refused(Exception):
    """Why a bundle proves nothing, in words that follow `it`."""


def private_key(state: State, settings: Settings) -> PrivateKey:
    """The key of image.signing_key, else this state folder's own, which is made once (0600).

    The public half lies beside it or in the state folder as cosign.pub. Raises ImageError for a file that is
    no such key, or that others can read.
    """
    path = settings.image.signing_key or state.signing / "key.pem"
    if settings.image.signing_key is None:
        state.signing.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            fresh = CryptoSigner(ec.generate_private_key(ec.SECP256R1()))
            create_once(path, fresh.private_bytes.decode("ascii"), 0o600)
    key = _loaded(path)
    half = _p256(key.public_key(), path)
    pem = half.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    state.signing.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(state.signing / "cosign.pub", pem)
    public = _public(state.signing / "cosign.pub", half)
    return PrivateKey(CryptoSigner(key, public.key), public)


def kept_key(state: State, settings: Settings) -> PublicKey | None:
    """The public half of the key that signs, without making one: None where there is none yet."""
    path = settings.image.signing_key or state.signing / "key.pem"
    return _public(path, _p256(_loaded(path).public_key(), path)) if path.is_file() else None


def public_key(path: Path) -> PublicKey:
    """A public key in PEM, as cosign.pub is. Raises ImageError."""
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise ImageError(
            f"cannot read the public key: {getattr(error, 'strerror', None) or error}",
            where=str(path),
            action="name the PEM file of the key's public half (cosign.pub)",
        ) from error
    return _public(path, _p256(key, path))


def signed(key: PrivateKey, subject: str, digest: str, kind: str, predicate: dict[str, Any]) -> bytes:
    """A bundle with one signed statement. subject: the image's name; kind: the predicate's type."""
    statement = {
        "_type": _STATEMENT,
        "subject": [{"name": subject, "digest": {"sha256": digest.removeprefix("sha256:")}}],
        "predicateType": kind,
        "predicate": predicate,
    }
    envelope = Envelope(json.dumps(statement, sort_keys=True).encode(), _IN_TOTO, {})
    envelope.sign(key.signer)
    bundle = {
        "mediaType": BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": key.public.hint}},
        "dsseEnvelope": envelope.to_dict(),
    }
    return json.dumps(bundle, sort_keys=True).encode()


def checked(data: bytes, key: PublicKey, digest: str, kind: str) -> dict[str, Any]:
    """The predicate of a bundle that this key signed about this image. Raises Refused otherwise."""
    try:
        bundle = json.loads(data)
        if not bundle["mediaType"].startswith(BUNDLES):
            raise Refused(f"is no Sigstore bundle but {bundle['mediaType'][:80]}")
        hint = bundle["verificationMaterial"].get("publicKey", {}).get("hint", "")
        envelope = Envelope.from_dict(bundle["dsseEnvelope"])
    except (ValueError, KeyError, TypeError, AttributeError, FormatError) as error:
        raise Refused("cannot be read as a Sigstore bundle") from error
    try:
        envelope.verify([key.key], 1)
    except VerificationError as error:
        if hint and hint != key.hint:
            raise Refused(f"is signed by another key ({hint})") from error
        raise Refused("was changed after it was signed, or the signature was") from error
    try:
        statement = json.loads(envelope.payload)
        about = [one["digest"]["sha256"] for one in statement["subject"]]
        kinds = (envelope.payload_type, statement["_type"], statement["predicateType"])
        predicate = statement["predicate"]
    except (ValueError, KeyError, TypeError) as error:
        raise Refused("is signed but holds no in-toto statement") from error
    if digest.removeprefix("sha256:") not in about:
        raise Refused(f"is about another image (sha256:{', sha256:'.join(map(str, about))})")
    if kinds != (_IN_TOTO, _STATEMENT, kind) or not isinstance(predicate, dict):
        raise Refused(f"states something else ({kinds[2]})")
    return predicate


def _loaded(path: Path) -> PrivateKeyTypes:
    try:
        if path.stat().st_mode & 0o077:
            raise ImageError(
                "the signing key can be read by others", where=str(path), action=f"chmod 600 {path}"
            )
        return serialization.load_pem_private_key(path.read_bytes(), None)
    except TypeError as error:  # it wants a password
        raise ImageError(
            "the signing key is encrypted, and slipway asks for no password",
            where=str(path),
            action="write it without one, mode 0600: openssl pkcs8 -topk8 -nocrypt -in KEY -out KEY.plain",
        ) from error
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise ImageError(
            "cannot read the signing key: "
            f"{getattr(error, 'strerror', None) or 'it is no private key in PEM'}",
            where=str(path),
            action="image.signing_key is an ECDSA P-256 key in PEM (PKCS 8): openssl genpkey -algorithm EC "
            "-pkeyopt ec_paramgen_curve:P-256",
        ) from error


def _public(path: Path, key: ec.EllipticCurvePublicKey) -> PublicKey:
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    found = SSlibKey.from_crypto(key)
    # No key id in the envelope: a verifier with an id of its own making would take it for another key.
    unnamed = SSlibKey("", found.keytype, found.scheme, found.keyval)
    return PublicKey(path, unnamed, base64.b64encode(hashlib.sha256(der).digest()).decode())


def _p256(key: PublicKeyTypes, path: Path) -> ec.EllipticCurvePublicKey:
    """The public half of what `path` holds, which must be ECDSA over P-256. Raises ImageError."""
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise ImageError(
        "the key is of another kind than ECDSA P-256",
        where=str(path),
        action="make one: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out KEY",
    )
