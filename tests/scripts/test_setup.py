"""What scripts/setup_jetson and scripts/build_image refuse, and what they would do. The virtual
device's tests run them for real."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent.parent / "scripts"
OEM_CONFIG = "/lib/systemd/system/nv-oem-config.target"
SOURCE = "deb https://repo.download.nvidia.com/jetson/<SOC> r36.4 main\n"

pytestmark = pytest.mark.skipif(
    not (SCRIPTS / "build_image").exists(),
    reason="the scripts are not part of the installed package",
)
on_a_jetson = Path("/etc/nv_tegra_release").exists()


def run(script: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPTS / script, *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    """NVIDIA's sample root file system, as far as a dry run looks at it."""
    rootfs = tmp_path / "rootfs"
    files = {
        "etc/os-release": 'ID=ubuntu\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n',
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 1\n",
        "etc/passwd": "",
        "etc/group": "",
        "etc/apt/sources.list.d/nvidia-l4t-apt-source.list": SOURCE,
        "var/lib/dpkg/status": "",
    }
    for name, text in files.items():
        (rootfs / name).parent.mkdir(parents=True, exist_ok=True)
        (rootfs / name).write_text(text)
    (rootfs / "etc/systemd/system").mkdir(parents=True)
    return rootfs


def test_jetson_dry_run(rootfs: Path) -> None:
    """Every command in its order, all in that folder, and nothing is changed."""
    before = sorted(rootfs.rglob("*"))
    result = run("build_image", "jetson", rootfs, "--dry-run")
    assert result.returncode == 0, result.stderr
    printed = [line[4:] for line in result.stdout.splitlines() if line.startswith("  + ")]
    lines = [" ".join(shlex.split(line)) for line in printed]
    marks = [
        f"sed -i s/<SOC>/t234/ {rootfs}/etc/apt/sources.list.d/nvidia-l4t-apt-source.list",
        f"chroot {rootfs} env DEBIAN_FRONTEND=noninteractive apt-get ",
        f"chroot {rootfs} systemd-sysusers ",
        f"chroot {rootfs} python3 -m venv --clear --system-site-packages /opt/emotion-edge/venv",
        f"chroot {rootfs} env PATH=/usr/local/cuda/bin:/usr/bin:/bin /opt/emotion-edge/venv/bin/",
        f"ln -sfn /opt/emotion-edge/venv/bin/emotion-edge {rootfs}/usr/local/bin/emotion-edge",
        f"chroot {rootfs} git clone ",
        f"chroot {rootfs} systemctl --quiet set-default multi-user.target",
        f"chroot {rootfs} systemctl --quiet enable emotion-edge.service",
    ]
    places = [[line.startswith(mark) for line in lines].index(True) for mark in marks]
    assert places == sorted(places)
    assert all(str(rootfs) in line for line in lines)
    assert sorted(rootfs.rglob("*")) == before
    assert "packages     installed" not in result.stdout


def test_jetson_without_a_user(rootfs: Path) -> None:
    """NVIDIA's first-boot dialogue would wait for a keyboard."""
    (rootfs / "etc/systemd/system/default.target").symlink_to(OEM_CONFIG)
    result = run("build_image", "jetson", rootfs, "--dry-run")
    assert result.returncode == 2
    assert result.stderr.startswith("nobody could log in: first tools/l4t_create_default_user.sh")


def test_jetson_without_nvidias_part(rootfs: Path) -> None:
    (rootfs / "etc/nv_tegra_release").unlink()
    result = run("build_image", "jetson", rootfs, "--dry-run")
    assert result.returncode == 2
    assert "first NVIDIA's apply_binaries.sh" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "usage: scripts/build_image jetson ROOTFS | debian OUT"),
        (["jetson"], "usage: "),
        (["fedora", "out"], "fedora: allowed: jetson, debian"),
        (["jetson", "/nowhere"], "/nowhere is no folder"),
        (["debian", "/nowhere"], "--wheels and --dry-run are for a Jetson's only"),
        (["jetson", "/", "--wheels"], "--wheels needs a value"),
        (["jetson", "/", "--wheels", "/nowhere"], "--wheels /nowhere: it must have emotion_edge-*"),
        (["jetson", "/", "--force"], "--force: allowed: --wheels DIR, --dry-run"),
    ],
)
def test_bad_arguments_of_build_image(arguments: list[str], said: str) -> None:
    result = run("build_image", *arguments, *(["--dry-run"] if len(arguments) == 2 else []))
    assert result.returncode == 2
    assert result.stderr.startswith(said)
    assert result.stderr.count("\n") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_host_without_the_tools(tmp_path: Path) -> None:
    """One line names everything that apt can bring; nothing has been made."""
    only = tmp_path / "bin"
    only.mkdir()
    for name in ("bash", "dirname", "sed", "apt-cache", "apt-get"):
        if (found := shutil.which(name)) is not None:
            (only / name).symlink_to(found)
    result = run("build_image", "debian", tmp_path / "out", PATH=str(only))
    assert result.returncode == 4
    assert result.stderr.startswith("this needs on Debian 12: sudo apt install qemu-system-x86 ")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(on_a_jetson, reason="this is a Jetson")
def test_other_machines_are_refused() -> None:
    """A desktop that somebody tries it on stays as it is."""
    result = run("setup_jetson", "--dry-run")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "--any-machine" in result.stderr or "is needed" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--power"], "--power: allowed: --dry-run, --wheels"),
        (["--power-mode"], "--power-mode needs a value"),
        (["--wheels", "/nowhere"], "--wheels /nowhere: it must have emotion_edge-*.whl"),
    ],
)
def test_bad_arguments_of_setup(arguments: list[str], said: str) -> None:
    result = run("setup_jetson", *arguments)
    assert result.returncode == 2
    assert result.stderr.startswith(said)
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("script", ["setup_jetson", "flash"])
def test_help(script: str) -> None:
    """What stands at the top of the script."""
    result = run(script, "--help")
    assert result.returncode == 0
    assert "--dry-run" in result.stdout
    assert "#" not in result.stdout
    assert f"scripts/{script}" in result.stdout
