"""The model card: purpose, intended and forbidden uses, and quality of a bundle.

In: the bundle's manifest. Out: Markdown. Every number is from the manifest, most from its metrics.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ...engines.bundles import SHARED_NETWORKS, Manifest, ModelEntry
from ...kernels.spec import MelSpec, Pcen, Root
from ..data import EMOTIONS8
from .card_tables import escape, make_cell, render_metrics, render_table
from .provenance import NOT_CALIBRATED, PEOPLE, ROLES, SALT, count_people

RESTRICTIONS = ("no commercial", "research use only", "by-nc")
"""In licences that forbid commercial use."""
UNSTATED = ("not stated", "unknown")
"""Begin of the licence of data whose terms nobody has stated."""

INTENDED = """\
- Research on the recognition of apparent expression from face and voice, and on its failures.
- Art, games and demonstrations whose audience is informed and may decline.
- Feedback to people who asked for it, about themselves, who judge its value.
"""
FORBIDDEN = """\
- **Inferring emotions of people at work or in education**: prohibited in the European Union by the
  AI Act, Art. 5(1)(f), save for medical or safety reasons.
- Choosing people: hiring, promotion, admission, credit, insurance, housing, benefits.
- Police, border and court: suspicion, credibility, lie detection, risk scores.
- Medical or psychological diagnosis, and any decision about care.
- Covert use. Where use is lawful, the European Union obliges whoever deploys it to inform people at
  or before the first exposure (Art. 50(3)), high-risk rules may apply (Annex III 1(c)), and so
  does the GDPR.
- Profiles of a person, identification, advertising aimed at a mood, children.

This is not legal advice.
"""
LIMITS = """\
- It predicts what was *meant to be shown* or what *others saw*. Faces and voices are no reliable
  evidence of what a person feels (Barrett et al. 2019).
- Accuracy is lower for faces that are turned away, covered, in low light or smaller than the
  network's input, and the output does not indicate it.
- Singing, sneezes, single barks and noise with the rhythm of speech may be detected as a voice.
  With two people talking, the voice may not be that of the main face.
- Nothing is known about age, sex, skin or culture unless a table above shows it.
"""
LIMITS_OF = {
    "RAVDESS": """\
- RAVDESS is acted: 24 professional actors from North America speak two sentences. Spontaneous
  speech, other languages and other accents are not in it.
""",
    "FER+": """\
- FER+ does not identify the person in an image, so metrics on it are not subject-independent: the
  same person may be in the training data. Its images are small, grey, mostly frontal and from the
  web.
- FER+ has few examples of fear and disgust: expect many errors on both.
""",
}
PRIVACY = """\
- Everything is computed on the device.
- No image, audio or embedding is written or sent. An image is dropped when the next one arrives,
  audio after a few seconds, face embeddings after one second. Audio and embeddings are overwritten
  at the end.
- Nobody is identified, and nothing is stored from one run to the next.
- The output is labels and probabilities. With a time and a place they can be personal data.
"""
READING = """\
UAR is the mean recall over the labels, so that rare labels count as much as frequent ones. ECE is
the difference between confidence and accuracy. A ± is the standard deviation over the runs.
"""
CALM = """\
*Calm* of RAVDESS counts as *neutral* where there is no such label.
"""
NO_METRICS = """\
No metrics are recorded in this bundle. `emotion-train evaluate` scores it.
"""
TRAINED_BY = {
    "emotion-train all": "Train: `emotion-train all RECIPE.yaml`, on the same data and with the"
    " settings above.",
    "emotion-train export": "The networks were trained one by one; what is known of that stands"
    " above. `emotion-train all` makes a bundle that says everything.",
}
"""By the entry "recipe" of the provenance."""
UNKNOWN_TRAINING = "How it was trained is known as far as it stands above."
SCORE = """\
Score a bundle with the code that runs on the device: `emotion-train evaluate --help`.
"""
SHOWN_ELSEWHERE = ("data_sets", PEOPLE, SALT, NOT_CALIBRATED, "abstain_below")
"""Entries of the provenance that have a place of their own in the card."""


def render_model_card(manifest: Manifest) -> str:
    """Return the card of `manifest`, whose `files` are ignored: the card will be one of them."""
    return "\n".join(_render(manifest)).rstrip() + "\n"


def _render(manifest: Manifest) -> Iterator[str]:
    provenance = manifest.provenance
    data_sets = [row for row in provenance.get("data_sets") or () if isinstance(row, Mapping)]
    yield from (f"# Model card: {escape(manifest.name)}", "", _state_licences(data_sets), "")
    yield from _describe_networks(manifest)
    yield from ("## Intended uses", "", INTENDED)
    yield from ("## Forbidden uses", "", FORBIDDEN)
    names = [
        row.get("name")
        for row in data_sets
        if not set(manifest.networks).isdisjoint(row.get("networks") or ())
    ]
    yield from _describe_data(data_sets)
    yield from _describe_people(manifest)
    yield from _render_all_metrics(manifest, READING + (CALM if "RAVDESS" in names else ""))
    limits = "".join(text for name, text in LIMITS_OF.items() if name in names)
    yield from ("## Known failures and limits", "", limits + LIMITS)
    yield from ("## Privacy", "", PRIVACY)
    yield from _render_reproduction(provenance)


def _state_licences(data_sets: list[Mapping[str, Any]]) -> str:
    if not data_sets:
        return "**No commercial use: the training data is unknown.** Do not redistribute it either."
    trained = " and ".join(
        f"{escape(str(row.get('name')))} ({escape(str(row.get('licence')))})" for row in data_sets
    )
    licences = [str(row.get("licence")).lower() for row in data_sets]
    is_restricted = any(word in licence for licence in licences for word in RESTRICTIONS)
    is_unstated = any(licence.startswith(UNSTATED) for licence in licences)
    terms = "No commercial use." if is_restricted else "No licence of its own."
    after = "Redistribution is under the same terms."
    if is_unstated:
        after = "Nobody has stated all of its terms: do not pass it on without asking for them."
    return f"**{terms} It was trained on {trained}.** {after}"


def _describe_networks(manifest: Manifest) -> Iterator[str]:
    yield from ("## What it is", "")
    yield (
        "Small neural networks that predict the *apparent* emotion: how a face and a voice appear"
        " to others. It does not know what anybody feels."
    )
    yield ""
    sizes = manifest.metrics.get("export")
    rows = []
    for name, network in manifest.networks.items():
        size = sizes.get(name, {}) if isinstance(sizes, Mapping) else {}
        inputs, outputs = _describe_io(manifest, name)
        parameters = make_cell(size.get("parameters")) or ""
        num_bytes = make_cell(size.get("bytes")) or ""
        rows.append((name, network.file, inputs, outputs, parameters, num_bytes))
        variants = network.variants if isinstance(network, ModelEntry) else {}
        for precision, variant in variants.items():
            num_bytes = (
                make_cell(manifest.metrics.get(precision, {}).get(name, {}).get("bytes")) or ""
            )
            title = f"{name}, {precision}"
            rows.append((title, variant.file, inputs, outputs, parameters, num_bytes))
    for name in SHARED_NETWORKS:
        entry = getattr(manifest, name)
        if entry is not None:
            size = sizes.get(name, {}) if isinstance(sizes, Mapping) else {}
            cells = [make_cell(size.get(key)) or "" for key in ("parameters", "bytes")]
            title = name.replace("_", " ")
            rows.append((title, entry.file, *_describe_shared(manifest, name), *cells))
    head = ("network", "file", "input", "output", "parameters", "bytes")
    yield from render_table(head, rows)
    yield f"Labels: {', '.join(map(escape, manifest.labels))}."
    rule = manifest.provenance.get("abstain_below")
    reason = f" ({escape(rule)})" if isinstance(rule, str) else ""
    yield f"Below a confidence of {manifest.abstain_below:g} there is no label{reason}."
    yield from _describe_calibration(manifest)
    if manifest.fusion is None and len(manifest.models) > 1:
        weights = ", ".join(
            f"{name} {model.fusion_weight:g}" for name, model in manifest.models.items()
        )
        yield f"Class probabilities are averaged with fixed weights: {weights}."
    yield ""


def _describe_calibration(manifest: Manifest) -> Iterator[str]:
    """Yield the temperatures, and the networks whose confidence nobody has compared with their
    accuracy."""
    raw = manifest.provenance.get(NOT_CALIBRATED)
    missing = [name for name in manifest.networks if isinstance(raw, list) and name in raw]
    temperatures = [
        f"{name} {network.temperature:.3g}"
        for name, network in manifest.networks.items()
        if name not in missing
    ]
    if temperatures:
        yield f"Confidence is calibrated by a temperature: {', '.join(temperatures)}."
    if missing:
        yield (
            f"**Not calibrated: {', '.join(missing)}.** Confidence does not say how often an answer"
            " is right."
        )


def _describe_io(manifest: Manifest, name: str) -> tuple[str, str]:
    """Return descriptions of the input and the output of a network."""
    mel = manifest.mel
    seconds = mel.num_frames * mel.hop / mel.sample_rate_hz
    outputs = f"embedding, {len(manifest.labels)} logits"
    if name == "face":
        sides = sorted({level.face_px for level in manifest.levels}, reverse=True)
        return f"a face, {' or '.join(f'{side} × {side}' for side in sides)} px", outputs
    if name == "voice":
        return f"{_name_mel(mel)} of {seconds:g} s, {mel.num_mels} × {mel.num_frames}", outputs
    num_faces = manifest.fusion.num_faces if manifest.fusion else 0
    inputs = f"embeddings of {num_faces} faces and of the voice"
    return inputs, f"{len(manifest.labels)} logits, the weight of each modality"


def _name_mel(mel: MelSpec) -> str:
    if isinstance(mel.compression, Pcen):
        return "mel with per-channel energy normalisation (PCEN)"
    if isinstance(mel.compression, Root):
        return f"mel to the power of {mel.compression.exponent:.3g}"
    return "log-mel"


def _describe_shared(manifest: Manifest, name: str) -> tuple[str, str]:
    """Return descriptions of the input and the output of a network that says where a face or when
    a voice is."""
    if manifest.voice_activity is not None and name == "voice_activity":
        size = f"{manifest.mel.num_mels} × {manifest.voice_activity.columns}"
        return f"the newest log-mel, {size}", "probability of speech"
    return "brightness of the frame, reduced", "squares and landmarks of faces, scores"


def _describe_data(data_sets: list[Mapping[str, Any]]) -> Iterator[str]:
    yield from ("## Training data", "")
    if not data_sets:
        yield from ("Not stated.", "")
        return
    columns = ("name", "licence", "networks", "source")
    rows = [tuple(make_cell(row.get(key)) or "–" for key in columns) for row in data_sets]
    yield from render_table(columns, rows)


def _describe_people(manifest: Manifest) -> Iterator[str]:
    """Yield how many people each network has seen, where the provenance names them."""
    counts = {name: count_people(manifest.provenance, name) for name in manifest.networks}
    rows = [
        (name, *(make_cell(own.get(role)) or "" for role in ROLES))
        for name, own in counts.items()
        if own
    ]
    if rows:
        yield "People, as far as they are known by name:"
        yield ""
        yield from render_table(("network", *ROLES[:-1], "INT8 calibration"), rows)


def _render_all_metrics(manifest: Manifest, reading: str) -> Iterator[str]:
    yield from ("## How good it is", "")
    metrics = {name: value for name, value in manifest.metrics.items() if name != "export"}
    if metrics:
        yield reading
    else:
        yield NO_METRICS
    for name, value in metrics.items():
        yield from render_metrics(name, value, (manifest.labels, EMOTIONS8), depth=3)
    yield from _render_export(manifest.metrics.get("export"))


def _render_export(export: Any) -> Iterator[str]:
    """Yield how far the files are from the trained networks."""
    if not isinstance(export, Mapping) or not export:
        return
    yield from ("### From training to file", "")
    yield (
        "Largest difference of a logit: between the file and torch with the same FP16 weights, and"
        " between FP16 and trained weights."
    )
    yield ""
    rows = []
    for name, result in export.items():
        if name in SHARED_NETWORKS:  # they have no logits
            continue
        differences = [
            make_cell((result.get(key) or {}).get("logits"))
            for key in ("onnx_difference", "rounding_difference")
        ]
        real = result.get("real_inputs")
        compared = f"{real} real inputs" if real else "a synthetic input"
        rows.append((escape(str(name)), *(cell or "–" for cell in differences), compared))
    yield from render_table(("network", "file", "FP16 weights", "compared on"), rows)


def _render_reproduction(provenance: Mapping[str, Any]) -> Iterator[str]:
    yield from ("## How to reproduce", "")
    rest = {name: value for name, value in provenance.items() if name not in SHOWN_ELSEWHERE}
    for name, value in rest.items():
        if isinstance(value, Mapping):
            parts = [f"{key} {escape(_format_value(item))}" for key, item in value.items()]
            yield f"- {escape(str(name))}: {', '.join(parts)}"
        else:
            yield f"- {escape(str(name))}: {escape(_format_value(value))}"
    yield from ("", TRAINED_BY.get(str(provenance.get("recipe")), UNKNOWN_TRAINING), SCORE)


def _format_value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_format_value(item) for item in value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)
