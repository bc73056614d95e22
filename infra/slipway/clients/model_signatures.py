"""OpenSSF model signatures, by the package model_signing: checked with a public key, without any network."""

from __future__ import annotations

from pathlib import Path

from slipway.core import extras
from slipway.core.errors import ArtifactError, UsageError


def require(model: Path, signature: Path, key: Path) -> None:
    """Raise ArtifactError unless `signature` is of this key and over just the files of this folder.

    signature: a Sigstore bundle as `model_signing sign key` writes it; where it lies in the folder it is not
    one of the files. key: a public key in PEM. Raises UsageError for a file that is no such key.
    """
    extras.need("signatures", "checking a model's signature")
    from model_signing import hashing, verifying

    try:
        check = verifying.Config().use_elliptic_key_verifier(public_key=key)
    except Exception as error:  # whatever the key's parser says of it
        raise UsageError(
            f"not a public key that can check a model's signature: {error}",
            where=str(key),
            action="set model.signing_key to a PEM file of an ECDSA key (P-256, P-384, P-521)",
        ) from error
    if signature.is_relative_to(model):  # else the way its files were hashed is taken from the signature
        ignored = hashing.Config().set_ignored_paths(paths=[signature.relative_to(model)])
        check = check.set_hashing_config(ignored)
    try:
        check.verify(model, signature)
    except Exception as error:  # ValueError, InvalidSignature, errors of the bundle's parser
        raise ArtifactError(
            f"its signature does not hold: {str(error) or 'it is not of this key'}",
            where=str(model),
            action=f"it is not used; look whether {key} is the key of whoever signed it, and get it again",
        ) from error
