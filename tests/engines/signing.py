"""Key pairs for tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from emotion_edge.engines.bundles.manifest import MANIFEST, SIGNATURE
from emotion_edge.engines.bundles.signature import PublicKey, load_private_key, load_public_key

pytest.importorskip("cryptography", reason="cryptography is in the signed extra")
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)


@dataclass(frozen=True)
class KeyPair:
    """Two PEM files."""

    private: Path
    public: Path

    @property
    def public_key(self) -> PublicKey:
        return load_public_key(self.public)

    def sign(self, folder: Path) -> Path:
        """Sign as `bundle sign` does and return the bundle."""
        data = (folder / MANIFEST).read_bytes()
        (folder / SIGNATURE).write_bytes(load_private_key(self.private).sign(data))
        return folder


def write_keys(folder: Path, key: Any = None, password: bytes = b"") -> KeyPair:
    """Write a private key of any kind, Ed25519 by default, and its public key."""
    key = key or Ed25519PrivateKey.generate()
    folder.mkdir(parents=True, exist_ok=True)
    pair = KeyPair(folder / "private.pem", folder / "public.pem")
    locked = BestAvailableEncryption(password) if password else NoEncryption()
    pair.private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))
    pair.private.chmod(0o600)
    public = key.public_key()
    pair.public.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return pair
