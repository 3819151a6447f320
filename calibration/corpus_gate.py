"""INT8 of a recipe's bundle: samples of the training people, and the accuracy gate on others.

In: an FP32 bundle and the corpus that it was trained on. Out: the bundle with INT8 beside FP32, if
INT8 may ship.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..engines.bundles import Bundle
from ..training.data import Corpus
from ..training.evaluation import ExampleSet, list_face_examples, list_voice_examples
from ..training.export import check_replaceable
from .accuracy_gate import GateResult, count_bytes, run_gate
from .corpus_samples import make_samples
from .errors import CalibrationError
from .options import CalibrationOptions, Limits
from .quantized_bundle import list_quantizable, quantize_bundle
from .render import Audio, read_specs
from .samples import Samples
from .variants import record_precisions

VALID, TRAIN = "valid", "train"
MAX_TRAINING_EXAMPLES = 1_000
"""The gate compares on so many training examples where there are no others."""


@dataclass(frozen=True, slots=True)
class CorpusResult:
    """The outcome for a recipe's bundle."""

    samples: Mapping[str, Samples]
    gate: GateResult
    sizes: dict[str, int]
    """Bytes of all networks by precision."""
    bundle: Bundle | None
    """The bundle with INT8; None when the gate refuses it."""


def quantize_for_corpus(
    bundle: Bundle,
    corpus: Corpus,
    noises: Sequence[Audio],
    folder: Path,
    options: CalibrationOptions,
    limits: Limits | None = None,
    report: Callable[[str], None] = print,
) -> CorpusResult:
    """Quantize the networks of `bundle` on samples of the corpus, compare them with FP32, and write
    `folder` (which may be the bundle's own) with both, unless the gate refuses INT8.

    `noises` are the noise recordings of the training split. Raises CalibrationError, DatasetError,
    ExportError, BundleError or EngineError; `folder` is then unchanged.
    """
    folder = folder.resolve()
    check_replaceable(folder)
    labels = tuple(bundle.manifest.labels)
    if labels != tuple(corpus.labels):
        raise CalibrationError(
            f"{bundle.path}: its labels are {', '.join(labels)}, those of the data are"
            f" {', '.join(corpus.labels)}"
        )
    names = list_quantizable(bundle)
    samples = make_samples(
        corpus.faces if "face" in names else None,
        corpus.voices if "voice" in names else None,
        noises,
        read_specs(bundle.manifest),
    )
    example_sets = list_gate_examples(bundle, corpus)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as work:
        draft = quantize_bundle(bundle, samples, Path(work) / folder.name, options, report)
        gate = run_gate(draft, example_sets, limits or Limits())
        sizes = {name: count_bytes(draft, name) for name in ("fp32", "int8")}
        if gate.violations:
            return CorpusResult(samples, gate, sizes, None)
        protocol = "; ".join(examples.protocol for examples in example_sets)
        written = record_precisions(draft, gate.rows, protocol, gate.notes, folder)
    return CorpusResult(samples, gate, sizes, written)


def list_gate_examples(bundle: Bundle, corpus: Corpus) -> list[ExampleSet]:
    """Return the examples that INT8 is compared on, for each network that is quantized: those for
    validation. Where there are none, because the network that ships is trained on the people of
    all folds, those for training: they show whether INT8 decides as FP32 does, and no accuracy.

    Raises CalibrationError when a network has neither.
    """
    example_sets = []
    for name in list_quantizable(bundle):
        found = None
        for split in (VALID, TRAIN):
            if name == "face" and corpus.faces is not None:
                found = list_face_examples(corpus.faces, split)
            elif name == "voice" and corpus.voices is not None:
                found = list_voice_examples(corpus.voices, split)
            if found is not None and found.examples:
                example_sets.append(_thin_out(found) if split == TRAIN else found)
                break
        else:
            raise CalibrationError(f"{bundle.path}: the data has no example for its {name} network")
    return example_sets


def _thin_out(found: ExampleSet) -> ExampleSet:
    step = -(-len(found.examples) // MAX_TRAINING_EXAMPLES)
    return replace(found, examples=found.examples[::step])
