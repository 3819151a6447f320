"""Compiled kernels on a disk that cannot be written."""

from __future__ import annotations

import atexit
import logging
import shutil
import tempfile
from pathlib import Path

log = logging.getLogger(__name__)


def copy_readonly_cache() -> None:
    """Numba does not even read a cache that it cannot write; compiling anew takes a minute on a
    small board. So it is given a copy for this run, in the folder for temporary files. To be called
    before a kernel is declared. Raises OSError without such a folder."""
    import numba  # here, as who only asks `can_write` may be without

    folder = Path(numba.config.CACHE_DIR)
    if not numba.config.CACHE_DIR or not folder.is_dir() or can_write(folder):
        return
    copy = tempfile.mkdtemp(prefix="emotion-edge-kernels-")
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    numba.config.CACHE_DIR = copy
    log.warning("%s cannot be written: its compiled kernels are read from a copy", folder)


def can_write(folder: Path) -> bool:
    """By trying, as Numba does."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
