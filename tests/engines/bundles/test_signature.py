"""Who has signed a bundle: keys, signatures, and what is none of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("cryptography", reason="cryptography is in the signed extra")
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from emotion_edge.engines.bundles.manifest import (
    MANIFEST,
    SIGNATURE,
    Bundle,
    BundleError,
    load_bundle,
)
from emotion_edge.engines.bundles.signature import load_private_key, load_public_key
from emotion_edge.engines.config_file import ConfigError

from ..signing import KeyPair, write_keys

TEST_3_KEY = "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7"
"""Of RFC 8032, section 7.1, test 3, whose message is af 82."""
TEST_3_SIGNATURE = (
    "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
    "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
)


@pytest.fixture
def keys(tmp_path: Path) -> KeyPair:
    return write_keys(tmp_path / "keys")


def test_is_the_standard(tmp_path: Path) -> None:
    """The signature of the RFC, so that other programs can make and check them."""
    pair = write_keys(tmp_path, Ed25519PrivateKey.from_private_bytes(bytes.fromhex(TEST_3_KEY)))
    assert load_private_key(pair.private).sign(b"\xaf\x82").hex() == TEST_3_SIGNATURE


def test_signed_bundle(bundle: Bundle, keys: KeyPair) -> None:
    """Loads with and without the key, and is the same."""
    keys.sign(bundle.path)
    assert load_bundle(bundle.path, keys.public_key) == bundle == load_bundle(bundle.path)


def test_not_signed(bundle: Bundle, keys: KeyPair) -> None:
    """Names the key that was asked for; without a key nobody asks."""
    with pytest.raises(BundleError, match=r"not signed \(bundle.json.sig is missing\).*public.pem"):
        load_bundle(bundle.path, keys.public_key)
    assert load_bundle(bundle.path) == bundle


def test_signed_by_another(bundle: Bundle, keys: KeyPair, tmp_path: Path) -> None:
    """A good signature, but of whom?"""
    write_keys(tmp_path / "others").sign(bundle.path)
    with pytest.raises(BundleError, match=r"bundle.json.sig: not a signature of this bundle.json"):
        load_bundle(bundle.path, keys.public_key)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda data: b"", "not a signature"),
        (lambda data: data[:-1], "not a signature"),
        (lambda data: data + b"\n", "65 bytes, at most 64"),
        (lambda data: bytes([data[0] ^ 1]) + data[1:], "not a signature"),
        (lambda data: data[:-1] + bytes([data[-1] ^ 0x80]), "not a signature"),
        (lambda data: bytes(64), "not a signature"),
        (lambda data: b"\xff" * 64, "not a signature"),
    ],
)
def test_damaged_signature(bundle: Bundle, keys: KeyPair, damage: object, says: str) -> None:
    """One line with the file."""
    file = keys.sign(bundle.path) / SIGNATURE
    file.write_bytes(damage(file.read_bytes()))  # type: ignore[operator]
    with pytest.raises(BundleError, match=says) as caught:
        load_bundle(bundle.path, keys.public_key)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_anything_in_the_bundle_is_signed(bundle: Bundle, keys: KeyPair) -> None:
    """A space in the manifest is found by the signature, a bit of a network by its hash."""
    keys.sign(bundle.path)
    manifest = bundle.path / MANIFEST
    good = manifest.read_bytes()
    manifest.write_bytes(good + b" ")
    with pytest.raises(BundleError, match="not a signature"):
        load_bundle(bundle.path, keys.public_key)
    manifest.write_bytes(good)
    network = bundle.model_path("face")
    network.write_bytes(network.read_bytes()[:-1] + b"?")
    with pytest.raises(BundleError, match="changed"):
        load_bundle(bundle.path, keys.public_key)


def test_signature_is_checked_before_the_manifest_is_read(bundle: Bundle, keys: KeyPair) -> None:
    """What nobody has signed is not parsed."""
    keys.sign(bundle.path)
    (bundle.path / MANIFEST).write_text("{")
    with pytest.raises(BundleError, match="not a signature"):
        load_bundle(bundle.path, keys.public_key)


@pytest.mark.parametrize(
    "make", [Ed448PrivateKey.generate, lambda: generate_private_key(SECP256R1())]
)
def test_other_kinds_of_keys(tmp_path: Path, make: object) -> None:
    """Are refused, both halves."""
    pair = write_keys(tmp_path, make())  # type: ignore[operator]
    with pytest.raises(ConfigError, match=r"public.pem: another kind of key.*Ed25519 public key"):
        load_public_key(pair.public)
    with pytest.raises(ConfigError, match=r"private.pem: another kind of key.*Ed25519 private"):
        load_private_key(pair.private)


def test_what_is_no_key(tmp_path: Path, keys: KeyPair) -> None:
    """A file of something else, the other half, one with a password, none, a folder, a huge one:
    one line each that names the file."""
    (tmp_path / "text").write_text("no key")
    (tmp_path / "huge").write_bytes(bytes(1 << 20))
    locked = write_keys(tmp_path / "locked", Ed25519PrivateKey.generate(), b"secret")
    for file in (tmp_path / "text", tmp_path / "huge", tmp_path / "none", tmp_path):
        for load in (load_public_key, load_private_key):
            with pytest.raises(ConfigError, match=f"^{file}: .*Ed25519") as caught:
                load(file)
            assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="without a password"):
        load_private_key(locked.private)
    with pytest.raises(ConfigError, match="no such key"):
        load_private_key(keys.public)
    with pytest.raises(ConfigError, match="no such key"):
        load_public_key(keys.private)


def test_without_the_library(keys: KeyPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says how to get it."""
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    with pytest.raises(ConfigError, match=r"pip install 'emotion-edge\[signed\]'"):
        load_public_key(keys.public)


def test_library_is_loaded_only_for_a_key() -> None:
    """Nobody else waits for it."""
    code = (
        "import sys, emotion_edge.engines.bundles.startup as c; c.choose_bundle();"
        "sys.exit('cryptography' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=500, check=False).returncode == 0
