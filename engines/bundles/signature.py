"""Ed25519 signatures (RFC 8032) of bundles.

In: PEM files, PKCS #8 without a password or SubjectPublicKeyInfo. Out: keys that sign or verify.
A signature is a file of 64 bytes, the format of `openssl pkeyutl -sign -rawin`, so a private key
can stay where only openssl reaches it. The library cryptography is loaded only where a key is
configured.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config_file import ConfigError
from ..plain_text import show_value

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
    """Read an Ed25519 public key from a PEM file that nobody else can change. Raises
    ConfigError."""
    serialization, ed25519 = _load_library()
    wanted = "the PEM file of an Ed25519 public key is wanted"
    key = _parse(file, serialization.load_pem_public_key, wanted, check=_check_owner)
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


def _check_owner(file: Path, handle: int) -> None:
    """Raise ConfigError where another user could put a key of theirs in the place of this one."""
    status, folder = os.fstat(handle), file.resolve().parent.stat()
    trusted = {0, os.geteuid()}
    if status.st_uid not in trusted:
        raise ConfigError(f"{file}: belongs to the user {status.st_uid}, not to root or to you")
    if status.st_mode & stat.S_IWOTH:
        raise ConfigError(f"{file}: everybody can change this key: chmod o-w {file}")
    open_to_all = folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX
    if open_to_all or folder.st_uid not in trusted:
        raise ConfigError(f"{file}: others can replace this key: its folder is theirs to write")


def _parse(
    file: Path,
    parse: Any,
    wanted: str,
    check: Callable[[Path, int], None] = lambda *_: None,
) -> object:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        if not file.is_file():
            raise ConfigError(f"{file}: no key file: {wanted}")
        with file.open("rb") as stream:
            check(file, stream.fileno())
            data = stream.read(MAX_KEY_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except ConfigError:
        raise
    except ValueError as error:  # a name that no file can have
        raise ConfigError(f"{show_value(str(file))}: {error}") from error
    if len(data) > MAX_KEY_BYTES:
        raise ConfigError(f"{file}: no key file: {wanted}")
    try:
        return parse(data)
    # TypeError: it has a password. These errors have messages of several lines.
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{file}: no such key: {wanted}") from error
