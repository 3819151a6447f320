"""Search spaces of the networks, and the training of a trial; `study` runs the search.

In: a configuration to search around. Out: the best one so far.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from tempfile import TemporaryDirectory

import msgspec

from ...engines.config_file import ConfigError
from ..config import AnyConfig, FusionConfig, VoiceConfig, change_config, dump_config
from ..errors import TrainingError
from ..launch import prepare_data, train_network
from ..loop import read_process_group
from .study import BestTrial, Range, Report, search

REFERENCE_SPACE = (
    Range("learning.peak_lr", 1e-5, 1e-3, log=True),
    Range("learning.weight_decay", 1e-6, 1e-3, log=True),
    Range("network.dropout", 0.1, 0.5),
)
"""Search space of the reference system."""
SPACE = (
    Range("learning.peak_lr", 2e-4, 2e-2, log=True),
    Range("learning.weight_decay", 1e-4, 0.3, log=True),
    Range("learning.label_smoothing", 0.0, 0.2),
    Range("network.dropout", 0.0, 0.6),
)


def choose_space(config: AnyConfig) -> tuple[Range, ...]:
    """Return the search space. Raises ConfigError for fusion, which has no validation data."""
    if isinstance(config, FusionConfig):
        raise ConfigError("task is 'fusion', allowed: face, voice")
    return REFERENCE_SPACE if config.preset == "reference" else SPACE


def tune_network(
    config: AnyConfig, num_trials: int, url: str, name: str
) -> tuple[BestTrial, AnyConfig]:
    """Search around `config` -> the best trial, and its configuration.

    The first trial is `config` itself. Trials are scored on the validation actors of a fold (the
    first unless `config` has one) or on held-out faces, never on test actors.
    """
    if isinstance(config, VoiceConfig) and config.fold is None:
        config = msgspec.structs.replace(config, fold=0)
    if read_process_group().size > 1:
        raise TrainingError(
            "tune runs one process per trial: start it several times, without torchrun"
        )
    space = choose_space(config)
    tree = msgspec.to_builtins(config)
    start = {}
    for r in space:
        section, key = r.key.split(".")
        start[r.key] = min(max(tree[section][key], r.low), r.high)
    data = prepare_data(config)

    def objective(values: Mapping[str, float], report: Report) -> float:
        # A folder of its own, so that no trial resumes the checkpoint of another.
        with TemporaryDirectory(prefix="emotion-trial-") as folder:
            changed = msgspec.structs.replace(change_config(config, dict(values)), out=folder)
            score = train_network(changed, data, on_epoch=report).score
        if score is None:
            raise TrainingError("trials cannot be scored: the validation set is empty")
        return score

    # Machines may have the data in different folders.
    same = msgspec.structs.replace(config, root="", out="", cache="")
    settings_hash = hashlib.sha256(f"{dump_config(same)}{space}".encode()).hexdigest()[:12]
    purpose = f"settings {settings_hash} ({config.preset or name})"
    best = search(objective, space, start, num_trials, url, name, purpose, config.seed)
    return best, change_config(config, dict(best.values))
