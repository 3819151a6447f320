"""Privacy: a run leaves no face or voice in memory, in a file or on the network."""

from __future__ import annotations

import gc
import os
import re
import shutil
import socket
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge import kernels
from emotion_edge.engines.embeddings import FaceMemory, FusionInput
from emotion_edge.kernels.cpu.mel import StreamingLogMel
from emotion_edge.kernels.cpu.preprocessor import CpuPreprocessor
from emotion_edge.runtime import live as live_module
from emotion_edge.runtime import replay
from emotion_edge.runtime.capture import Sources
from emotion_edge.runtime.config import Config, load_config
from emotion_edge.runtime.live import LiveRun
from emotion_edge.runtime.messages import VideoFrame
from emotion_edge.runtime.perception.buffers import FrameRing
from emotion_edge.runtime.perception.sync import Synchroniser
from emotion_edge.runtime.replay import run_replay
from emotion_edge.runtime.session import Runtime, open_runtime

from .devices import FACE, FakeCamera, FakeMicrophone

TIMEOUT_S = 500
SPEAKING_S = 1.5
"""The voice of the demo speaks at this time, so every buffer has its audio."""

Array = NDArray[Any]


# Memory


def walk(root: object) -> Iterator[Array]:
    """Yield every array that is reachable from `root`."""
    visited: set[int] = set()
    pending = [root]
    skipped = (type, types.ModuleType, types.FrameType, types.CodeType, types.BuiltinFunctionType)
    while pending:
        value = pending.pop()
        if id(value) in visited or isinstance(value, skipped):
            continue
        visited.add(id(value))
        if isinstance(value, np.ndarray):
            yield value
            pending.append(value.base)
        elif isinstance(value, types.FunctionType):
            pending.extend(cell.cell_contents for cell in value.__closure__ or ())
        else:
            pending.extend(gc.get_referents(value))


def list_allowed(runtime: Runtime) -> list[Array]:
    """Return the arrays that may stay: times, loads, rows of the crop."""
    pipeline: Any = runtime.pipeline
    preprocessor = pipeline._preprocessor
    scaling = (*preprocessor._channel_rows, preprocessor._scaling)
    rows = (preprocessor._taps, preprocessor._weights, *scaling)
    return [
        *walk(runtime.latency),
        *walk(runtime.trace),
        *walk(runtime.quality),
        *rows,
    ]


class MemorySnapshot:
    """The content of all arrays of a run when it opens."""

    def __init__(self) -> None:
        self.before: dict[int, tuple[Array, bytes]] = {}

    def record(self, root: object) -> None:
        self.before = {id(array): (array, array.tobytes()) for array in walk(root)}

    def find_left(self, runtime: Runtime, *others: object) -> list[Array]:
        """Return the arrays that the run has filled and not overwritten."""
        allowed = {id(array) for array in list_allowed(runtime)}
        return [
            array
            for array in walk((runtime, *others))
            if id(array) not in allowed
            and any(array.tobytes())  # bytes: an unused float may be any NaN, which warns
            and (id(array) not in self.before or self.before[id(array)][1] != array.tobytes())
        ]


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> MemorySnapshot:
    """A snapshot of the next replay."""
    snapshot = MemorySnapshot()

    @contextmanager
    def open_and_record(*arguments: Any, **options: Any) -> Iterator[Runtime]:
        with open_runtime(*arguments, **options) as runtime:
            snapshot.record(runtime)
            yield runtime

    monkeypatch.setattr(replay, "open_runtime", open_and_record)
    return snapshot


def replay_demo() -> Runtime:
    """Replay with the real networks."""
    return run_replay(load_config(None, ["source.name=demo"]), [], SPEAKING_S)


def test_nothing_is_left_in_memory_after_a_replay(memory: MemorySnapshot) -> None:
    """No frame, face, audio, spectrum or embedding in any array of the run."""
    runtime = replay_demo()
    assert runtime.latency.count > 0
    assert memory.find_left(runtime) == []


class LastFrameCamera(FakeCamera):
    """Keeps its newest frame, as the buffers of a driver do."""

    newest: VideoFrame | None = None

    def read(self) -> VideoFrame | None:
        frame = super().read()
        self.newest = frame or self.newest
        return frame


@pytest.fixture
def live(
    configure: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> Callable[[], tuple[LiveRun, Runtime, MemorySnapshot, LastFrameCamera]]:
    """A function -> a finished run with a voice, its runtime, snapshot and camera."""

    def play() -> tuple[LiveRun, Runtime, MemorySnapshot, LastFrameCamera]:
        snapshot, camera = MemorySnapshot(), LastFrameCamera()
        sources = Sources(camera, FakeMicrophone(), "fake")
        monkeypatch.setattr(live_module, "open_sources", lambda *_, **__: sources)
        run = LiveRun(configure("camera"), [], on_open=snapshot.record)
        return run, run.run(SPEAKING_S), snapshot, camera

    return play


Live = Callable[[], tuple[LiveRun, Runtime, MemorySnapshot, LastFrameCamera]]


@pytest.mark.usefixtures("no_thread_left")
def test_nothing_is_left_in_memory_after_a_live_run(live: Live) -> None:
    """Neither in the runtime nor in the run. The newest frame is overwritten in its buffer."""
    run, runtime, memory, camera = live()
    assert runtime.latency.count > 10
    assert memory.find_left(runtime, run) == []
    assert camera.newest is not None
    assert not camera.newest.image.any()


@pytest.mark.parametrize(
    ("owner", "wipe"),
    [
        (CpuPreprocessor, "close"),
        (StreamingLogMel, "wipe"),
        (Synchroniser, "wipe"),
        (FusionInput, "wipe"),
        (FaceMemory, "clear"),
    ],
)
def test_each_wipe_is_needed(
    memory: MemorySnapshot, monkeypatch: pytest.MonkeyPatch, owner: type, wipe: str
) -> None:
    """The test above detects what each of them erases."""
    monkeypatch.setattr(owner, wipe, lambda _: None)
    assert memory.find_left(replay_demo()) != []


def test_wipe_of_the_newest_frame_is_needed(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the other wipes are."""
    monkeypatch.setattr(FrameRing, "wipe", lambda _: None)
    run, runtime, memory, _ = live()
    assert len(memory.find_left(runtime, run)) == 1


def test_frames_of_other_owners_are_not_wiped(configure: Callable[..., Config]) -> None:
    """A benchmark keeps its clip in memory and replays it."""

    class Clip(FakeCamera):
        image = FACE.copy()

        def read(self) -> VideoFrame | None:
            frame = super().read()
            return frame and VideoFrame(frame.t_ns, frame.index, self.image)

    given_sources = Sources(Clip(), None, "clip")
    LiveRun(configure("demo"), [], given_sources=given_sources).run(0.2)
    assert np.array_equal(Clip.image, FACE)


# Files and the network

SYSTEM_CALLS = (
    "%network,open,openat,creat,mkdir,mkdirat,mknod,mknodat,rename,renameat,renameat2,link,linkat,"
    "symlink,symlinkat,truncate"
)
RUN = (sys.executable, "-m", "emotion_edge.runtime", "run")
DEMO = ("--source", "demo", "--seconds", "1", "--set", "budget_ms=10000")
"""No machine misses this budget, so nothing is logged."""


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment whose home, cache and state folders are in `tmp_path`."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith("XDG_")}
    folders = {"HOME": "home", "EMOTION_EDGE_CACHE": "cache", "EMOTION_EDGE_STATE": "state"}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    environment |= {name: str(tmp_path / folder) for name, folder in folders.items()}
    (tmp_path / "home").mkdir()
    return environment


def trace_run(home: dict[str, str], trace: Path, *arguments: str) -> list[str]:
    """Return the system calls of a successful run, of all its threads, by strace(1)."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    done = subprocess.run(
        [*(strace, "-f", "-qq", "-e", f"trace={SYSTEM_CALLS}", "-o", str(trace)), *RUN, *arguments],
        env=home,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if "PTRACE" in done.stderr:
        pytest.skip(f"strace may not trace here: {done.stderr.strip()}")
    assert (done.returncode, done.stderr) == (0, "")
    return trace.read_text().splitlines()


WRITES = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|\b(?:creat|mk\w+|rename\w*|\w*link\w*|truncate)\(")
FAILED = re.compile(r"= -1 E\w+")
NUMBA_PROBES = re.compile(r"O_TMPFILE|mkdir\(")
"""Numba tests whether its cache is writable with unnamed files."""


def list_written(calls: list[str]) -> list[str]:
    """Return the names in successful calls that change files."""
    names = []
    for call in calls:
        if WRITES.search(call) and not FAILED.search(call) and not NUMBA_PROBES.search(call):
            names += re.findall(r'"([^"]+)"', call)
    return names


def list_sockets(calls: list[str]) -> list[str]:
    """Return the families of the opened sockets."""
    return [match[1] for call in calls if (match := re.search(r"\bsocket(?:pair)?\((\w+)", call))]


def find_numba_cache() -> str:
    """Return the folder of compiled kernels; it has nothing else."""
    beside = Path(kernels.__file__).parent / "__pycache__"
    return f"{os.environ.get('NUMBA_CACHE_DIR') or beside}/"


@pytest.mark.parametrize("pace", ["max", "real"])
def test_run_writes_no_files_and_opens_no_connections(
    home: dict[str, str], tmp_path: Path, pace: str
) -> None:
    """With the real networks in ONNX Runtime: no socket, and no files except the output and the
    profile of the levels. The home folder stays empty."""
    out = tmp_path / "out.jsonl"
    options = [*DEMO, "--pace", pace, "--output", f"jsonl:{out}"]
    calls = trace_run(home, tmp_path / "trace.txt", *options)
    assert any("face.onnx" in call for call in calls)  # the trace has the right process
    assert list_sockets(calls) == []
    allowed = (str(out), f"{tmp_path / 'cache'}/", "/dev/null", find_numba_cache())
    written = list_written(calls)
    assert [name for name in written if not name.startswith(allowed)] == []
    assert str(out) in written
    assert list((tmp_path / "home").iterdir()) == []
    assert not (tmp_path / "state").exists()


def test_only_configured_sockets(home: dict[str, str], tmp_path: Path) -> None:
    """One for the metrics, one for systemd, and no others but unnamed ones inside the program: to
    the process that serves the metrics, and of its event loop."""
    notify = tmp_path / "notify"
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd,
        socket.create_server(("127.0.0.1", 0)) as probe,
    ):
        systemd.bind(str(notify))
        port = probe.getsockname()[1]
        probe.close()
        options = [*DEMO, "--output", "null"]
        calls = trace_run(
            home | {"NOTIFY_SOCKET": str(notify)},
            tmp_path / "trace.txt",
            *options,
            "--set",
            f"metrics.port={port}",
        )
    opened = [call for call in calls if re.search(r"\bsocket\(", call)]
    assert sorted(list_sockets(opened)) == ["AF_INET", "AF_UNIX"]
    bound = [call for call in calls if " bind(" in call]
    assert len(bound) == 1
    assert f'sin_port=htons({port}), sin_addr=inet_addr("127.0.0.1")' in bound[0]
    sent = [call for call in calls if re.search(r" (connect|sendto|sendmsg|sendmmsg)\(", call)]
    named = [call for call in sent if not re.search(r"(?:, NULL, 0|, NULL, 0\) *=.*)\)?", call)]
    assert named != []
    assert all(f'sun_path="{notify}"' in call for call in named)


REPLAY = ["run", "--source", "demo", "--pace", "max", "--seconds", "0.1", "--output", "null"]


@pytest.mark.parametrize(
    ("code", "options"),
    [
        ("from emotion_edge.runtime.__main__ import main; sys.exit(main(sys.argv[1:]))", REPLAY),
        ("import emotion_edge.calibration.quantize", []),
    ],
)
def test_onnx_runtime_telemetry_is_off(home: dict[str, str], code: str, options: list[str]) -> None:
    """It is off before the library is loaded, whatever the environment has."""
    watch = (
        "import os, sys\n"
        "class Watch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'onnxruntime':\n"
        "            print(os.environ.get('ORT_DISABLE_TELEMETRY'))\n"
        "sys.meta_path.insert(0, Watch())\n"
    )
    if "calibration" in code:
        pytest.importorskip("onnx", reason="onnx is in the train extra")
    done = subprocess.run(
        [sys.executable, "-c", watch + code, *options],
        env=home | {"ORT_DISABLE_TELEMETRY": "0"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
