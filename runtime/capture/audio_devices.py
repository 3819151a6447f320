"""What PortAudio knows of the sound devices, without the noise it makes while looking."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from typing import Any

from ..messages import SourceError

_LOG = logging.getLogger(__name__)

_STDERR_NOISE = re.compile(
    rb"ALSA lib |Expression '|Cannot connect to server|jack server|Jack|\s+at line|PaAlsa"
)


def list_microphones() -> list[str]:
    """The names of the input devices. Raises SourceError without PyAudio."""
    pyaudio = import_pyaudio()
    with suppress_stderr():
        pa = pyaudio.PyAudio()
        try:
            return [str(info["name"]) for info in _inputs(pa)]
        finally:
            pa.terminate()


def find_input(pa: Any, device: str | int | None) -> dict[str, Any]:
    """PortAudio's description of one input: the default, by index, else by a part of its name."""
    if device is None:
        try:
            return dict(pa.get_default_input_device_info())
        except OSError as error:
            raise SourceError("there is no microphone (PortAudio has no input device)") from error
    inputs = _inputs(pa)
    wanted = str(device).lower()
    numbered = [info for info in inputs if str(info["index"]) == wanted]
    named = [info for info in inputs if wanted in str(info["name"]).lower()]
    if found := numbered or named:
        return found[0]
    names = ", ".join(f"{info['index']} ({info['name']})" for info in inputs) or "none"
    raise SourceError(f"microphone {device}: no such input device; there are: {names}")


def _inputs(pa: Any) -> list[dict[str, Any]]:
    every = [dict(pa.get_device_info_by_index(i)) for i in range(pa.get_device_count())]
    return [info for info in every if info["maxInputChannels"] > 0]


def import_pyaudio() -> Any:
    try:
        import pyaudio
    except ImportError as error:
        raise SourceError(
            "PyAudio is not installed: sudo apt install portaudio19-dev, "
            "then pip install 'emotion-edge[mic]'"
        ) from error
    return pyaudio


@contextlib.contextmanager
def suppress_stderr() -> Iterator[None]:
    """Keep what ALSA and JACK print about devices that are not there out of the terminal.

    It goes to the log at debug level; anything else that was written meanwhile is passed on.
    """
    try:
        kept = os.memfd_create("stderr")
        saved = os.dup(2)
    except OSError:
        yield
        return
    try:
        os.dup2(kept, 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.lseek(kept, 0, os.SEEK_SET)
            with os.fdopen(os.dup(kept), "rb") as text:
                for line in text:
                    if _STDERR_NOISE.match(line):
                        _LOG.debug("PortAudio: %s", line.decode(errors="replace").rstrip())
                    else:
                        os.write(2, line)
    finally:
        os.close(saved)
        os.close(kept)
