"""Mean and spread of the metrics over folds and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..metrics import summarize
from .fold_scores import NOISE_SNR_DB
from .judging import LABELS, Judgement
from .material import Material
from .opinions import VOICE

PROTOCOLS = {
    "folds": "subject-independent folds over people; temperatures and fusion from the validation"
    " people of each fold; probabilities averaged over each recording; units: action units, mean"
    " over the film",
    "split": "the splits of the data; temperatures from the validation people; probabilities"
    " averaged over each recording",
}


def summarize_divisions(material: Material, judgements: Sequence[Judgement]) -> dict[str, Any]:
    """Return the entry "folds", or "seeds" where the splits were trained with several, of the
    bundle's metrics; nothing for a single training."""
    is_folds = bool(material.corpus.folds)
    chosen = [each.facts for each in (judgements[:-1] if is_folds else judgements)]
    if len(chosen) < 2:
        return {}
    summary: dict[str, Any] = {}
    for label_set in chosen[0]["test"]:
        runs = [facts["test"].get(label_set, {}) for facts in chosen]
        shared = [name for name in runs[0] if all(name in run for run in runs)]
        summary[label_set] = {name: summarize([run[name] for run in runs]) for name in shared}
    if all("noise" in facts for facts in chosen):
        clean = [facts["test"][LABELS][VOICE]["accuracy"] for facts in chosen]
        noisy = [facts["noise"]["accuracy"] for facts in chosen]
        alone = [facts["noise"]["noise_only_confidence"] for facts in chosen]
        summary["noise"] = {
            "snr_db": NOISE_SNR_DB,
            "accuracy_mean": round(float(np.mean(noisy)), 4),
            "points_lost": round(100 * float(np.mean(clean) - np.mean(noisy)), 2),
            "noise_only_confidence": round(float(np.mean(alone)), 4),
        }
    summary["seeds"] = len({facts["seed"] for facts in chosen})
    summary["protocol"] = PROTOCOLS[material.recipe.people.protocol]
    return {"folds" if is_folds else "seeds": summary}
