"""The power goes at any change to the disk: what is left can always be started from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[3]
MEMORY = "/dev/shm"
"""A disk that is not waited for: the model keeps what was synced itself."""
TIMEOUT_S = 500


def test_every_cut_leaves_a_bundle(tmp_path: Path) -> None:
    """Installing, going back, starts on trial and their end, killed in the middle of each open,
    write, fsync, rename and removal. Looked at is the disk as it was, and four that a cut of the
    power may leave: nothing unsynced, names without contents, names of files only, and chance."""
    place = MEMORY if os.access(MEMORY, os.W_OK) else tmp_path
    with tempfile.TemporaryDirectory(dir=place) as folder:
        done = subprocess.run(
            [sys.executable, "-m", "tests.engines.power_cuts", folder],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    disks = json.loads(done.stdout)
    assert disks["file"] >= 25
    assert disks["store"] >= 500
