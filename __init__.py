"""Reads the apparent emotion of a face and a voice, together, in real time.

    import emotion_edge

    for estimate in emotion_edge.stream("camera"):
        print(estimate.label, f"{estimate.confidence:.0%}")

`stream`, `open` and `analyze` run the program's own pipeline. An estimate describes the apparent
expression, never what a person feels. Importing this module loads nothing else: what a run needs
is loaded when one is opened.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers know the name; typing takes longer to load than all else
if TYPE_CHECKING:
    from typing import Any

    from .runtime.background_run import Run
    from .runtime.config import ConfigError
    from .runtime.interface import analyze, open, stream  # noqa: A004
    from .runtime.messages import (
        AudioChunk,
        Estimate,
        FaceEstimate,
        Health,
        OutputError,
        SourceError,
        VideoFrame,
    )

    __version__: str

__all__ = [
    "AudioChunk",
    "ConfigError",
    "Error",
    "Estimate",
    "FaceEstimate",
    "Health",
    "OutputError",
    "Run",
    "SourceError",
    "VideoFrame",
    "__version__",
    "analyze",
    "open",
    "stream",
]

_MODULES = {
    "runtime.background_run": ("Run",),
    "runtime.config": ("ConfigError",),
    "runtime.interface": ("analyze", "open", "stream"),
    "runtime.messages": (
        "AudioChunk",
        "Estimate",
        "FaceEstimate",
        "Health",
        "OutputError",
        "SourceError",
        "VideoFrame",
    ),
}


class Error(Exception):
    """Base of every error that the project raises on purpose: a wrong setting (`ConfigError`), a
    device or file that fails (`SourceError`), an output that cannot be written (`OutputError`), a
    damaged bundle, an engine that does not open. Its text is one line that names the cause."""


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used. Raises AttributeError."""
    if name == "__version__":
        from importlib.metadata import version

        return version("emotion-edge")
    for module, names in _MODULES.items():
        if name in names:
            from importlib import import_module

            return getattr(import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
