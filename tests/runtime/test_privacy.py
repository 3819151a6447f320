"""Nothing of a face or a voice outlives a run: not in memory, not in a file, not on the network."""

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
from emotion_edge.engines.embeddings import EmbeddingMemory
from emotion_edge.kernels.cpu.mel import StreamingLogMel
from emotion_edge.kernels.cpu.preprocessor import CpuPreprocessor
from emotion_edge.runtime import live as app
from emotion_edge.runtime import replay
from emotion_edge.runtime.capture import Sources
from emotion_edge.runtime.config import Config, load_config
from emotion_edge.runtime.live import LiveRun
from emotion_edge.runtime.messages import VideoFrame
from emotion_edge.runtime.perception.buffers import FrameRing
from emotion_edge.runtime.perception.sync import Synchroniser
from emotion_edge.runtime.replay import run_replay
from emotion_edge.runtime.session import Runtime, open_runtime

from .devices import FACE, Camera, Microphone

TIMEOUT_S = 500
SPEAKING_S = 1.5
"""When the demo's voice speaks, so that its sound is in every buffer."""

Array = NDArray[Any]


# Memory


def walk(root: object) -> Iterator[Array]:
    """Every array that can be reached from `root`, by whatever way."""
    seen: set[int] = set()
    waiting = [root]
    passed = (type, types.ModuleType, types.FrameType, types.CodeType, types.BuiltinFunctionType)
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, passed):
            continue
        seen.add(id(one))
        if isinstance(one, np.ndarray):
            yield one
            waiting.append(one.base)
        elif isinstance(one, types.FunctionType):
            waiting.extend(cell.cell_contents for cell in one.__closure__ or ())
        else:
            waiting.extend(gc.get_referents(one))


def list_allowed(runtime: Runtime) -> list[Array]:
    """Times, loads, which modality there was, and where in the picture its rows were taken."""
    pipeline: Any = runtime.pipeline
    preprocessor = pipeline._preprocessor
    placing = (preprocessor._taps, preprocessor._weights, *preprocessor._channel_rows)
    memory = pipeline._estimator._memory
    masks = [] if memory is None else [memory._face_mask, memory._voice_mask]
    return [*walk(runtime.latency), *walk(runtime.trace), *walk(runtime.quality), *placing, *masks]


class Memory:
    """What the arrays of a run hold when it is opened, to be looked at again when it is over."""

    def __init__(self) -> None:
        self.before: dict[int, tuple[Array, bytes]] = {}

    def keep(self, root: object) -> None:
        self.before = {id(array): (array, array.tobytes()) for array in walk(root)}

    def find_left(self, runtime: Runtime, *others: object) -> list[Array]:
        """Those that the run has filled and nobody has overwritten."""
        allowed = {id(array) for array in list_allowed(runtime)}
        return [
            array
            for array in walk((runtime, *others))
            if id(array) not in allowed
            and np.any(array)
            and (id(array) not in self.before or self.before[id(array)][1] != array.tobytes())
        ]


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    """Of the next replay."""
    found = Memory()

    @contextmanager
    def open_and_keep(*what: Any, **options: Any) -> Iterator[Runtime]:
        with open_runtime(*what, **options) as runtime:
            found.keep(runtime)
            yield runtime

    monkeypatch.setattr(replay, "open_runtime", open_and_keep)
    return found


def replay_demo() -> Runtime:
    """With the real networks."""
    return run_replay(load_config(None, ["source.name=demo"]), [], SPEAKING_S)


def test_nothing_is_left_in_memory_after_a_replay(memory: Memory) -> None:
    """No picture, face, sound, spectrum or embedding in any array that the run has owned."""
    runtime = replay_demo()
    assert runtime.latency.count > 0
    assert memory.find_left(runtime) == []


class KeptCamera(Camera):
    """Keeps its newest picture, as a driver's buffers do."""

    newest: VideoFrame | None = None

    def read(self) -> VideoFrame | None:
        frame = super().read()
        self.newest = frame or self.newest
        return frame


@pytest.fixture
def live(
    configure: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> Callable[[], tuple[LiveRun, Runtime, Memory, KeptCamera]]:
    """A function that runs until there is a voice -> all that was in it, over."""

    def play() -> tuple[LiveRun, Runtime, Memory, KeptCamera]:
        found, camera = Memory(), KeptCamera()
        sources = Sources(camera, Microphone(), "fake")
        monkeypatch.setattr(app, "open_sources", lambda *_, **__: sources)
        run = LiveRun(configure("camera"), [], on_open=found.keep)
        return run, run.run(SPEAKING_S), found, camera

    return play


Live = Callable[[], tuple[LiveRun, Runtime, Memory, KeptCamera]]


@pytest.mark.usefixtures("no_thread_left")
def test_nothing_is_left_in_memory_after_a_live_run(live: Live) -> None:
    """Neither in the runtime nor in what passes pictures on; the newest picture was overwritten
    where it lay."""
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
        (EmbeddingMemory, "wipe"),
    ],
)
def test_each_wipe_is_needed(
    memory: Memory, monkeypatch: pytest.MonkeyPatch, owner: type, wipe: str
) -> None:
    """The look at the memory finds what any one of them would leave."""
    monkeypatch.setattr(owner, wipe, lambda _: None)
    assert memory.find_left(replay_demo()) != []


def test_wipe_of_the_newest_frame_is_needed(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the others are."""
    monkeypatch.setattr(FrameRing, "wipe", lambda _: None)
    run, runtime, memory, _ = live()
    assert len(memory.find_left(runtime, run)) == 1


def test_frames_of_other_owners_are_not_wiped(configure: Callable[..., Config]) -> None:
    """A benchmark holds its clip in memory, and plays it again."""

    class Clip(Camera):
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


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment in which everything of the user's lies in `tmp_path`."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith("XDG_")}
    places = {"HOME": "home", "EMOTION_EDGE_CACHE": "cache", "EMOTION_EDGE_STATE": "state"}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    environment |= {name: str(tmp_path / folder) for name, folder in places.items()}
    (tmp_path / "home").mkdir()
    return environment


def trace_run(home: dict[str, str], trace: Path, *arguments: str) -> list[str]:
    """The system calls of a run that succeeded: of all its threads, by strace(1)."""
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
"""Whether its cache can be written, with files that have no name."""


def list_written(calls: list[str]) -> list[str]:
    """The absolute names in calls that change files, and did so."""
    names = []
    for call in calls:
        if WRITES.search(call) and not FAILED.search(call) and not NUMBA_PROBES.search(call):
            names += re.findall(r'"([^"]+)"', call)
    return names


def list_sockets(calls: list[str]) -> list[str]:
    """The families of the sockets that were opened."""
    return [found[1] for call in calls if (found := re.search(r"\bsocket(?:pair)?\((\w+)", call))]


def find_numba_cache() -> str:
    """Where compiled kernels are kept; it holds nothing else."""
    beside = Path(kernels.__file__).parent / "__pycache__"
    return f"{os.environ.get('NUMBA_CACHE_DIR') or beside}/"


@pytest.mark.parametrize("pace", ["max", "real"])
def test_run_writes_no_files_and_opens_no_connections(
    home: dict[str, str], tmp_path: Path, pace: str
) -> None:
    """With the real networks, in ONNX Runtime: no socket at all, and of files only what was asked
    for and the measured cost of the levels; the home folder stays empty."""
    out = tmp_path / "out.jsonl"
    options = ["--source", "demo", "--seconds", "1", "--pace", pace, "--output", f"jsonl:{out}"]
    calls = trace_run(home, tmp_path / "trace.txt", *options)
    assert any("face.onnx" in call for call in calls)  # it is no other run that was traced
    assert list_sockets(calls) == []
    allowed = (str(out), f"{tmp_path / 'cache'}/", "/dev/null", find_numba_cache())
    written = list_written(calls)
    assert [name for name in written if not name.startswith(allowed)] == []
    assert str(out) in written
    assert list((tmp_path / "home").iterdir()) == []
    assert not (tmp_path / "state").exists()


def test_only_configured_sockets(home: dict[str, str], tmp_path: Path) -> None:
    """Figures where they are to be served, words to systemd where it listens, and no more."""
    notify = tmp_path / "notify"
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd,
        socket.create_server(("127.0.0.1", 0)) as probe,
    ):
        systemd.bind(str(notify))
        port = probe.getsockname()[1]
        probe.close()
        options = ["--source", "demo", "--seconds", "1", "--output", "null"]
        calls = trace_run(
            home | {"NOTIFY_SOCKET": str(notify)},
            tmp_path / "trace.txt",
            *options,
            "--set",
            f"metrics.port={port}",
        )
    assert sorted(list_sockets(calls)) == ["AF_INET", "AF_UNIX"]
    bound = [call for call in calls if " bind(" in call]
    assert len(bound) == 1
    assert f'sin_port=htons({port}), sin_addr=inet_addr("127.0.0.1")' in bound[0]
    sent = [call for call in calls if re.search(r" (connect|sendto|sendmsg|sendmmsg)\(", call)]
    assert sent != []
    assert all(f'sun_path="{notify}"' in call for call in sent)


REPLAY = ["run", "--source", "demo", "--pace", "max", "--seconds", "0.1", "--output", "null"]


@pytest.mark.parametrize(
    ("code", "options"),
    [
        ("from emotion_edge.runtime.__main__ import main; sys.exit(main(sys.argv[1:]))", REPLAY),
        ("import emotion_edge.calibration.quantize", []),
    ],
)
def test_onnx_runtime_telemetry_is_off(home: dict[str, str], code: str, options: list[str]) -> None:
    """Before it is loaded, whatever the environment says."""
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
