"""Numba's cache of compiled kernels on a read-only disk."""

from __future__ import annotations

import atexit
import logging
import shutil
import tempfile
from pathlib import Path

log = logging.getLogger(__name__)


def copy_readonly_cache() -> None:
    """Give Numba a writable copy of a read-only cache, in the folder for temporary files.

    Numba does not read a cache that it cannot write, and compiling takes a minute on a small board.
    The copy lives as long as the process. Call this before a kernel is declared. Raises OSError
    when there is no folder for temporary files.
    """
    import numba  # not at module level: `can_write` must work without it

    folder = Path(numba.config.CACHE_DIR)
    if not numba.config.CACHE_DIR or not folder.is_dir() or can_write(folder):
        return
    copy = tempfile.mkdtemp(prefix="emotion-edge-kernels-")
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    numba.config.CACHE_DIR = copy
    log.warning("%s is read-only: using a copy of its compiled kernels", folder)


def can_write(folder: Path) -> bool:
    """Check by creating a file, as Numba does: permissions do not show a read-only disk."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
