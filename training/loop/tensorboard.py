"""TensorBoard curves of a run: numbers and images by epoch in, event files out."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor

from ..errors import TrainingError


class TensorBoardLog:
    """Context manager that writes numbers and images by epoch for `tensorboard --logdir`.

    Epochs count from 1. Without a folder it writes nothing. Raises TrainingError when TensorBoard
    is missing or the folder cannot be written.
    """

    def __init__(self, folder: Path | None, first_epoch: int = 1) -> None:
        self._writer: Any = None
        if folder is None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise TrainingError(
                f"{folder}: curves need TensorBoard: pip install tensorboard, or give no folder"
            ) from error
        # A resumed run repeats the epochs after its checkpoint: purge their old points.
        try:
            self._writer = SummaryWriter(str(folder), purge_step=first_epoch)
        except OSError as error:
            raise TrainingError(f"{folder}: cannot be written: {error.strerror}") from error

    def __enter__(self) -> TensorBoardLog:
        return self

    def write(self, epoch: int, numbers: dict[str, float]) -> None:
        if self._writer is not None:
            for name, value in numbers.items():
                self._writer.add_scalar(name, value, epoch)

    def write_images(self, epoch: int, name: str, images: Tensor) -> None:
        """Write images (N, C, H, W), 0..1, as one grid."""
        if self._writer is not None:
            self._writer.add_images(name, images, epoch)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.close()
