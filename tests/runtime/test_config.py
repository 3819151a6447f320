"""The configuration: defaults, allowed values, and errors that name key, value and alternatives."""

from __future__ import annotations

import ast
import inspect
import math
from pathlib import Path

import msgspec
import pytest

from emotion_edge.runtime import config as config_module
from emotion_edge.runtime.config import Config, ConfigError, load_config


def write(folder: Path, text: str | bytes) -> Path:
    file = folder / "config.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_defaults() -> None:
    """The documented defaults, which a device without a configuration uses."""
    assert msgspec.to_builtins(Config()) == {
        "source": {
            "name": "auto",
            "microphone": "auto",
            "microphone_chunk_ms": 10.0,
            "width_px": 1280,
            "height_px": 720,
            "camera_fps": 30.0,
            "capture": "auto",
            "rotate": 0,
            "mirror": False,
            "video_track": -1,
            "audio_track": -1,
            "loop": False,
        },
        "engines": {"name": "auto", "precision": "auto", "dla_core": -1, "num_threads": 0},
        "face": {"yunet_file": "", "lost_after_s": 0.7},
        "faces": {"max": 4},
        "voice": {"min_level_db": -100.0},
        "sync": {"max_wait_ms": 5.0},
        "output": {
            "smoothing_s": 0.5,
            "sinks": ("console",),
            "clock": "monotonic",
            "summary_s": 0.0,
        },
        "realtime": {"priority": True, "freeze": True},
        "metrics": {"port": 0, "address": "127.0.0.1"},
        "trace": {"folder": ""},
        "screen": {
            "notice": "Reads apparent emotion, not what a person feels."
            " No picture or sound is kept or sent.",
            "picture": False,
        },
        "serial": {"baud": 115_200, "format": "json", "max_hz": 10.0},
        "web": {"address": "127.0.0.1", "port": 8080, "picture": False, "max_clients": 20},
        "mqtt": {
            "device": "",
            "state_interval_s": 1.0,
            "records": "summaries",
            "record_interval_s": 60.0,
            "health_interval_s": 30.0,
            "credentials_file": "",
            "ca_file": "",
            "cert_file": "",
            "key_file": "",
            "spool_records": 20_000,
            "spool_days": 7.0,
            "discovery": "",
        },
        "indicator": {"kind": "none", "file": ""},
        "profile": "general",
        "wait_for_devices": False,
        "bundle": "",
        "public_key": "",
        "level": "",
        "budget_ms": 45.0,
    }
    assert load_config(None) == Config()


def test_defaults_are_allowed() -> None:
    """All defaults are within their own limits."""
    assert msgspec.convert(msgspec.to_builtins(Config()), Config) == Config()


def test_every_setting_has_a_docstring() -> None:
    """All but sections and the two sizes, whose names have the unit."""
    exceptions = {"width_px", "height_px"}
    missing = []
    for node in ast.walk(ast.parse(inspect.getsource(config_module))):
        if not isinstance(node, ast.ClassDef) or node.name in ("Section", "ConfigError"):
            continue
        for statement, after in zip(node.body, [*node.body[1:], None], strict=True):
            if not isinstance(statement, ast.AnnAssign) or not isinstance(
                statement.target, ast.Name
            ):
                continue
            has_docstring = (
                isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
                and isinstance(after.value.value, str)
            )
            section = isinstance(statement.value, ast.Call)
            if not has_docstring and not section and statement.target.id not in exceptions:
                missing.append(f"{node.name}.{statement.target.id}")
    assert missing == []


def test_file_and_settings(tmp_path: Path) -> None:
    """The file overrides the defaults, settings override the file, and the last one wins."""
    file = write(
        tmp_path,
        "source: {name: talk.mp4, camera_fps: 25}\nbudget_ms: 40\n"
        "output:\n  sinks: [null, console]\n",
    )
    config = load_config(file, ["budget_ms=30", "budget_ms=20", "face.lost_after_s=2"])
    assert config.source.name == "talk.mp4"
    assert config.source.camera_fps == 25.0
    assert config.output.sinks == ("null", "console")
    assert config.budget_ms == 20.0
    assert config.face.lost_after_s == 2.0
    assert config.engines == Config().engines


@pytest.mark.parametrize("text", ["", "\n# nothing but this\n", "---\n"])
def test_empty_file_is_all_defaults(tmp_path: Path, text: str) -> None:
    """A file with only comments is valid."""
    assert load_config(write(tmp_path, text)) == Config()


@pytest.mark.parametrize(
    ("setting", "path", "value"),
    [
        ("engines.name=null", "engines.name", "null"),
        ("source.microphone=1", "source.microphone", "1"),
        ("source.microphone=none", "source.microphone", "none"),
        ("source.name=2024-01-01", "source.name", "2024-01-01"),
        ("source.name=a=b.mp4", "source.name", "a=b.mp4"),
        ("source.name='it''s: #1.mp4'", "source.name", "it's: #1.mp4"),
        ("source.name=it's: #1.mp4", "source.name", "it's: #1.mp4"),
        ("trace.folder={a: [b]", "trace.folder", "{a: [b]"),
        ("source.name=on", "source.name", "on"),
        ("source.name=none", "source.name", "none"),
        ("source.rotate=270", "source.rotate", 270),
        ("source.mirror=true", "source.mirror", True),
        ("source.loop=true", "source.loop", True),
        ("source.loop=False", "source.loop", False),
        ("bundle=", "bundle", ""),
        (" budget_ms = 1e2 ", "budget_ms", 100.0),
        ("output.sinks=[jsonl:-, console]", "output.sinks", ("jsonl:-", "console")),
        ("source.width_px=64", "source.width_px", 64),
        ("source.capture=v4l2", "source.capture", "v4l2"),
        ("voice.min_level_db=-100", "voice.min_level_db", -100.0),
        ("source.microphone_chunk_ms=40", "source.microphone_chunk_ms", 40.0),
        ("output.sinks=[screen, serial:/dev/x]", "output.sinks", ("screen", "serial:/dev/x")),
        ("screen.picture=true", "screen.picture", True),
        ("serial.format=binary", "serial.format", "binary"),
        ("serial.baud=9600", "serial.baud", 9600),
        ("indicator.kind=screen", "indicator.kind", "screen"),
        ("wait_for_devices=true", "wait_for_devices", True),
        ("profile=general", "profile", "general"),
    ],
)
def test_valid_settings(setting: str, path: str, value: object) -> None:
    """The type of the field decides, not YAML's types for null, on and 1."""
    loaded: object = load_config(None, [setting])
    for name in path.split("."):
        loaded = getattr(loaded, name)
    assert loaded == value
    assert type(loaded) is type(value)


def test_nothing_to_read_is_an_error(tmp_path: Path) -> None:
    """Neither a camera nor a microphone."""
    message = refuse(None, "source.name=none", "source.microphone=none")
    assert "source.microphone" in message
    assert refuse(write(tmp_path, "source: {name: none, microphone: none}\n"))


def refuse(file: Path | None, *settings: str) -> str:
    """Return the one-line message of the ConfigError."""
    with pytest.raises(ConfigError) as error:
        load_config(file, settings)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        # key, value, allowed values
        (
            "source.nam=x",
            ["source.nam", "name, microphone, microphone_chunk_ms, width_px"],
        ),
        ("sauce.name=x", ["sauce", "source, engines, face"]),
        ("budget_ms=fast", ["budget_ms is 'fast'", "float"]),
        ("budget_ms=0", ["budget_ms is '0'", "> 0"]),
        ("budget_ms=nan", ["budget_ms is 'nan'", "> 0"]),
        ("budget_ms=.inf", ["budget_ms is '.inf'", "float"]),
        ("sync.max_wait_ms=50", ["sync.max_wait_ms is '50'", "<= 40"]),
        ("faces.max=0", ["faces.max is '0'", ">= 1"]),
        ("faces.max=17", ["faces.max is '17'", "<= 16"]),
        ("face.lost_after_s=-1", ["face.lost_after_s is '-1'", ">= 0"]),
        ("voice.min_level_db=1", ["voice.min_level_db is '1'", "<= 0"]),
        ("source.width_px=12.5", ["source.width_px is '12.5'", "int"]),
        ("source.width_px=63", ["source.width_px is '63'", ">= 64"]),
        ("source.capture=gst", ["source.capture is 'gst'", "auto, v4l2, opencv, jetson"]),
        ("source.loop=perhaps", ["source.loop is 'perhaps'", "bool"]),
        ("source.microphone_chunk_ms=4", ["source.microphone_chunk_ms is '4'", ">= 5"]),
        ("screen.notice=''", ["screen.notice is ''", "length >= 1"]),
        ("serial.baud=300", ["serial.baud is '300'", ">= 1200"]),
        ("serial.max_hz=0", ["serial.max_hz is '0'", "> 0"]),
        ("serial.format=xml", ["serial.format is 'xml'", "json, binary"]),
        ("indicator.kind=led", ["indicator.kind is 'led'", "none, screen, file"]),
        ("profile=shop", ["profile is 'shop'", "general, workplace, school"]),
        ("engines.num_threads=65", ["engines.num_threads is '65'", "<= 64"]),
        ("output.sinks=console", ["output.sinks is 'console'", "array"]),
        ("output.sinks=[console, {a: b}]", ["output.sinks[1]", "'a': 'b'", "str"]),
        ("budget_ms={a: 1}", ["budget_ms is {'a': '1'}", "float"]),
        ("source.rotate=45", ["source.rotate is '45'", "0, 90, 180, 270"]),
        ("source=demo", ["source is 'demo'", "object"]),
        ("source.name.x=3", ["source.name", "str"]),
        # the syntax of --set
        ("budget_ms", ["--set 'budget_ms'", "a.b=value"]),
        ("=3", ["--set '=3'", "a.b=value"]),
        ("source..name=x", ["--set 'source..name=x'", "a.b=value"]),
        (".=x", ["--set '.=x'", "a.b=value"]),
        ("output.sinks=[a", ["--set 'output.sinks=[a'", "YAML"]),
    ],
)
def test_invalid_settings(setting: str, named: list[str]) -> None:
    """The message names the key, its value and the allowed values."""
    message = refuse(None, setting)
    assert [part for part in named if part not in message] == []


def test_setting_below_a_value() -> None:
    """A value cannot become a section; the message names the setting."""
    assert "--set 'source.name.x=3'" in refuse(None, "source.name=demo", "source.name.x=3")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("- a\n- b\n", "list"),
        ("just words", "str"),
        ("source: {name: x", "YAML"),
        ("a: b: c", "YAML"),
        (b"\xff\xfe\x00bad", "YAML"),
        ("source: demo", "source is 'demo'"),
        ("face:\n  color: red\n", "face.color"),
        ("face:\n  color: red\n", "yunet_file, lost_after_s"),
        ("!!python/object/apply:os.system [echo]", "list"),
        ("# " + "x" * (1 << 20), "1048576"),
    ],
)
def test_invalid_files(tmp_path: Path, text: str | bytes, named: str) -> None:
    """The message names the file and the error in it."""
    file = write(tmp_path, text)
    message = refuse(file)
    assert str(file) in message
    assert named in message.replace(str(file), "")


def test_unreadable_files(tmp_path: Path) -> None:
    """A missing file, or a folder: the message names it."""
    for file in (tmp_path / "none.yaml", tmp_path):
        assert str(file) in refuse(file)


def test_limits_are_finite() -> None:
    """All numbers have limits that exclude infinity and values with too many zeros."""
    for section in ("source", "engines", "face", "voice", "sync", "output", "serial"):
        for field in msgspec.structs.fields(type(getattr(Config(), section))):
            if field.type in (bool, str) or field.name in ("sinks", "format", "clock"):
                continue
            with pytest.raises(ConfigError):
                load_config(None, [f"{section}.{field.name}={math.inf}"])
            too_much = 10_000_000 if field.name == "baud" else 1_000_000
            with pytest.raises(ConfigError):
                load_config(None, [f"{section}.{field.name}={too_much}"])


@pytest.mark.parametrize("profile", ["workplace", "school"])
@pytest.mark.parametrize("given", ["file", "setting"])
def test_prohibited_uses_are_refused(tmp_path: Path, profile: str, given: str) -> None:
    """In the file or a setting: the message names the law and the allowed value."""
    if given == "file":
        file = write(tmp_path, f"profile: {profile}\n")
        message, origin = refuse(file), str(file)
    else:
        message, origin = refuse(None, f"profile={profile}"), "configuration"
    assert message.startswith(f"{origin}: profile is '{profile}'")
    assert "Regulation (EU) 2024/1689, Article 5(1)(f)" in message
    assert message.endswith("general")


def test_refused_profile_of_the_command_line(tmp_path: Path) -> None:
    """The command line overrides the file in both directions."""
    file = write(tmp_path, "profile: school\n")
    assert load_config(file, ["profile=general"]).profile == "general"
    assert "workplace" in refuse(write(tmp_path, "profile: general\n"), "profile=workplace")


@pytest.mark.parametrize("text", ["\\0", "\\ud800", "a\\0b", "\\udfff/x"])
@pytest.mark.parametrize("setting", ["bundle", "profile", "source.name", "output.sinks"])
def test_text_that_no_name_can_be(tmp_path: Path, setting: str, text: str) -> None:
    """One line, in a file as in an option: the system would refuse it later, in a traceback."""
    with pytest.raises(ConfigError, match="no text"):
        load_config(None, [f'{setting}="{text}"'])
    section, _, key = setting.rpartition(".")
    inner = f'{key}: ["{text}"]' if key == "sinks" else f'{key}: "{text}"'
    (tmp_path / "c.yaml").write_text(f"{section}: {{{inner}}}" if section else inner)
    with pytest.raises(ConfigError, match=r"c\.yaml: line 1: .*no text"):
        load_config(tmp_path / "c.yaml")


def test_name_of_another_code() -> None:
    """A file's name may have any bytes, as they come in an argument."""
    assert load_config(None, ["bundle=/a/\udcff"]).bundle == "/a/\udcff"
