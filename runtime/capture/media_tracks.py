"""Which video and which audio track of a file is played.

In: a PyAV container and the configured track. Out: the tracks of a kind, best first.
"""

from __future__ import annotations

from typing import Any

from ..messages import SourceError

AUTO = -1

# Flags of a stream in FFmpeg.
_DEFAULT = 0x1
_ATTACHED_PICTURE = 0x400
_SIDE_TRACK = 0x8 | 0x10 | 0x20 | 0x80 | 0x100 | 0x200 | 0x800
"""Comments, lyrics, karaoke, for people who hear or see badly, without voices, thumbnails."""


def list_candidates(container: Any, kind: str, wanted: int, name: str) -> list[int]:
    """Return the numbers of the tracks of `kind` ("video" or "audio") to try, best first.

    `wanted`: the only one to try, counted from 0 among the tracks of the kind, or AUTO: those with
    the default flag first, then the largest or longest. The cover of an album is no video. `name`
    is for messages. Raises SourceError for a wanted track that does not exist."""
    streams = list(getattr(container.streams, kind))
    if wanted != AUTO:
        if wanted >= len(streams):
            raise SourceError(
                f"source.{kind}_track is {wanted}, but {name} has {_describe_all(streams, kind)}"
            )
        return [wanted]
    numbers = [n for n, stream in enumerate(streams) if _is_playable(stream)]
    return sorted(numbers, key=lambda n: _rank(streams[n], kind))


def _is_playable(stream: Any) -> bool:
    return stream.codec_context is not None and not _flags(stream) & _ATTACHED_PICTURE


def _rank(stream: Any, kind: str) -> tuple[float, ...]:
    flags = _flags(stream)
    size = 0
    if kind == "video":
        size = stream.codec_context.width * stream.codec_context.height
    length_s = float((stream.duration or 0) * (stream.time_base or 0))
    is_still = kind == "video" and stream.frames == 1
    return (is_still, bool(flags & _SIDE_TRACK), not flags & _DEFAULT, -size, -length_s)


def _flags(stream: Any) -> int:
    return int(getattr(stream, "disposition", 0) or 0)  # PyAV < 13 has none


def _describe_all(streams: list[Any], kind: str) -> str:
    if not streams:
        return f"no {kind} track"
    tracks = ", ".join(f"{n} ({_describe(stream, kind)})" for n, stream in enumerate(streams))
    return f"only {kind} {'track' if len(streams) == 1 else 'tracks'} {tracks}"


def _describe(stream: Any, kind: str) -> str:
    context = stream.codec_context
    if context is None:
        return "unknown codec"
    if kind == "video":
        return f"{context.name} {context.width}x{context.height}"
    language = stream.metadata.get("language", "")
    return " ".join(filter(None, [context.name, f"{context.sample_rate} Hz", language]))
