"""A certificate authority of the test's own, and an owner's certificate by it."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True)
class Authority:
    """PEM files: the authority's own, the owner's chain, and the owner's key."""

    root: Path
    chain: Path
    key: Path


def _name(common: str) -> x509.Name:
    own = x509.NameAttribute
    return x509.Name([own(NameOID.ORGANIZATION_NAME, "A test"), own(NameOID.COMMON_NAME, common)])


def _certificate(subject, key, issuer, by, authority):
    day, now = datetime.timedelta(days=1), datetime.datetime.now(datetime.UTC)
    uses = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
    )
    uses |= {"encipher_only": False, "decipher_only": False}
    uses |= {"digital_signature": not authority, "key_cert_sign": authority, "crl_sign": authority}
    made = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + 30 * day)
        .add_extension(x509.BasicConstraints(authority, None), True)
        .add_extension(x509.KeyUsage(**uses), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), False)
    )
    if not authority:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        made = made.add_extension(usage, False)
    return made.sign(by, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def make(folder: Path) -> Authority:
    root, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    top = _certificate("An authority", root, "An authority", root, True)
    leaf = _certificate("An owner", own, "An authority", root, False)
    secret = own.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    found = Authority(folder / "root.pem", folder / "chain.pem", folder / "key.pem")
    for path, data in ((found.root, top), (found.chain, leaf + top), (found.key, secret)):
        path.write_bytes(data)
    return found
