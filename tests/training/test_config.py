"""The configuration of a training run: what goes over what, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from emotion_edge.training.config import (
    AnyConfig,
    ConfigError,
    FaceConfig,
    FusionConfig,
    VoiceConfig,
    change_config,
    dump_config,
    list_presets,
    load_config,
)


def test_presets() -> None:
    """All that are promised are there, load, and know their name."""
    tasks = {name: type(load_config(name)) for name in list_presets()}
    assert tasks == {
        "face-default": FaceConfig,
        "fusion-attention": FusionConfig,
        "fusion-channel": FusionConfig,
        "reference": FaceConfig,
        "toy-face": FaceConfig,
        "toy-voice": VoiceConfig,
        "voice-default": VoiceConfig,
    }
    assert all(load_config(name).preset == name for name in tasks)


def test_reference_is_as_published() -> None:
    """The settings of the system we are compared with."""
    learning = load_config("reference").learning
    assert (learning.batch_size, learning.peak_lr, learning.weight_decay) == (32, 1e-4, 1e-5)
    assert learning.betas == (0.9, 0.999)


def write(folder: Path, text: str) -> Path:
    (folder / "run.yaml").write_text(text)
    return folder / "run.yaml"


def test_what_goes_over_what(tmp_path: Path) -> None:
    """Settings over the file over the preset, key by key."""
    file = write(tmp_path, "learning: {peak_lr: 1e-3, batch_size: 9}\nseed: 4\n")
    config = load_config("voice-default", file, ["learning.batch_size=8", "network.dropout=0.5"])
    assert isinstance(config, VoiceConfig)
    assert (config.learning.peak_lr, config.learning.batch_size) == (1e-3, 8)
    assert config.num_epochs == load_config("voice-default").num_epochs
    assert (config.seed, config.network.dropout) == (4, 0.5)


def test_file_names_its_preset(tmp_path: Path) -> None:
    """Or is complete without one."""
    file = write(tmp_path, "preset: toy-voice\nseed: 3\n")
    config = load_config(file=file)
    assert config == load_config("toy-voice", None, ["seed=3"])
    assert load_config("toy-voice", file) == config
    with pytest.raises(ConfigError, match=r"run\.yaml: preset is 'toy-voice', 'toy-face' is asked"):
        load_config("toy-face", file)
    assert isinstance(load_config(file=write(tmp_path, "task: fusion\n")), FusionConfig)


@pytest.mark.parametrize("name", list_presets())
def test_dump_is_read_back(tmp_path: Path, name: str) -> None:
    """Without anything lost, nothing and small numbers included."""
    config = load_config(name, None, ["learning.weight_decay=1.5e-7", "root='/data/a: b #1'"])
    assert load_config(file=write(tmp_path, dump_config(config))) == config


def test_change_config() -> None:
    """By dotted key; the rest stays, the checks too."""
    config = load_config("toy-voice", None, ["fold=2"])
    changed = change_config(config, {"learning.peak_lr": 1.25e-5, "network.dropout": 0.5})
    assert changed.learning.peak_lr == 1.25e-5
    assert change_config(changed, {"learning.peak_lr": 3e-3, "network.dropout": 0.2}) == config
    with pytest.raises(ConfigError, match=r"configuration: network.dropout is '1.5': expected"):
        change_config(config, {"network.dropout": 1.5})


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("learning.batch_size=0", "learning.batch_size is '0': expected `int` >= 1"),
        ("learning.peak_lr=fast", "learning.peak_lr is 'fast': expected `float`"),
        ("learning.peak_lr=nan", "learning.peak_lr is 'nan': expected `float`"),
        ("learning.peak_lr=inf", "learning.peak_lr is 'inf': expected `float`"),
        ("learning.epochs=3", "unknown key learning.epochs, allowed: batch_size, peak_lr"),
        ("lerning.peak_lr=3", "unknown key lerning, allowed: preset, root, out, cache, seed"),
        ("network.channels=[1, 2]", "network.channels is ['1', '2']: expected `array` of length 3"),
        ("network.num_members=3", "network.num_members is '3', allowed: 1, 2, 4, 8"),
        ("network.max_drop=0.1", "unknown key network.max_drop, allowed: num_members, channels"),
        ("fold=4", "fold is '4': expected `int` <= 3"),
        ("task=text", "task is 'text', allowed: face, voice, fusion"),
        ("task=[]", "task is [], allowed: face, voice, fusion"),
        ("learning=3", "learning is '3': expected `object`"),
        ("seed", "--set 'seed': wanted a.b=value"),
        ("seed.x=3", "seed is {'x': '3'}: expected `int`"),
        ("network.channels.x=3", "--set 'network.channels.x=3': channels is a value"),
        ("seed=[", "--set 'seed=[': the value is not YAML"),
    ],
)
def test_wrong_settings(setting: str, message: str) -> None:
    """One line: the key, the value, what is allowed."""
    with pytest.raises(ConfigError) as error:
        load_config("toy-voice", None, [setting])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("rounds", "message"),
    [
        ("[]", "rounds is []: expected `array` of length >= 1"),
        ("[{stages: []}]", "expected `array` of length >= 1"),
        ("[{stages: [{num_epochs: 1, sizes_px: [16]}]}]", "expected `int` >= 32"),
        ("[{rate: 1}]", "object missing required field `stages`"),
        ("[{stages: [{num_epochs: 1, size: 64}]}]", "size, allowed: num_epochs, sizes_px"),
    ],
)
def test_wrong_rounds(rounds: str, message: str) -> None:
    """The same for what stands in lists."""
    with pytest.raises(ConfigError) as error:
        load_config("toy-face", None, [f"rounds={rounds}"])
    assert message in str(error.value)


@pytest.mark.parametrize("kind", ["neither", "attention "])
def test_kinds_of_fusion(kind: str) -> None:
    """Those there are."""
    with pytest.raises(ConfigError, match=r" kind is '.*', allowed: attention, channel"):
        load_config("fusion-channel", None, [f"kind='{kind}'"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "run.yaml: not YAML: "),
        ("- 1", "run.yaml: is list, a mapping of keys is wanted"),
        ("", "run.yaml: task is 'missing', allowed: face, voice, fusion"),
        ("\x00", "run.yaml: not YAML: "),
        ("preset: nope", "preset 'nope' is unknown, allowed: face-default, fusion-attention,"),
        ("preset: ../presets/toy-face", "preset '../presets/toy-face' is unknown"),
        ("seed: 3", "run.yaml: task is 'missing', allowed: face, voice, fusion"),
        ("preset: toy-face\nseed: !!python/object:os.system {}", "run.yaml: seed is {}: expected"),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, message: str) -> None:
    """One line that names the file."""
    with pytest.raises(ConfigError) as error:
        load_config(file=write(tmp_path, text))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing, a folder, or far too large for a configuration."""
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file"):
        load_config(file=tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(file=tmp_path)
    with pytest.raises(ConfigError, match=r"run\.yaml: over 1048576 bytes"):
        load_config(file=write(tmp_path, "#" * ((1 << 20) + 1)))


def test_nothing_to_go_by() -> None:
    """The presets are listed."""
    with pytest.raises(ConfigError, match="no preset and no file; presets: face-default, "):
        load_config()


def test_configurations_cannot_be_changed() -> None:
    """Whoever wants another makes another."""
    config: AnyConfig = load_config("toy-face")
    with pytest.raises(AttributeError):
        config.seed = 3  # type: ignore[misc]
