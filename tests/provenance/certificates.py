"""Certificates for tests: an authority, and one by it that may sign C2PA manifests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


class SigningFiles(NamedTuple):
    """PEM files of a certificate with its authority's, and of its key."""

    certificate: str
    private_key: str


def signing_files(folder: Path, key: Key | None = None) -> SigningFiles:
    """Files of a new certificate."""
    authority = ec.generate_private_key(ec.SECP256R1())
    key = key or ec.generate_private_key(ec.SECP256R1())
    chain = [
        _certificate("A signer", key, authority, is_authority=False),
        _certificate("An authority", authority, authority, is_authority=True),
    ]
    files = SigningFiles(str(folder / "certificate.pem"), str(folder / "key.pem"))
    pem = b"".join(one.public_bytes(Encoding.PEM) for one in chain)
    Path(files.certificate).write_bytes(pem)
    Path(files.private_key).write_bytes(key_pem(key))
    return files


def key_pem(key: Key, password: bytes | None = None) -> bytes:
    """A key as PEM."""
    locked = NoEncryption() if password is None else BestAvailableEncryption(password)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked)


def _certificate(
    name: str, key: Key, authority: ec.EllipticCurvePrivateKey, *, is_authority: bool
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name("An authority"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), False
        )
        .add_extension(_usage(is_authority=is_authority), critical=True)
    )
    if not is_authority:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(usage, critical=False)
    return builder.sign(authority, SHA256())


def _name(common_name: str) -> x509.Name:
    # An organisation is asked for: readers show it as the signer.
    named = {NameOID.COMMON_NAME: common_name, NameOID.ORGANIZATION_NAME: "A test"}
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in named.items()])


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
        "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    on = {"key_cert_sign", "crl_sign"} if is_authority else {"digital_signature"}
    return x509.KeyUsage(**{name: name in on for name in names})
