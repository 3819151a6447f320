"""Opens what is read in one pass with PyAV (FFmpeg): a pipe, or a network stream that was named.

In: a `PipeReader` or a URL. Out: a PyAV container, or a SourceError in one line without secrets.
Here alone the program opens connections: FFmpeg does, to the address that the configuration names,
and to those that its server redirects to or lists in a playlist. No other source may open any.
"""

from __future__ import annotations

from typing import Any

import av

from ..messages import SourceError
from .media_container import MAX_PIXELS
from .pipe import PipeReader
from .source_name import show_source

OPEN_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 5.0
"""A stream that delivers nothing for so long is opened again."""

_PROTOCOLS = {
    "rtsp": "rtsp,rtp,srtp,udp,tcp",
    "rtsps": "rtsps,rtsp,rtp,srtp,udp,tcp,tls",
    "http": "http,https,httpproxy,tcp,tls,crypto",
    "https": "https,http,httpproxy,tcp,tls,crypto",
    "udp": "udp",
}
"""Protocols that FFmpeg may use, by the scheme of the URL. Never "file": a playlist of a server
must not open a file of this machine."""
_OPTIONS = {
    "flags": "low_delay",
    "analyzeduration": "2000000",  # microseconds
    "probesize": "2000000",
    "max_pixels": str(MAX_PIXELS),
    "rtsp_flags": "prefer_tcp",  # no lost packets; UDP where the server has no TCP
}
_MP4 = (b"ftyp", b"wide", b"mdat", b"free", b"skip")


def open_url(url: str) -> Any:
    """Open a network stream. Raises SourceError within about `OPEN_TIMEOUT_S`."""
    scheme = url.partition("://")[0].lower()
    options = _OPTIONS | {"protocol_whitelist": _PROTOCOLS[scheme]}
    if not scheme.startswith("rtsp"):
        del options["rtsp_flags"]
    try:
        container = av.open(
            url,
            options=options,
            timeout=(OPEN_TIMEOUT_S, READ_TIMEOUT_S),
            metadata_errors="replace",
        )
    except (av.FFmpegError, OSError, ValueError) as error:
        # Not `from error`, whose text has the URL.
        raise SourceError(f"source {show_source(url)}: {explain(error)}") from None
    return _check(container, show_source(url))


def open_pipe(reader: PipeReader, name: str) -> Any:
    """Open the stream that a pipe delivers; waits for it. Raises SourceError."""
    try:
        container = av.open(
            reader,
            # No playlist in a pipe may open anything.
            options={"protocol_whitelist": "none", "max_pixels": str(MAX_PIXELS)},
            metadata_errors="replace",
        )
    except (av.FFmpegError, OSError, ValueError) as error:
        reader.raise_failure()
        if not reader.num_bytes:
            reason = "it was interrupted" if reader.is_interrupted else "it is empty"
            raise SourceError(f"source {name}: {reason}") from error
        raise SourceError(f"source {name}: {explain_pipe(reader, error)}") from error
    return _check(container, name)


def explain_pipe(reader: PipeReader, error: object = "") -> str:
    """Return why a pipe cannot be played."""
    if reader.head[4:8] in _MP4:
        return (
            "an MP4 or MOV file whose index is at its end cannot be read from a pipe: give the"
            " file's name, or write it with -movflags +faststart"
        )
    reason = error if isinstance(error, str) else explain(error)
    return f"no audio or video that PyAV can read from a pipe: {reason}"


def is_finite(container: Any) -> bool:
    """Return whether a network stream is a file, which has an end, and not live."""
    name = container.format.name
    if name.startswith(("rtsp", "rtp", "sdp")):
        return False
    if container.duration:
        return True
    return not name.startswith("hls") and container.size > 0  # of a playlist it is its own


def explain(error: object) -> str:
    """Return the reason of an error of PyAV. Its text may have the URL; its reason has not."""
    if isinstance(error, av.ExitError):
        return f"no answer within {OPEN_TIMEOUT_S:g} s"
    return str(getattr(error, "strerror", None) or type(error).__name__)


def _check(container: Any, name: str) -> Any:
    problem = ""
    if container.format.name == "tty":  # FFmpeg renders a text file as video
        problem = "a text, no audio or video"
    elif not (container.streams.video or container.streams.audio):
        problem = "neither video nor audio"
    if problem:
        container.close()
        raise SourceError(f"source {name}: {problem}")
    return container
