"""What a pipe or a finite network stream delivers, as media that can be read once.

Nothing is opened before the first read: only then is it known which tracks there are. Until then
both count as present, and a track that is absent is empty.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..clock import Clock
from ..messages import AudioChunk, SourceError, VideoFrame
from .catching_up import DueTime
from .pipe import PipeReader
from .resampling import split_chunks
from .stream_decoder import RATE_HZ, StreamDecoder
from .stream_input import explain_pipe, open_pipe

_LOG = logging.getLogger(__name__)

_CHUNK_SAMPLES = RATE_HZ // 100


class StreamedMedia:
    """Media that are read once, as `Media`. Each track may be read by a thread of its own."""

    sample_rate_hz = RATE_HZ
    has_video = has_audio = True
    copies_per_frame = 2
    """Decoding and conversion to bgr8."""

    def __init__(
        self,
        name: str,
        open_container: Callable[[], Any],
        tracks: tuple[int, int],
        pipe: PipeReader | None = None,
    ) -> None:
        """`tracks`: as of `StreamDecoder`. `pipe`: what the container reads, closed at the end."""
        self._name = name
        self._pipe = pipe
        self._open_container = open_container
        self._tracks = tracks
        self._lock = threading.Lock()
        self._decoder: StreamDecoder | None = None
        self._error: SourceError | None = None
        self._unfinished = 2
        self._delivered = False

    @property
    def fault(self) -> str:
        """The present fault, "" for none."""
        return "" if self._pipe is None else self._pipe.fault

    @property
    def is_reopening(self) -> bool:
        """Whether nothing comes for a known reason: the pipe has no data."""
        return self._pipe is not None and self._pipe.is_waiting

    def interrupt(self) -> None:
        """End a read that waits for the data of a pipe."""
        if self._pipe is not None:
            self._pipe.interrupt()

    def frames(self, *, loop: bool = False, due_ns: DueTime | None = None) -> Iterator[VideoFrame]:
        """Yield all frames once. Raises SourceError."""
        assert not loop
        del due_ns  # a pipe's time stands still instead
        return self._read(lambda decoder: decoder.frames())

    def chunks(self, *, loop: bool = False) -> Iterator[AudioChunk]:
        """Yield the audio once, in chunks of 10 ms. Raises SourceError."""
        assert not loop
        return self._read(_split)

    def _read(self, read: Callable[[StreamDecoder], Iterator[Any]]) -> Iterator[Any]:
        try:
            for item in read(self._open()):
                self._delivered = True
                yield item
        finally:
            is_last = self._finish()
        if self._pipe is not None:
            self._pipe.raise_failure()
        if not is_last:
            return
        if not self._delivered:
            reason = "nothing can be decoded"
            if self._pipe is not None:
                reason = explain_pipe(self._pipe, reason)
            raise SourceError(f"source {self._name}: {reason}")
        if self._decoder is not None and self._decoder.failure:
            _LOG.warning("%s; it ends here", self._decoder.failure)

    def _open(self) -> StreamDecoder:
        with self._lock:
            if self._error is not None:
                raise self._error
            if self._decoder is None:
                try:
                    self._decoder = StreamDecoder(self._open_container(), self._name, self._tracks)
                except SourceError as error:
                    self._error = error
                    raise
            return self._decoder

    def _finish(self) -> bool:
        """Close everything when both tracks have ended, and return whether they have."""
        with self._lock:
            self._unfinished -= 1
            if self._unfinished:
                return False
            if self._decoder is not None:
                self._decoder.close()
            if self._pipe is not None:
                self._pipe.close()
            return True


def open_piped_media(path: Path, name: str, clock: Clock, tracks: tuple[int, int]) -> StreamedMedia:
    """Return the media of a FIFO or of standard input. Raises SourceError."""
    reader = PipeReader(path, name, clock)
    return StreamedMedia(name, lambda: open_pipe(reader, name), tracks, reader)


def _split(decoder: StreamDecoder) -> Iterator[AudioChunk]:
    first_ns: int | None = None

    def pieces() -> Iterator[tuple[int, Any]]:
        nonlocal first_ns
        for chunk in decoder.chunks():
            if first_ns is None:
                first_ns = chunk.t_ns
            yield chunk.first_sample, chunk.samples

    for first, samples in split_chunks(pieces(), _CHUNK_SAMPLES):
        t_ns = (first_ns or 0) + first * 1_000_000_000 // RATE_HZ
        yield AudioChunk(t_ns, first, samples)
