"""From a plan to an engine: how the builder is told, what is stored, and what each failure says.

TensorRT is a stand-in here: the order of calls and the handling of errors are what is shown.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import msgspec
import pytest

from emotion_edge.engines.bundles.manifest import Bundle
from emotion_edge.engines.tensorrt.builder import BuiltEngine
from emotion_edge.engines.tensorrt.cache import EngineCache

from ..building import Builder
from ..fake_cuda import FakeGpu

MB = 1 << 20


def test_how_the_builder_is_told(builder: Builder, gpu: FakeGpu) -> None:
    """Strongly typed, one profile of one shape for each size, a quarter of the free memory."""
    builder.prepare()
    assert gpu.options["profiles"] == [{"image": [1, 3, size, size]} for size in (64, 32)]
    assert gpu.options["flags"] == 2  # 1 << STRONGLY_TYPED
    assert gpu.options["workspace"] == 1000 * MB
    assert gpu.options["builder_optimization_level"] == 3
    assert "GPU_FALLBACK" not in gpu.options
    builder.prepare("voice")
    assert gpu.options["profiles"] == [{"mel": [1, 64, 300], "mask": [1, 300]}]


def test_only_some_levels(builder: Builder, gpu: FakeGpu) -> None:
    """Their sizes, and the best level's for the golden input: another engine."""
    whole = builder.prepare()
    builder.prepare(levels=("full",))
    assert gpu.options["profiles"] == [{"image": [1, 3, 64, 64]}]
    assert gpu.num_builds == 2
    both = builder.prepare(levels=("low",))
    assert both == BuiltEngine(whole.data, whole.file, 0.0)  # all sizes: it is there already


def test_second_time_from_the_cache(builder: Builder, gpu: FakeGpu) -> None:
    """Nothing is built, converted or reported; `force` builds all the same."""
    first = builder.prepare()
    assert first.seconds > 0
    builder.reports.clear()
    gpu.calls.clear()
    assert builder.prepare() == BuiltEngine(first.data, first.file, 0.0)
    assert (gpu.calls, builder.reports) == ([], [])
    assert builder.prepare(force=True).seconds > 0
    assert gpu.num_builds == 2


def test_fp16(builder: Builder, gpu: FakeGpu) -> None:
    """TensorRT is given another network than for 32 bits, which is the bundle's own."""
    builder.prepare(precision="fp32")
    assert gpu.options["model"] == builder.bundle.model_path("face").read_bytes()
    builder.prepare(precision="fp16")
    assert gpu.options["model"] != builder.bundle.model_path("face").read_bytes()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("version", "10.16.2"),
        ("sm", "8.6"),
        ("gpu_name", "Orin NX"),
        ("num_sms", 4),
        ("l4t", "# R36 (release), REVISION: 5.0"),
    ],
)
def test_another_machine_is_another_engine(
    builder: Builder, gpu: FakeGpu, name: str, value: object
) -> None:
    """Nothing of before is used; the manifest says what each was built of."""
    before = builder.prepare()
    setattr(gpu, name, value)
    after = builder.prepare()
    assert after.seconds > 0
    assert before.file is not None
    assert after.file is not None
    parts = [
        json.loads(file.with_suffix(".json").read_text())["built_of"]
        for file in (before.file, after.file)
    ]
    assert len({key for key in parts[0] if parts[0][key] != parts[1][key]}) == 1


def test_long_name_of_a_bundle(builder: Builder) -> None:
    """Both networks are still told apart by the names of their files."""
    manifest = msgspec.structs.replace(builder.bundle.manifest, name="long " * 100)
    builder.bundle = dataclasses.replace(builder.bundle, manifest=manifest)
    files = [builder.prepare(network).file for network in ("face", "voice")]
    assert [file is not None and file.name.split("-")[1] for file in files] == ["face", "voice"]


def test_another_network_is_another_engine(builder: Builder, gpu: FakeGpu) -> None:
    """So is another precision, and another bundle's file of the same name."""
    builder.prepare("face", "fp32")
    builder.prepare("face", "fp16")
    path = builder.bundle.model_path("face")
    path.write_bytes(path.read_bytes() + b"\x7a\x00")  # a field that no reader knows
    builder.prepare("face", "fp32")
    assert gpu.num_builds == 3


# What goes wrong


def test_parser_errors_in_one_line(builder: Builder, gpu: FakeGpu) -> None:
    """All of them, with the file."""
    gpu.parser_errors = ["In node 3: UNSUPPORTED_NODE:\n Frob", "In node 7: INVALID_GRAPH"]
    builder.refuse(r"face\.onnx: TensorRT cannot read it: In node 3: .* Frob; In node 7")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("Builder", "face fp16: no builder"),
        ("create_network", "face fp16: no network"),
        ("create_builder_config", "face fp16: no configuration"),
        ("add_optimization_profile", "does not fit its inputs"),
        ("build_serialized_network", "face fp16: no engine"),
    ],
)
def test_calls_that_return_nothing(builder: Builder, gpu: FakeGpu, call: str, says: str) -> None:
    """Each is an error of its own, not an AttributeError of None."""
    gpu.fails.add(call)
    builder.refuse(says)


@pytest.mark.parametrize(
    ("severity", "line", "says"),
    [
        ("ERROR", "Error Code 4: no tactic\nfor Conv_3", "no engine: Error Code 4: no tactic for"),
        (
            "ERROR",
            "Error Code 9: (Target GPU SM 87 is not supported by this TensorRT release.)",
            r"TensorRT 10.3.0 has nothing for this GPU \(compute capability 8.7\): install",
        ),
        ("ERROR", "Unsupported SM: 0x807", "TensorRT 10.3.0 has nothing for this GPU"),
        ("ERROR", "Error Code 2: OutOfMemory (Requested size was 99 bytes.)", "out of memory"),
        ("WARNING", "CUDA initialization failure with error: 35", "driver is too old for TensorRT"),
        ("INTERNAL_ERROR", "Assertion x failed", "no engine: Assertion x failed"),
        ("INFO", "all is well", "no engine: TensorRT does not say why"),
    ],
)
def test_tensorrt_says_why_in_its_log(
    builder: Builder, gpu: FakeGpu, severity: str, line: str, says: str
) -> None:
    """Its last lines are in the message; known causes come with what to do."""
    gpu.log = [(severity, line)]
    gpu.fails.add("build_serialized_network")
    builder.refuse(says)


def test_too_little_memory(builder: Builder, gpu: FakeGpu) -> None:
    """Nothing is begun."""
    gpu.available_mb = 1200
    builder.refuse("1200 MB of memory are free, the GPU's driver holds 300 MB")
    assert "Builder" not in gpu.calls


def test_network_with_other_inputs(builder: Builder, bundle: Bundle) -> None:
    """A voice network in the place of the face's is named before it is built."""
    bundle.model_path("face").write_bytes(bundle.model_path("voice").read_bytes())
    builder.refuse(r"face\.onnx: its inputs are mask, mel, not image")


def test_python_errors_of_the_bindings(builder: Builder, gpu: FakeGpu) -> None:
    """Whatever pybind11 makes of C++'s exceptions."""

    def fail() -> None:
        raise MemoryError("std::bad_alloc")

    gpu.on_build = fail
    builder.refuse("face fp16: TensorRT failed: std::bad_alloc")


# DLA


def test_dla_where_there_is_one(builder: Builder, gpu: FakeGpu) -> None:
    """With what it cannot do on the GPU; another engine than without."""
    gpu.num_dla_cores = 2
    builder.prepare()
    builder.prepare(dla_core=1)
    assert (gpu.options["DLA_core"], gpu.options["default_device_type"].name) == (1, "DLA")
    assert gpu.options["GPU_FALLBACK"]
    assert gpu.num_builds == 2


@pytest.mark.parametrize(
    ("cores", "core", "says"),
    [(0, 0, "has none"), (2, 2, "has cores 0 to 1"), (2, -1, "has cores 0 to 1")],
)
def test_dla_that_is_not_there(
    builder: Builder, gpu: FakeGpu, cores: int, core: int, says: str
) -> None:
    """An Orin Nano has none."""
    gpu.num_dla_cores = cores
    builder.refuse(f"deep-learning accelerator {core} asked for, this board {says}", dla_core=core)


# The timing cache


def test_timing_cache_is_used_again(builder: Builder, gpu: FakeGpu) -> None:
    """Loaded for the next build on the same device, by every network."""
    builder.prepare("face")
    builder.prepare("voice")
    assert [call for call in gpu.calls if "timing" in call] == [
        "set_timing_cache False True",
        "set_timing_cache True True",
    ]


def test_foreign_timing_cache_is_dropped(
    builder: Builder, gpu: FakeGpu, caplog: pytest.LogCaptureFixture
) -> None:
    """TensorRT refuses it, an empty one takes its place, and the log says so."""
    builder.prepare()
    (file,) = builder.cache.folder.glob("timing-*.cache")
    data = b"TIMING 8.6 of somebody"
    file.write_bytes(hashlib.sha256(data).hexdigest().encode() + data)
    gpu.calls.clear()
    builder.prepare(force=True)
    assert [call for call in gpu.calls if "timing" in call] == [
        "set_timing_cache True False",
        "set_timing_cache False True",
    ]
    assert "not of this GPU" in caplog.text


# Folders


def test_cache_that_cannot_be_written(
    builder: Builder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The engine is used from memory, and built at the next start again."""
    (tmp_path / "file").touch()
    builder.cache = EngineCache(tmp_path / "file" / "cache")
    built = [builder.prepare(), builder.prepare()]
    assert [(each.file, each.seconds > 0) for each in built] == [(None, True)] * 2
    assert "set EMOTION_EDGE_CACHE" in caplog.text


def test_discrete_gpu_is_asked_for_its_memory(builder: Builder, gpu: FakeGpu) -> None:
    """The stand-in's has 2 GB left, and the machine more."""
    gpu.integrated, gpu.available_mb = False, 60_000
    builder.prepare()
    assert gpu.options["workspace"] == 512 * MB
