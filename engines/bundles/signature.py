"""Ed25519 signatures (RFC 8032) of bundles.

In: PEM files, PKCS #8 without a password or SubjectPublicKeyInfo. Out: keys that sign or verify.
A signature is a file of 64 bytes, the format of `openssl pkeyutl -sign -rawin`, so a private key
can stay where only openssl reaches it. The library cryptography is loaded only where a key is
configured.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config_file import ConfigError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

SIGNATURE_BYTES = 64
MAX_KEY_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The key that every bundle must be signed with, and its file."""

    file: Path
    key: Ed25519PublicKey

    def verify(self, signature: bytes, data: bytes) -> bool:
        """Return whether `signature` is this key's signature of `data`."""
        from cryptography.exceptions import InvalidSignature

        try:
            self.key.verify(signature, data)
        except InvalidSignature:
            return False
        return True


def load_public_key(file: Path) -> PublicKey:
    """Read an Ed25519 public key from a PEM file. Raises ConfigError."""
    serialization, ed25519 = _load_library()
    wanted = "the PEM file of an Ed25519 public key is wanted"
    key = _parse(file, serialization.load_pem_public_key, wanted)
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise ConfigError(f"{file}: another kind of key: {wanted}")
    return PublicKey(file, key)


def load_private_key(file: Path) -> Ed25519PrivateKey:
    """Read an Ed25519 private key without a password from a PEM file. Raises ConfigError."""
    serialization, ed25519 = _load_library()
    wanted = "the PEM file of an Ed25519 private key without a password is wanted"
    key = _parse(file, lambda data: serialization.load_pem_private_key(data, None), wanted)
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise ConfigError(f"{file}: another kind of key: {wanted}")
    return key


def _load_library() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise ConfigError(
            "signatures need the library cryptography: pip install 'emotion-edge[signed]'"
        ) from error
    return serialization, ed25519


def _parse(file: Path, parse: Any, wanted: str) -> object:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        if not file.is_file() or file.stat().st_size > MAX_KEY_BYTES:
            raise ConfigError(f"{file}: no key file: {wanted}")
        data = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    try:
        return parse(data)
    # TypeError: it has a password. These errors have messages of several lines.
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{file}: no such key: {wanted}") from error
