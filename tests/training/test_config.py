"""The configuration of a training run: overrides, and settings that are refused."""

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
    """The documented presets exist, load, and have their name."""
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
    """The settings of the reference system."""
    learning = load_config("reference").learning
    assert (learning.batch_size, learning.peak_lr, learning.weight_decay) == (32, 1e-4, 1e-5)
    assert learning.betas == (0.9, 0.999)


def write(folder: Path, text: str) -> Path:
    (folder / "run.yaml").write_text(text)
    return folder / "run.yaml"


def test_overrides(tmp_path: Path) -> None:
    """Settings override the file, the file overrides the preset, key by key."""
    file = write(tmp_path, "learning: {peak_lr: 1e-3, batch_size: 9}\nseed: 4\n")
    config = load_config("voice-default", file, ["learning.batch_size=8", "network.dropout=0.5"])
    assert isinstance(config, VoiceConfig)
    assert (config.learning.peak_lr, config.learning.batch_size) == (1e-3, 8)
    assert config.num_epochs == load_config("voice-default").num_epochs
    assert (config.seed, config.network.dropout) == (4, 0.5)


def test_file_names_its_preset(tmp_path: Path) -> None:
    """Or it is complete without one."""
    file = write(tmp_path, "preset: toy-voice\nseed: 3\n")
    config = load_config(file=file)
    assert config == load_config("toy-voice", None, ["seed=3"])
    assert load_config("toy-voice", file) == config
    with pytest.raises(ConfigError, match=r"run\.yaml: preset is 'toy-voice'"):
        load_config("toy-face", file)
    assert isinstance(load_config(file=write(tmp_path, "task: fusion\n")), FusionConfig)


@pytest.mark.parametrize("name", list_presets())
def test_dump_is_read_back(tmp_path: Path, name: str) -> None:
    """Nothing is lost, empty values and small numbers included."""
    config = load_config(name, None, ["learning.weight_decay=1.5e-7", "root='/data/a: b #1'"])
    assert load_config(file=write(tmp_path, dump_config(config))) == config


def test_change_config() -> None:
    """Values by dotted key are changed and checked, the others stay."""
    config = load_config("toy-voice", None, ["fold=2"])
    changed = change_config(config, {"learning.peak_lr": 1.25e-5, "network.dropout": 0.5})
    assert changed.learning.peak_lr == 1.25e-5
    assert change_config(changed, {"learning.peak_lr": 3e-3, "network.dropout": 0.2}) == config
    with pytest.raises(ConfigError, match=r"network.dropout is '1.5'"):
        change_config(config, {"network.dropout": 1.5})


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("learning.batch_size=0", "learning.batch_size is '0'"),
        ("learning.peak_lr=fast", "learning.peak_lr is 'fast'"),
        ("learning.peak_lr=nan", "learning.peak_lr is 'nan'"),
        ("learning.peak_lr=inf", "learning.peak_lr is 'inf'"),
        ("learning.epochs=3", "learning.epochs, allowed: batch_size, peak_lr"),
        ("lerning.peak_lr=3", "lerning, allowed: preset, root, out, cache, seed"),
        ("network.channels=[1, 2]", "network.channels is ['1', '2']"),
        ("network.num_members=3", "network.num_members is '3', allowed: 1, 2, 4, 8"),
        ("network.max_drop=0.1", "network.max_drop, allowed: num_members, channels"),
        ("fold=4", "fold is '4'"),
        ("task=text", "task is 'text', allowed: face, voice, fusion"),
        ("task=[]", "task is [], allowed: face, voice, fusion"),
        ("learning=3", "learning is '3'"),
        ("seed", "--set 'seed'"),
        ("seed.x=3", "seed is {'x': '3'}"),
        ("network.channels.x=3", "--set 'network.channels.x=3'"),
        ("seed=[", "--set 'seed=['"),
    ],
)
def test_wrong_settings(setting: str, named: str) -> None:
    """One line names the key, the value and the allowed values."""
    with pytest.raises(ConfigError) as error:
        load_config("toy-voice", None, [setting])
    assert named in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("rounds", "named"),
    [
        ("[]", "rounds"),
        ("[{stages: []}]", "stages"),
        ("[{stages: [{num_epochs: 1, sizes_px: [16]}]}]", "32"),
        ("[{rate: 1}]", "stages"),
        ("[{stages: [{num_epochs: 1, size: 64}]}]", "size, allowed: num_epochs, sizes_px"),
    ],
)
def test_wrong_rounds(rounds: str, named: str) -> None:
    """The same for values in lists."""
    with pytest.raises(ConfigError, match=named):
        load_config("toy-face", None, [f"rounds={rounds}"])


@pytest.mark.parametrize("kind", ["neither", "attention "])
def test_kinds_of_fusion(kind: str) -> None:
    """The error names the kinds."""
    with pytest.raises(ConfigError, match=r" kind is '.*', allowed: attention, channel"):
        load_config("fusion-channel", None, [f"kind='{kind}'"])


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a: [", "run.yaml: "),
        ("- 1", "run.yaml: "),
        ("", "run.yaml: task is 'missing', allowed: face, voice, fusion"),
        ("\x00", "run.yaml: "),
        ("preset: nope", "'nope' is unknown, allowed: face-default, fusion-attention,"),
        ("preset: ../presets/toy-face", "'../presets/toy-face'"),
        ("seed: 3", "run.yaml: task is 'missing', allowed: face, voice, fusion"),
        ("preset: toy-face\nseed: !!python/object:os.system {}", "run.yaml: seed is {}"),
        ("#" * ((1 << 20) + 1), "run.yaml: "),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, named: str) -> None:
    """One line names the file."""
    with pytest.raises(ConfigError) as error:
        load_config(file=write(tmp_path, text))
    assert named in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file and a folder."""
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigError, match=f"{path}: "):
            load_config(file=path)


def test_neither_preset_nor_file() -> None:
    """The error lists the presets."""
    with pytest.raises(ConfigError, match=", ".join(list_presets())):
        load_config()


def test_configurations_are_frozen() -> None:
    """Settings cannot be assigned."""
    config: AnyConfig = load_config("toy-face")
    with pytest.raises(AttributeError):
        config.seed = 3  # type: ignore[misc]
