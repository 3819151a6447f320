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
        *,
        interrupt: Callable[[], None] = lambda: None,
        explain_nothing: Callable[[], str] = lambda: "no picture and no sound can be decoded",
        raise_failure: Callable[[], None] = lambda: None,
        release: Callable[[], None] = lambda: None,
    ) -> None:
        """`tracks`: as of `StreamDecoder`. `interrupt` ends a read that waits for data;
        `raise_failure` raises what ended the data other than their end; `release` is called after
        the last read."""
        self.interrupt = interrupt
        self._name = name
        self._open_container = open_container
        self._tracks = tracks
        self._explain_nothing = explain_nothing
        self._raise_failure = raise_failure
        self._release = release
        self._lock = threading.Lock()
        self._decoder: StreamDecoder | None = None
        self._error: SourceError | None = None
        self._unfinished = 2
        self._delivered = False

    def frames(self, *, loop: bool = False) -> Iterator[VideoFrame]:
        """Yield the frames once. Raises SourceError."""
        assert not loop
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
        self._raise_failure()
        if not is_last:
            return
        if not self._delivered:
            raise SourceError(f"source {self._name}: {self._explain_nothing()}")
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
            self._release()
            return True


def open_piped_media(path: Path, name: str, clock: Clock, tracks: tuple[int, int]) -> StreamedMedia:
    """Return the media of a FIFO or of standard input. Raises SourceError."""
    reader = PipeReader(path, name, clock)
    return StreamedMedia(
        name,
        lambda: open_pipe(reader, name),
        tracks,
        interrupt=reader.interrupt,
        explain_nothing=lambda: explain_pipe(reader, "nothing can be decoded"),
        raise_failure=reader.raise_failure,
        release=reader.close,
    )


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
