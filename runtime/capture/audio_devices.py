"""PortAudio's list of audio devices, without the messages it prints while searching."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..messages import SourceError

_LOG = logging.getLogger(__name__)

_STDERR_NOISE = re.compile(
    rb"ALSA lib |Expression '|Cannot connect to server|jack server|Jack|\s+at line|PaAlsa"
)


@dataclass(frozen=True, slots=True)
class InputDevice:
    """An input device as PortAudio describes it."""

    index: int
    """What `source.microphone` may be."""
    name: str
    rate_hz: int
    """The rate that it prefers."""
    channels: int


def list_inputs() -> list[InputDevice]:
    """Return the input devices. Raises SourceError without PyAudio."""
    pyaudio = import_pyaudio()
    with suppress_stderr():
        pa = pyaudio.PyAudio()
        try:
            return [
                InputDevice(
                    int(info["index"]),
                    str(info["name"]),
                    round(info.get("defaultSampleRate", 0)),
                    int(info["maxInputChannels"]),
                )
                for info in _inputs(pa)
            ]
        finally:
            pa.terminate()


def list_microphones() -> list[str]:
    """Return the names of the input devices. Raises SourceError without PyAudio."""
    return [device.name for device in list_inputs()]


def find_input(pa: Any, device: str | int | None) -> dict[str, Any]:
    """Return PortAudio's description of an input: the default, by index or by part of a name."""
    if device is None:
        try:
            return dict(pa.get_default_input_device_info())
        except OSError as error:
            raise SourceError("there is no microphone (PortAudio has no input device)") from error
    inputs = _inputs(pa)
    wanted = str(device).lower()
    numbered = [info for info in inputs if str(info["index"]) == wanted]
    named = [info for info in inputs if wanted in str(info["name"]).lower()]
    if matches := numbered or named:
        return matches[0]
    names = ", ".join(f"{info['index']} ({info['name']})" for info in inputs) or "none"
    raise SourceError(f"microphone {device}: no such input device; there are: {names}")


def _inputs(pa: Any) -> list[dict[str, Any]]:
    every = [dict(pa.get_device_info_by_index(i)) for i in range(pa.get_device_count())]
    return [info for info in every if info["maxInputChannels"] > 0]


def import_pyaudio() -> Any:
    """Return the module. Raises SourceError with the command that installs it."""
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
    """Redirect what ALSA and JACK print about missing devices from stderr to the debug log.

    Anything else that was written meanwhile goes to stderr afterwards.
    """
    try:
        buffer = os.memfd_create("stderr")
        stderr = os.dup(2)
    except OSError:
        yield
        return
    try:
        os.dup2(buffer, 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.lseek(buffer, 0, os.SEEK_SET)
            with os.fdopen(os.dup(buffer), "rb") as text:
                for line in text:
                    if _STDERR_NOISE.match(line):
                        _LOG.debug("PortAudio: %s", line.decode(errors="replace").rstrip())
                    else:
                        os.write(2, line)
    finally:
        os.close(stderr)
        os.close(buffer)
