"""A bundle with another manifest: a verified bundle and a change in, a verified bundle out."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ...engines.bundles import Bundle, Manifest
from .bundle import check_replaceable, finish_bundle, put_in_place
from .onnx import ExportError


def rewrite_bundle(
    bundle: Bundle, folder: Path, change: Callable[[Manifest, Path], Manifest]
) -> Bundle:
    """Copy `bundle`, apply `change`, verify the result and put it in place of `folder`, which may
    be the bundle's own.

    `change` gets the manifest and the new folder, to which it may add files. Raises ExportError,
    BundleError or EngineError; `folder` is then unchanged.
    """
    folder = folder.resolve()
    check_replaceable(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as work:
            new = Path(work) / "new" / folder.name
            new.mkdir(parents=True)
            for name in bundle.manifest.files:
                shutil.copy(bundle.path / name, new)
            written = finish_bundle(change(bundle.manifest, new), new)
            put_in_place(new, folder, Path(work) / "old")
    except OSError as error:
        raise ExportError(f"{folder}: cannot be written: {error.strerror}") from error
    return replace(written, path=folder)
