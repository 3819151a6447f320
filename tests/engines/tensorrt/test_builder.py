"""Engine builds on a fake TensorRT: builder options, cache keys, and the error of each failure."""

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
from ..conftest import replace_network
from ..fake_cuda import FakeGpu

MB = 1 << 20


def test_builder_options(builder: Builder, gpu: FakeGpu) -> None:
    """Strongly typed, one profile per size for all faces of a level, a quarter of the free memory
    as workspace."""
    builder.prepare()
    assert gpu.options["profiles"] == [{"image": [4, 3, size, size]} for size in (64, 32)]
    assert gpu.options["flags"] == 2  # 1 << STRONGLY_TYPED
    assert gpu.options["workspace"] == 1000 * MB
    assert gpu.options["builder_optimization_level"] == 3
    assert "GPU_FALLBACK" not in gpu.options
    builder.prepare("voice")
    assert gpu.options["profiles"] == [{"mel": [1, 64, 300], "mask": [1, 300]}]


def test_some_levels(builder: Builder, gpu: FakeGpu) -> None:
    """Another engine has their sizes and the best level's, which the golden input has."""
    all_levels = builder.prepare()
    builder.prepare(levels=("full",))
    assert gpu.options["profiles"] == [{"image": [4, 3, 64, 64]}]
    assert gpu.num_builds == 2
    both = builder.prepare(levels=("low",))
    assert both == BuiltEngine(all_levels.data, all_levels.file, 0.0)


def test_cached_engine(builder: Builder, gpu: FakeGpu) -> None:
    """Nothing is built, converted or reported again, except with `force`."""
    first = builder.prepare()
    assert first.seconds > 0
    builder.reports.clear()
    gpu.calls.clear()
    assert builder.prepare() == BuiltEngine(first.data, first.file, 0.0)
    assert (gpu.calls, builder.reports) == ([], [])
    assert builder.prepare(force=True).seconds > 0
    assert gpu.num_builds == 2


def test_fp16(builder: Builder, gpu: FakeGpu) -> None:
    """FP32 builds the bundle's network, FP16 a converted one."""
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
def test_machine_is_part_of_the_key(
    builder: Builder, gpu: FakeGpu, name: str, value: object
) -> None:
    """Another version, GPU or release builds another engine; one part of its key differs."""
    files = [builder.prepare().file]
    setattr(gpu, name, value)
    files.append(builder.prepare().file)
    assert gpu.num_builds == 2
    old, new = (
        json.loads(file.with_suffix(".json").read_text())["built_of"] for file in files if file
    )
    assert len(set(old.items()) - set(new.items())) == 1


def test_long_name_of_a_bundle(builder: Builder) -> None:
    """The file names of both networks still differ."""
    manifest = msgspec.structs.replace(builder.bundle.manifest, name="long " * 100)
    builder.bundle = dataclasses.replace(builder.bundle, manifest=manifest)
    files = [builder.prepare(network).file for network in ("face", "voice")]
    assert [file is not None and file.name.split("-")[1] for file in files] == ["face", "voice"]


def test_network_is_part_of_the_key(builder: Builder, gpu: FakeGpu) -> None:
    """Another precision, or another file of the same name, builds another engine."""
    builder.prepare("face", "fp32")
    builder.prepare("face", "fp16")
    longer = builder.bundle.read_model("face") + b"\x7a\x00"  # an unknown field
    builder.bundle = replace_network(builder.bundle, "face", longer)
    builder.prepare("face", "fp32")
    assert gpu.num_builds == 3


def test_parser_errors_in_one_line(builder: Builder, gpu: FakeGpu) -> None:
    """The message has the file and every error of the parser."""
    gpu.parser_errors = ["In node 3: UNSUPPORTED_NODE:\n Frob", "In node 7: INVALID_GRAPH"]
    builder.refuse(r"face\.onnx: .*In node 3: .* Frob.*In node 7")


@pytest.mark.parametrize(
    ("call", "name"),
    [
        ("Builder", "face fp16: .*builder"),
        ("create_network", "face fp16: .*network"),
        ("create_builder_config", "face fp16: .*configuration"),
        ("add_optimization_profile", "face.onnx: .*image"),
        ("build_serialized_network", "face fp16: .*engine"),
    ],
)
def test_calls_that_return_none(builder: Builder, gpu: FakeGpu, call: str, name: str) -> None:
    """Each failed call is named."""
    gpu.fails.add(call)
    builder.refuse(name)


@pytest.mark.parametrize(
    ("severity", "line", "words"),
    [
        ("ERROR", "Error Code 4: no tactic\nfor Conv_3", "Error Code 4: no tactic for Conv_3"),
        (
            "ERROR",
            "Error Code 9: (Target GPU SM 87 is not supported by this TensorRT release.)",
            r"TensorRT 10\.3\.0 .*compute capability 8\.7",
        ),
        ("ERROR", "Unsupported SM: 0x807", r"TensorRT 10\.3\.0 .*compute capability 8\.7"),
        ("ERROR", "Error Code 2: OutOfMemory (Requested size was 99 bytes.)", "out of memory"),
        ("WARNING", "CUDA initialization failure with error: 35", r"driver .*TensorRT 10\.3\.0"),
        ("INTERNAL_ERROR", "Assertion x failed", "Assertion x failed"),
        ("INFO", "all is well", "face fp16: .*engine"),
    ],
)
def test_reason_from_the_log(
    builder: Builder, gpu: FakeGpu, severity: str, line: str, words: str
) -> None:
    """The message has TensorRT's last lines, and the remedy for known causes."""
    gpu.log = [(severity, line)]
    gpu.fails.add("build_serialized_network")
    builder.refuse(words)


def test_too_little_memory(builder: Builder, gpu: FakeGpu) -> None:
    """The build is refused before it starts."""
    gpu.available_mb = 1200
    builder.refuse("1200 MB .*300 MB")
    assert "Builder" not in gpu.calls


def test_network_with_other_inputs(builder: Builder, bundle: Bundle) -> None:
    """A voice network in place of the face network is refused before the build."""
    builder.bundle = replace_network(bundle, "face", bundle.read_model("voice"))
    builder.refuse(r"face\.onnx: .*mask, mel.*image")


def test_python_errors_of_the_bindings(builder: Builder, gpu: FakeGpu) -> None:
    """Any exception that pybind11 makes of a C++ one becomes an EngineError."""

    def fail() -> None:
        raise MemoryError("std::bad_alloc")

    gpu.on_build = fail
    builder.refuse("face fp16: .*std::bad_alloc")


def test_dla(builder: Builder, gpu: FakeGpu) -> None:
    """The engine falls back to the GPU for unsupported layers, and differs from one without."""
    gpu.num_dla_cores = 2
    builder.prepare()
    builder.prepare(dla_core=1)
    assert (gpu.options["DLA_core"], gpu.options["default_device_type"].name) == (1, "DLA")
    assert gpu.options["GPU_FALLBACK"]
    assert gpu.num_builds == 2


@pytest.mark.parametrize(
    ("cores", "core", "allowed"), [(0, 0, "none"), (2, 2, "0 to 1"), (2, -1, "0 to 1")]
)
def test_missing_dla_core(
    builder: Builder, gpu: FakeGpu, cores: int, core: int, allowed: str
) -> None:
    """The message has the requested core and the board's; an Orin Nano has none."""
    gpu.num_dla_cores = cores
    builder.refuse(f"DLA core {core}.* {allowed}", dla_core=core)


def test_timing_cache_is_reused(builder: Builder, gpu: FakeGpu) -> None:
    """The next build on the same device loads it, for any network."""
    builder.prepare("face")
    builder.prepare("voice")
    assert [call for call in gpu.calls if "timing" in call] == [
        "set_timing_cache False True",
        "set_timing_cache True True",
    ]


def test_foreign_timing_cache_is_dropped(
    builder: Builder, gpu: FakeGpu, caplog: pytest.LogCaptureFixture
) -> None:
    """TensorRT refuses it; an empty one replaces it with one warning."""
    builder.prepare()
    (file,) = builder.cache.folder.glob("timing-*.cache")
    data = b"TIMING 8.6"
    file.write_bytes(hashlib.sha256(data).hexdigest().encode() + data)
    gpu.calls.clear()
    builder.prepare(force=True)
    assert [call for call in gpu.calls if "timing" in call] == [
        "set_timing_cache True False",
        "set_timing_cache False True",
    ]
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_read_only_cache(
    builder: Builder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The engine is used from memory and built again at the next start."""
    (tmp_path / "file").touch()
    builder.cache = EngineCache(tmp_path / "file" / "cache")
    built = [builder.prepare(), builder.prepare()]
    assert [(each.file, each.seconds > 0) for each in built] == [(None, True)] * 2
    assert "EMOTION_EDGE_CACHE" in caplog.text


def test_memory_of_a_discrete_gpu(builder: Builder, gpu: FakeGpu) -> None:
    """The fake GPU has 2 GB free, the machine more."""
    gpu.integrated, gpu.available_mb = False, 60_000
    builder.prepare()
    assert gpu.options["workspace"] == 512 * MB
