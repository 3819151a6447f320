"""`emotion-edge bundle` on the command line."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from emotion_edge.engines import bounded_run
from emotion_edge.engines.bundles.manifest import DEFAULT_BUNDLE, MANIFEST, Bundle, load_bundle
from emotion_edge.engines.bundles.selection import Selection
from emotion_edge.engines.bundles.startup import choose_bundle
from emotion_edge.engines.bundles.store import BundleStore
from emotion_edge.kernels import PreprocessorError
from emotion_edge.runtime import session
from emotion_edge.runtime.__main__ import main
from emotion_edge.runtime.cli import bundle as bundle_command
from emotion_edge.runtime.cli.bundle import RESTART
from emotion_edge.runtime.service import deployment

from ...engines.fake_cuda import FakeGpu
from ...engines.fake_tensorrt import use_fake_tensorrt
from ...engines.hostile_networks import IMAGE_INPUTS, VOICE_INPUTS, make_endless, make_greedy

TIMEOUT_S = 500
NULL = ("--set", "engines.name=null")


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of the test's own, and no configuration."""
    monkeypatch.setenv("EMOTION_EDGE_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(deployment, "SERVICE_CONFIG", tmp_path / "config.yaml")
    return tmp_path / "state"


@pytest.fixture
def selection(state: Path) -> Callable[[], Selection]:
    return BundleStore(state).read_selection


def bundle(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[str], str]:
    code = main(["bundle", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out.splitlines(), printed.err


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    file = folder / MANIFEST
    fields = json.loads(file.read_text())
    change(fields)
    file.write_text(json.dumps(fields))
    return folder


def rename(folder: Path, name: str) -> Path:
    return edit(folder, lambda fields: fields.update(name=name))


@pytest.fixture
def real(tmp_path: Path) -> Path:
    """A bundle of real networks that differs from the shipped one."""
    return rename(shutil.copytree(DEFAULT_BUNDLE, tmp_path / "new"), "new")


@pytest.fixture
def null(null_bundle: Path, tmp_path: Path) -> Path:
    """A bundle for the null engine."""
    return shutil.copytree(null_bundle, tmp_path / "made")


def pack(folder: Path) -> Path:
    file = folder.with_suffix(".tar")
    with tarfile.open(file, "w") as archive:
        archive.add(folder, ".")
    return file


# Installing


def test_installs_a_real_bundle(
    capsys: pytest.CaptureFixture[str], selection: Callable[[], Selection], real: Path
) -> None:
    """An archive is verified and selected. Installing it again changes nothing."""
    file = pack(real)
    name = load_bundle(real).sha256[:16]
    code, lines, errors = bundle(capsys, "install", file)
    assert (code, errors) == (0, "")
    assert (name in lines[0], lines[1:]) == (True, [RESTART])
    assert choose_bundle().bundle.manifest.name == "new"
    assert selection() == Selection(current=name, on_trial=True)
    code, lines, errors = bundle(capsys, "install", real)
    assert (code, len(lines), errors) == (0, 1, "")
    assert str(real) in lines[0]


@pytest.mark.parametrize("network", ["face", "voice", "fusion", "face int8"])
def test_wrong_golden_output(
    capsys: pytest.CaptureFixture[str],
    selection: Callable[[], Selection],
    state: Path,
    real: Path,
    network: str,
) -> None:
    """One wrong network at any precision of a level: nothing is selected, nothing is left."""
    if not any(level.precision == "int8" for level in load_bundle(real).manifest.levels):
        edit(real, lambda fields: fields["levels"][-1].update(precision="int8"))

    def corrupt(fields: dict[str, Any]) -> None:
        models = {**fields["models"], "fusion": fields["fusion"]}
        entry = models[network.removesuffix(" int8")]
        if network.endswith("int8"):
            entry = entry["variants"]["int8"]
        entry["golden_logits"][0] += 1

    code, lines, errors = bundle(capsys, "install", edit(real, corrupt))
    assert (code, lines, len(errors.splitlines())) == (4, [], 1)
    assert selection() == Selection()
    assert {path.suffix for path in (state / "bundles").iterdir()} == {".lock"}


@pytest.mark.parametrize("part", ["endless", "detector", "speech", "preprocessor"])
def test_whole_pipeline_is_proved(
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    selection: Callable[[], Selection],
    real: Path,
    part: str,
) -> None:
    """A network that never ends, another network in place of a detector, a preprocessor that does
    not open: one line, and nothing is selected."""
    monkeypatch.setattr(bounded_run, "LIMIT_S", 0.5 if part == "endless" else 30.0)
    if part == "endless":
        outputs: dict[str, list[int | str]] = {"embedding": ["batch", 256], "logits": ["batch", 7]}
        network, data = "voice.onnx", make_endless(VOICE_INPUTS, outputs)
    elif part == "preprocessor":
        refuse = Mock(side_effect=PreprocessorError("no log-mel like this"))
        monkeypatch.setattr(session, "open_preprocessor", refuse)
        network, data = "face.onnx", (real / "face.onnx").read_bytes()
    else:
        network = "face_detector.onnx" if part == "detector" else "voice_activity.onnx"
        data = make_greedy(IMAGE_INPUTS, {"x": [1]}, 1)
    (real / network).write_bytes(data)
    entry = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    edit(real, lambda fields: fields["files"].update({network: entry}))
    code, lines, errors = bundle(capsys, "install", real)
    assert (code, lines, len(errors.splitlines())) == (4, [], 1)
    assert selection() == Selection()
    assert caplog.text == ""


def test_builds_engines(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    real: Path,
) -> None:
    """With a GPU the engines are built before the selection, and the first start finds them."""
    gpu: FakeGpu = use_fake_tensorrt(monkeypatch, tmp_path / "cache")
    assert bundle(capsys, "install", real, "--set", "engines.name=tensorrt")[0] == 0
    num_built = gpu.num_builds
    assert num_built >= 2
    assert len(list((tmp_path / "cache").glob("new-*.engine"))) == num_built
    folder = choose_bundle().bundle.path
    assert main(["build", "--bundle", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "up to date"
    assert gpu.num_builds == num_built


def test_level_that_the_bundle_lacks(
    capsys: pytest.CaptureFixture[str], selection: Callable[[], Selection], null: Path
) -> None:
    """It is refused: the service would not start."""
    code, _, errors = bundle(capsys, "install", null, *NULL, "--set", "level=best")
    assert code == 2
    assert "level is 'best'" in errors
    assert selection() == Selection()


def test_configuration_of_the_service(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, null: Path
) -> None:
    """It is read by default. A bundle that it names overrides the installed one."""
    (tmp_path / "config.yaml").write_text("engines: {name: null_}")
    assert bundle(capsys, "install", null)[0] == 2
    (tmp_path / "config.yaml").write_text("engines: {name: 'null'}\nbundle: /opt/mine")
    code, lines, _ = bundle(capsys, "install", null)
    assert code == 0
    assert ("/opt/mine" in lines[1], lines[2:]) == (True, [RESTART])
    other = tmp_path / "other.yaml"
    other.write_text("engines: {name: 'null'}")
    assert bundle(capsys, "rollback", "--config", other)[1][1:] == [RESTART]


@pytest.mark.parametrize("source", ["nowhere.tar", "/dev/null", __file__])
def test_user_errors(capsys: pytest.CaptureFixture[str], source: str) -> None:
    """One line names the source."""
    code, lines, errors = bundle(capsys, "install", source)
    assert (code, lines, len(errors.splitlines())) == (4, [], 1)
    assert source in errors


def test_state_folder_that_cannot_be(
    capsys: pytest.CaptureFixture[str], state: Path, null: Path
) -> None:
    state.touch()
    for action in (("install", null), ("rollback",), ("list",)):
        code, _, errors = bundle(capsys, *action, *NULL)
        assert (code, len(errors.splitlines())) == (4, 1)
        assert str(state) in errors


# Going back


def test_rollback_twice_returns(
    capsys: pytest.CaptureFixture[str], selection: Callable[[], Selection], null: Path
) -> None:
    """Each rollback selects the other bundle. Without a previous bundle it fails."""
    code, _, errors = bundle(capsys, "rollback", *NULL)
    assert (code, len(errors.splitlines())) == (4, 1)
    bundle(capsys, "install", null, *NULL)
    name = selection().current
    code, lines, errors = bundle(capsys, "rollback", *NULL)
    assert (code, lines[1:], errors) == (0, [RESTART], "")
    assert selection().current == ""
    assert name in bundle(capsys, "rollback", *NULL)[1][0]
    assert selection().current == name


def test_rollback_to_a_bundle_that_can_run(
    capsys: pytest.CaptureFixture[str],
    selection: Callable[[], Selection],
    state: Path,
    real: Path,
    null: Path,
) -> None:
    """One level that runs is enough for a bundle that was installed before."""

    def corrupt(fields: dict[str, Any]) -> None:
        fields["levels"][-1]["precision"] = "int8"
        fields["models"]["face"]["variants"]["int8"]["golden_logits"][0] += 1

    assert bundle(capsys, "install", edit(real, corrupt))[0] == 4
    for folder in (real, null):
        assert bundle(capsys, "install", folder, *NULL)[0] == 0
        choose_bundle(starting=True).mark_good()
    assert bundle(capsys, "rollback")[0] == 0
    assert selection().current == load_bundle(real).sha256[:16]


def test_rollback_to_a_bundle_without_the_level(
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    selection: Callable[[], Selection],
    null: Path,
    tmp_path: Path,
) -> None:
    """A level that only the newer bundle has does not prevent the rollback."""
    newer = rename(shutil.copytree(null, tmp_path / "newer"), "newer")
    edit(newer, lambda fields: fields["levels"][0].update(name="newest"))
    for folder in (null, newer):
        assert bundle(capsys, "install", folder, *NULL)[0] == 0
        choose_bundle(starting=True).mark_good()
    assert bundle(capsys, "rollback", *NULL, "--set", "level=newest")[0] == 0
    assert selection().current == load_bundle(null).sha256[:16]
    assert "level is 'newest'" in caplog.text


# The list


def test_list(capsys: pytest.CaptureFixture[str], state: Path, null: Path, tmp_path: Path) -> None:
    """One line each: current, previous, on trial, failed, damaged. The faults come last."""
    code, lines, errors = bundle(capsys, "list")
    assert (code, errors) == (0, "")
    assert lines[0].split() == ["bundle", "name", "version", "date", "MB", "signed", "state"]
    assert lines[1].split()[0:2] == ["-", "default"]
    assert lines[1].split()[-2:] == ["ships", "current"]
    bundle(capsys, "install", null, *NULL)
    choose_bundle(starting=True)
    other = rename(shutil.copytree(null, tmp_path / "other"), "\x1b[2Jother")
    bundle(capsys, "install", other, *NULL)
    lines = bundle(capsys, "list")[1]
    rows = {line.split()[1]: line.split()[5:] for line in lines[1:]}
    assert rows == {
        "default": ["ships", "previous"],
        "null": ["not", "checked"],
        "__2Jother": ["not", "checked", "current,", "on", "trial"],
    }
    for _ in range(3):
        choose_bundle(starting=True)
    name = load_bundle(other).sha256[:16]
    (state / "bundles" / name / "face.onnx").unlink()
    lines = bundle(capsys, "list")[1]
    assert f"{name}  ?        ?        ?" in "\n".join(lines)
    assert any(line.endswith("failed to start, damaged") for line in lines)
    assert lines[-1].endswith("no such file")
    (state / "bundles" / "selection.json").write_text("{")
    lines = bundle(capsys, "list")[1]
    assert "damaged" in lines[-2]
    assert lines[1].endswith("ships        current")


def test_list_shows_a_deleted_bundle(
    capsys: pytest.CaptureFixture[str], selection: Callable[[], Selection], state: Path, null: Path
) -> None:
    """The current bundle has a line without its folder."""
    bundle(capsys, "install", null, *NULL)
    name = selection().current
    shutil.rmtree(state / "bundles" / name)
    lines = bundle(capsys, "list")[1]
    assert lines[2].startswith(f"{name}  ?")
    assert lines[2].endswith("current, on trial, missing")
    assert len(lines) == 4


def test_file_that_is_no_configuration(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Run by root for somebody else, the command shows nothing of a file that it may read."""
    for text in (
        "root:$6$secret:1:0:99:7:::\nbin:$6$secret::",
        "$6$secret::",
        "secret",
        "[secret\n: *secret",
    ):
        (tmp_path / "shadow").write_text(text)
        code, lines, errors = bundle(capsys, "list", "--config", tmp_path / "shadow")
        assert (code, lines, len(errors.splitlines())) == (2, [], 1)
        assert "secret" not in errors


# Signatures


@pytest.fixture
def keys(tmp_path: Path) -> Any:
    pytest.importorskip("cryptography", reason="cryptography is in the signed extra")
    from ...engines.signing import write_keys

    return write_keys(tmp_path / "keys")


def test_signed(capsys: pytest.CaptureFixture[str], null: Path, keys: Any) -> None:
    """An unsigned bundle is refused, a signed one is installed and listed as signed."""
    asks = (*NULL, "--set", f"public_key={keys.public}")
    code, _, errors = bundle(capsys, "install", null, *asks)
    assert (code, len(errors.splitlines())) == (4, 1)
    assert "bundle.json.sig" in errors
    code, lines, _ = bundle(capsys, "sign", null, "--key", keys.private)
    assert (code, len(lines)) == (0, 1)
    assert str(null / "bundle.json.sig") in lines[0]
    assert bundle(capsys, "install", pack(null), *asks)[0] == 0
    assert bundle(capsys, "list", *asks)[1][-1].split()[5] == "yes"
    assert choose_bundle("", str(keys.public)).bundle.manifest.name == "null"
    from ...engines.signing import write_keys

    others = write_keys(null.parent / "others")
    lines = bundle(capsys, "list", *NULL, "--set", f"public_key={others.public}")[1]
    assert lines[-1].split()[5] == "no"


def test_key_that_others_can_read(
    capsys: pytest.CaptureFixture[str], null: Path, keys: Any
) -> None:
    """A warning names the remedy. Refusing may be too late."""
    keys.private.chmod(0o640)
    code, lines, _ = bundle(capsys, "sign", null, "--key", keys.private)
    assert code == 0
    assert f"chmod 600 {keys.private}" in lines[0]


def test_refuses_to_sign_an_incomplete_bundle(
    capsys: pytest.CaptureFixture[str], null: Path, keys: Any
) -> None:
    """A public key is a usage error, a damaged bundle a fault."""
    code, _, errors = bundle(capsys, "sign", null, "--key", keys.public)
    assert (code, len(errors.splitlines())) == (2, 1)
    (null / "face.onnx").write_bytes(b"?")
    assert bundle(capsys, "sign", null, "--key", keys.private)[0] == 4
    assert not (null / "bundle.json.sig").exists()


def test_refuses_to_sign_a_changed_manifest(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, null: Path, keys: Any
) -> None:
    """The signature is of the manifest that was checked."""

    def swap(folder: Path) -> Bundle:
        checked = load_bundle(folder)
        rename(folder, "other")
        return checked

    monkeypatch.setattr(bundle_command, "load_bundle", swap)
    code, _, errors = bundle(capsys, "sign", null, "--key", keys.private)
    assert (code, len(errors.splitlines()), MANIFEST in errors) == (4, 1, True)
    assert not (null / "bundle.json.sig").exists()


def test_keys_of_the_help(capsys: pytest.CaptureFixture[str], tmp_path: Path, null: Path) -> None:
    """The commands in the help make working keys, and openssl itself can sign."""
    pytest.importorskip("cryptography", reason="cryptography is in the signed extra")
    if shutil.which("openssl") is None:
        pytest.skip("no openssl")
    commands = [line for line in bundle_command.EPILOG.splitlines() if "openssl" in line]
    assert len(commands) == 2
    for command in commands:
        subprocess.run(command, shell=True, cwd=tmp_path, check=True, timeout=500)
    assert stat.S_IMODE((tmp_path / "private.pem").stat().st_mode) == 0o600
    asks = (*NULL, "--set", f"public_key={tmp_path / 'public.pem'}")
    by_openssl = ["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", tmp_path / "private.pem"]
    files = ["-in", null / MANIFEST, "-out", null / "bundle.json.sig"]
    done = subprocess.run([*by_openssl, *files], check=False, timeout=500, capture_output=True)
    if done.returncode == 0:  # before version 3 it cannot
        assert bundle(capsys, "install", null, *asks)[0] == 0
        bundle(capsys, "rollback", *NULL)
        (null / "bundle.json.sig").unlink()
    bundle(capsys, "sign", null, "--key", tmp_path / "private.pem")
    assert bundle(capsys, "install", null, *asks)[0] == 0


# Ownership


AS_NOBODY = """
import os, shutil, sys
from emotion_edge.runtime.__main__ import main
null, archive, state = sys.argv[1:]
options = ["--set", "engines.name=null"]
os.environ["EMOTION_EDGE_STATE"] = null + "-state"
assert main(["bundle", "install", null, *options]) == 0  # imports what nobody may not read
os.environ["EMOTION_EDGE_STATE"] = state
code = main(["bundle", "install", archive, *options])
print(os.getuid(), os.getgid(), os.getgroups())
sys.exit(code)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_as_root_for_another_user(null: Path, tmp_path: Path) -> None:
    """The owner of the state folder installs an archive that only root can read, and owns all
    files there."""
    nobody = pwd.getpwnam("nobody")
    file = pack(null)
    file.chmod(0o600)
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        state = Path(name) / "state"
        state.mkdir()
        os.chown(state, nobody.pw_uid, nobody.pw_gid)
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, str(null), str(file), str(state)],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        who = f"{nobody.pw_uid} {nobody.pw_gid} [{nobody.pw_gid}]"
        assert done.stdout.splitlines()[-1] == who
        owners = {path.stat().st_uid for path in state.rglob("*")}
        assert owners == {nobody.pw_uid}
        assert BundleStore(state).read_selection().current == load_bundle(null).sha256[:16]


# The help


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    """The help names the actions, the state folder and the commands for keys."""
    with pytest.raises(SystemExit) as ended:
        main(["bundle", "--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    for text in ("install", "rollback", "list", "sign", "/var/lib/emotion-edge", "openssl genpkey"):
        assert text in printed
