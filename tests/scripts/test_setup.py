"""Dry runs and usage errors of scripts/setup_jetson and scripts/build_image. The tests in the
virtual device run them for real."""

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
    """The parts of NVIDIA's sample root file system that a dry run reads."""
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


def assert_refused(result: subprocess.CompletedProcess[str], code: int, *named: str) -> None:
    """It ends with `code` and one line on stderr that names these things."""
    assert result.returncode == code
    assert result.stderr.count("\n") == 1
    assert [text for text in named if text not in result.stderr] == []


def test_jetson_dry_run(rootfs: Path) -> None:
    """It prints all commands in order, all for that folder, and changes nothing."""
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


def test_jetson_without_a_user(rootfs: Path) -> None:
    """NVIDIA's first-boot dialog would wait for a keyboard."""
    (rootfs / "etc/systemd/system/default.target").symlink_to(OEM_CONFIG)
    result = run("build_image", "jetson", rootfs, "--dry-run")
    assert_refused(result, 2, "tools/l4t_create_default_user.sh")


def test_jetson_without_nvidias_part(rootfs: Path) -> None:
    (rootfs / "etc/nv_tegra_release").unlink()
    assert_refused(run("build_image", "jetson", rootfs, "--dry-run"), 2, "apply_binaries.sh")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], ["jetson ROOTFS", "debian OUT"]),
        (["jetson"], ["jetson ROOTFS"]),
        (["fedora", "out", "--dry-run"], ["fedora", "jetson", "debian"]),
        (["jetson", "/nowhere", "--dry-run"], ["/nowhere"]),
        (["debian", "/nowhere", "--dry-run"], ["--dry-run"]),
        (["jetson", "/", "--wheels"], ["--wheels"]),
        (["jetson", "/", "--wheels", "/nowhere"], ["--wheels /nowhere", "emotion_edge-*.whl"]),
        (["jetson", "/", "--force"], ["--force", "--wheels", "--dry-run"]),
    ],
)
def test_usage_errors_of_build_image(arguments: list[str], named: list[str]) -> None:
    assert_refused(run("build_image", *arguments), 2, *named)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_host_without_the_tools(tmp_path: Path) -> None:
    """One line names all missing packages, and nothing is written."""
    only = tmp_path / "bin"
    only.mkdir()
    for name in ("bash", "dirname", "sed", "apt-cache", "apt-get"):
        if (found := shutil.which(name)) is not None:
            (only / name).symlink_to(found)
    result = run("build_image", "debian", tmp_path / "out", PATH=str(only))
    assert_refused(result, 4, "qemu-system-x86", "mmdebstrap")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(on_a_jetson, reason="this is a Jetson")
def test_other_machines_are_refused() -> None:
    """A desktop is not changed."""
    result = run("setup_jetson", "--dry-run")
    assert_refused(result, 2)
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--power"], ["--power", "--dry-run", "--wheels"]),
        (["--power-mode"], ["--power-mode"]),
        (["--wheels", "/nowhere"], ["--wheels /nowhere", "emotion_edge-*.whl"]),
    ],
)
def test_usage_errors_of_setup(arguments: list[str], named: list[str]) -> None:
    assert_refused(run("setup_jetson", *arguments), 2, *named)


@pytest.mark.parametrize("script", ["setup_jetson", "flash"])
def test_help(script: str) -> None:
    """It is the comment at the top of the script."""
    result = run(script, "--help")
    assert result.returncode == 0
    assert "--dry-run" in result.stdout
    assert "#" not in result.stdout
    assert f"scripts/{script}" in result.stdout
