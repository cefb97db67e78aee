"""Certificates of tests, made when they are needed and good for as long as a test run."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_LIFE = timedelta(days=2)


class Authority:
    """A CA of a test's own; what it signs is trusted by whoever is given `ca_file`."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            _certificate(self._name, self._name, self._key.public_key(), _now())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.ca_file = folder / f"{name}.pem"
        self.ca_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self, name: str, hosts: Sequence[str] = (), *, is_expired: bool = False, password: str | None = None
    ) -> Identity:
        """A certificate made out to `name` and `hosts`, with its key, encrypted where there is a password."""
        key = ec.generate_private_key(ec.SECP256R1())
        begins = _now() - (2 * _LIFE if is_expired else timedelta())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = [x509.DNSName(host) if host.isalpha() else _address(host) for host in hosts]
        built = (
            _certificate(subject, self._name, key.public_key(), begins)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
            .add_extension(_usage(signs_certificates=False), critical=True)
        )
        if names:
            built = built.add_extension(x509.SubjectAlternativeName(names), critical=False)
        encryption = (
            serialization.NoEncryption()
            if password is None
            else serialization.BestAvailableEncryption(password.encode())
        )
        return Identity(
            self._folder,
            name,
            built.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM),
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption),
        )


class Identity:
    """A certificate and its key, in a file each, and both in `both_file`, as Kafka's PEM key stores want them."""

    def __init__(self, folder: Path, name: str, certificate: bytes, key: bytes) -> None:
        self.certificate_file = folder / f"{name}.certificate.pem"
        self.key_file = folder / f"{name}.key.pem"
        self.both_file = folder / f"{name}.both.pem"
        self.certificate_file.write_bytes(certificate)
        self.key_file.write_bytes(key)
        self.both_file.write_bytes(key + certificate)


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, begins: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + _LIFE)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _address(host: str) -> x509.IPAddress:
    return x509.IPAddress(ipaddress.ip_address(host))


def _now() -> datetime:
    # A little earlier: the broker's clock may be read as a second before ours.
    return datetime.now(UTC) - timedelta(minutes=5)
