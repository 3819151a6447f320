"""Ed25519 keys and the signatures of bundles."""

from __future__ import annotations

import os
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
"""RFC 8032, section 7.1, test 3: the private key for the message af 82."""
TEST_3_SIGNATURE = (
    "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
    "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
)


@pytest.fixture
def keys(tmp_path: Path) -> KeyPair:
    return write_keys(tmp_path / "keys")


def test_rfc_8032(tmp_path: Path) -> None:
    """The signature equals the RFC's, so other programs can make and verify them."""
    pair = write_keys(tmp_path, Ed25519PrivateKey.from_private_bytes(bytes.fromhex(TEST_3_KEY)))
    assert load_private_key(pair.private).sign(b"\xaf\x82").hex() == TEST_3_SIGNATURE


def test_signed_bundle(bundle: Bundle, keys: KeyPair) -> None:
    """It loads with and without the key."""
    keys.sign(bundle.path)
    assert load_bundle(bundle.path, keys.public_key) == bundle == load_bundle(bundle.path)


def test_not_signed(bundle: Bundle, keys: KeyPair) -> None:
    """The message names the missing file and the key; without a key none is needed."""
    with pytest.raises(BundleError, match=r"bundle\.json\.sig.*public\.pem"):
        load_bundle(bundle.path, keys.public_key)
    assert load_bundle(bundle.path) == bundle


def test_signed_by_another(bundle: Bundle, keys: KeyPair, tmp_path: Path) -> None:
    """A valid signature by another key."""
    write_keys(tmp_path / "others").sign(bundle.path)
    with pytest.raises(BundleError, match=r"bundle\.json\.sig: .*public\.pem"):
        load_bundle(bundle.path, keys.public_key)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data + b"\n",
        lambda data: bytes([data[0] ^ 1]) + data[1:],
        lambda data: data[:-1] + bytes([data[-1] ^ 0x80]),
        lambda data: bytes(64),
        lambda data: b"\xff" * 64,
    ],
)
def test_damaged_signature(bundle: Bundle, keys: KeyPair, damage: object) -> None:
    """One line with the file."""
    file = keys.sign(bundle.path) / SIGNATURE
    file.write_bytes(damage(file.read_bytes()))  # type: ignore[operator]
    with pytest.raises(BundleError, match=str(file)) as caught:
        load_bundle(bundle.path, keys.public_key)
    assert "\n" not in str(caught.value)


def test_signature_covers_every_file(bundle: Bundle, keys: KeyPair) -> None:
    """The signature covers the manifest, whose hashes cover the networks."""
    keys.sign(bundle.path)
    manifest = bundle.path / MANIFEST
    good = manifest.read_bytes()
    manifest.write_bytes(good + b" ")
    with pytest.raises(BundleError, match=SIGNATURE):
        load_bundle(bundle.path, keys.public_key)
    manifest.write_bytes(good)
    network = bundle.model_path("face")
    network.write_bytes(network.read_bytes()[:-1] + b"?")
    with pytest.raises(BundleError, match=r"files\.face\.onnx\.sha256"):
        load_bundle(bundle.path, keys.public_key)


def test_signature_is_checked_before_the_manifest_is_read(bundle: Bundle, keys: KeyPair) -> None:
    """An unsigned manifest is not parsed."""
    keys.sign(bundle.path)
    (bundle.path / MANIFEST).write_text("{")
    with pytest.raises(BundleError, match=SIGNATURE):
        load_bundle(bundle.path, keys.public_key)


@pytest.mark.parametrize(
    "make", [Ed448PrivateKey.generate, lambda: generate_private_key(SECP256R1())]
)
def test_other_kinds_of_keys(tmp_path: Path, make: object) -> None:
    """Ed448 and ECDSA keys are refused, public and private."""
    pair = write_keys(tmp_path, make())  # type: ignore[operator]
    with pytest.raises(ConfigError, match=r"public\.pem: .*Ed25519"):
        load_public_key(pair.public)
    with pytest.raises(ConfigError, match=r"private\.pem: .*Ed25519"):
        load_private_key(pair.private)


def test_not_a_key(tmp_path: Path, keys: KeyPair) -> None:
    """Another file, the other half, a locked key, no file, a folder, a huge file: one line each
    with the file."""
    (tmp_path / "text").write_text("no key")
    (tmp_path / "huge").write_bytes(bytes(1 << 20))
    locked = write_keys(tmp_path / "locked", Ed25519PrivateKey.generate(), b"secret")
    for file in (tmp_path / "text", tmp_path / "huge", tmp_path / "none", tmp_path):
        for load in (load_public_key, load_private_key):
            with pytest.raises(ConfigError, match=f"^{file}: .*Ed25519") as caught:
                load(file)
            assert "\n" not in str(caught.value)
    for file in (locked.private, keys.public):
        with pytest.raises(ConfigError, match=str(file)):
            load_private_key(file)
    with pytest.raises(ConfigError, match=str(keys.private)):
        load_public_key(keys.private)


def test_without_the_library(keys: KeyPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the extra to install."""
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    with pytest.raises(ConfigError, match=r"emotion-edge\[signed\]"):
        load_public_key(keys.public)


def test_library_is_loaded_only_for_a_key() -> None:
    """A start without a key does not import cryptography."""
    code = (
        "import sys, emotion_edge.engines.bundles.startup as c; c.choose_bundle();"
        "sys.exit('cryptography' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=500, check=False).returncode == 0


def test_key_that_others_can_change(keys: KeyPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever can write the key, or put another one in its place, decides what is signed."""
    keys.public.chmod(0o646)
    with pytest.raises(ConfigError, match=r"public\.pem: .*chmod o-w"):
        load_public_key(keys.public)
    keys.public.chmod(0o644)
    keys.public.parent.chmod(0o777)
    with pytest.raises(ConfigError, match=r"public\.pem: "):
        load_public_key(keys.public)
    keys.public.parent.chmod(0o1777)  # as /tmp: only the owner replaces a file there
    assert load_public_key(keys.public).file == keys.public
    keys.public.parent.chmod(0o755)
    own = keys.public.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    if own == 0:
        assert load_public_key(keys.public).file == keys.public
    else:
        with pytest.raises(ConfigError, match=f"belongs to the user {own}"):
            load_public_key(keys.public)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_key_of_another_user(keys: KeyPair) -> None:
    """Not even where nobody else may write it."""
    os.chown(keys.public, 4711, 4711)
    with pytest.raises(ConfigError, match="belongs to the user 4711"):
        load_public_key(keys.public)
