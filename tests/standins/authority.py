"""A certificate authority made on the spot, and what it signs."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_MAY_SIGN = x509.KeyUsage(
    key_cert_sign=True,
    crl_sign=True,
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)


class Authority:
    """Its own certificate is `certificate`, as PEM."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        signed = (
            _builder(self._name, self._name, self._key, -1, 1)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_MAY_SIGN, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
        )
        self.certificate = _pem(signed.sign(self._key, hashes.SHA256()))

    def sign(self, name: str, ends_in_days: int = 1) -> tuple[bytes, bytes]:
        """Key and certificate of a server at 127.0.0.1, or of a client, as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        addresses = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        builder = _builder(_named(name), self._name, key, min(-1, ends_in_days - 1), ends_in_days)
        # Python 3.13 asks for it
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(addresses, critical=False).add_extension(issuer, critical=False)
        signed = builder.sign(self._key, hashes.SHA256())
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return private, _pem(signed)


def ssl_config(file: Path, pair: tuple[bytes, bytes], clients: bytes = b"") -> Path:
    """An SSLConfig with the PEM in it, as upstream takes it. clients: the authority of required certificates."""
    key, certificate = (part.decode().replace("\n", "\\n") for part in pair)
    text = f'server_key: "{key}"\nserver_cert: "{certificate}"\n'
    if clients:
        authority = clients.decode().replace("\n", "\\n")
        text += f'custom_ca: "{authority}"\nclient_verify: true\n'
    file.write_text(text)
    return file


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, start: int, end: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=start))
        .not_valid_after(now + datetime.timedelta(days=end))
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
