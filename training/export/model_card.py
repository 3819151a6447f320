"""The model card: what a bundle is, what it may and must not be used for, how good it is.

In: the bundle's manifest. Out: Markdown. Every number comes out of the manifest, mostly out of its
metrics; what they do not hold is not claimed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ...engines.bundles import Manifest, ModelEntry
from ..data import EMOTIONS8
from .card_tables import escape, make_cell, render_metrics, render_table

INTENDED = """\
- Research on how apparent expression can be read from face and voice, and on what goes wrong.
- Art, games and demonstrations whose audience knows that it is watched and may decline.
- A hint for people who asked for it, about themselves, and who decide what it is worth.
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
- It answers what was *meant to be shown* or what *others saw*. Faces and voices are no reliable
  reading of what somebody feels (Barrett et al. 2019).
- Faces turned away, covered, in poor light or smaller than the network's input are read worse, and
  it does not say so by itself.
- Laughter, crying, singing, music, and noise that rises and falls like speech may be taken for a
  voice. With two people talking, the voice may not be that of the face.
- Nothing is claimed about age, sex, skin or culture unless a table above shows it.
"""
LIMITS_OF = {
    "RAVDESS": """\
- RAVDESS is acted: 24 professional actors from North America speak two sentences. Spontaneous
  speech, other languages and other accents are not in it.
""",
    "FER+": """\
- FER+ does not say who is in a picture, so figures on it are not subject-independent: the same
  person may have been learned from. Its pictures are small, grey, mostly frontal and from the web.
- FER+ has few examples of fear and disgust: expect both to be missed, or seen where they are not.
""",
}
PRIVACY = """\
- Everything is computed on the device.
- No picture, sound or embedding is written or sent. A picture is dropped when the next one comes,
  sound after a few seconds, what the fusion network remembers of a face after one second. Sound
  and embeddings are overwritten at the end.
- Nobody is recognised: there are no identities, and nothing is kept from one run to the next.
- What leaves the program is labels and probabilities. With a time and a place they can be data
  about a person.
"""
READING = """\
UAR is the mean recall over the labels, so that rare ones count as much as frequent ones. ECE is how
far confidence is from the share of right answers. A ± is the standard deviation over the runs.
*Calm*, which RAVDESS has, counts as *neutral* where there are seven labels.
"""
TRAIN = """\
Train: `emotion-train default --ferplus DIR --ravdess DIR --out DIR`. Score a bundle through the
code the device runs: `emotion-train evaluate --help`.
"""


def render_model_card(manifest: Manifest) -> str:
    """The card of `manifest`, whose `files` are not looked at: the card will be one of them."""
    return "\n".join(_render(manifest)).rstrip() + "\n"


def _render(manifest: Manifest) -> Iterator[str]:
    provenance = manifest.provenance
    data_sets = [one for one in provenance.get("data_sets") or () if isinstance(one, Mapping)]
    yield from (f"# Model card: {escape(manifest.name)}", "", _warn(data_sets), "")
    yield from _describe(manifest)
    yield from ("## Intended uses", "", INTENDED)
    yield from ("## Forbidden uses", "", FORBIDDEN)
    yield from _describe_data(data_sets)
    yield from _show_metrics(manifest)
    names = [one.get("name") for one in data_sets]
    limits = "".join(text for name, text in LIMITS_OF.items() if name in names)
    yield from ("## Known failures and limits", "", limits + LIMITS)
    yield from ("## Privacy", "", PRIVACY)
    yield from _render_reproduction(provenance)


def _warn(data_sets: list[Mapping[str, Any]]) -> str:
    if not data_sets:
        return (
            "**No commercial use: nothing is known of what it was trained on.** Do not pass it on"
            " either."
        )
    trained = " and ".join(
        f"{escape(str(one.get('name')))} ({escape(str(one.get('licence')))})" for one in data_sets
    )
    return (
        f"**No commercial use. It was trained on {trained}.** Whoever passes it on does so under"
        " the same terms."
    )


def _describe(manifest: Manifest) -> Iterator[str]:
    yield from ("## What it is", "")
    yield (
        "Small neural networks that name the *apparent* emotion: what a face and a voice look and"
        " sound like to others. It does not know what anybody feels."
    )
    yield ""
    sizes = manifest.metrics.get("export")
    rows = []
    for name, network in manifest.networks.items():
        size = sizes.get(name, {}) if isinstance(sizes, Mapping) else {}
        reads, says = _describe_io(manifest, name)
        numbers = (make_cell(size.get("parameters")) or "", make_cell(size.get("bytes")) or "")
        rows.append((name, network.file, reads, says, *numbers))
        variants = network.variants if isinstance(network, ModelEntry) else {}
        for precision, variant in variants.items():
            found = manifest.metrics.get(precision, {}).get(name, {})
            count = make_cell(found.get("bytes")) or ""
            rows.append((f"{name}, {precision}", variant.file, reads, says, numbers[0], count))
    head = ("network", "file", "input", "output", "parameters", "bytes")
    yield from render_table(head, rows)
    yield f"Labels: {', '.join(manifest.labels)}."
    yield f"Below a confidence of {manifest.abstain_below:g} it gives none."
    if manifest.fusion is None and len(manifest.models) > 1:
        weights = ", ".join(
            f"{name} {model.fusion_weight:g}" for name, model in manifest.models.items()
        )
        yield f"The opinions are averaged with fixed weights: {weights}."
    yield ""


def _describe_io(manifest: Manifest, name: str) -> tuple[str, str]:
    """What a network reads and what it says."""
    mel = manifest.mel
    seconds = mel.num_frames * mel.hop / mel.sample_rate_hz
    says = f"embedding, {len(manifest.labels)} logits"
    if name == "face":
        sides = sorted({level.face_px for level in manifest.levels}, reverse=True)
        return f"a face, {' or '.join(f'{side} × {side}' for side in sides)} px", says
    if name == "voice":
        return f"log-mel of {seconds:g} s, {mel.num_mels} × {mel.num_frames}", says
    num_faces = manifest.fusion.num_faces if manifest.fusion else 0
    reads = f"embeddings of {num_faces} faces and of the voice"
    return reads, f"{len(manifest.labels)} logits, the weight of each modality"


def _describe_data(data_sets: list[Mapping[str, Any]]) -> Iterator[str]:
    yield from ("## Training data", "")
    if not data_sets:
        yield from ("Not stated.", "")
        return
    columns = ("name", "licence", "networks", "source")
    rows = [tuple(make_cell(one.get(key)) or "–" for key in columns) for one in data_sets]
    yield from render_table(columns, rows)


def _show_metrics(manifest: Manifest) -> Iterator[str]:
    yield from ("## How good it is", "")
    figures = {name: value for name, value in manifest.metrics.items() if name != "export"}
    if figures:
        yield READING
    else:
        yield from ("Not measured.", "")
    for name, value in figures.items():
        yield from render_metrics(name, value, (manifest.labels, EMOTIONS8), depth=3)
    yield from _show_export(manifest.metrics.get("export"))


def _show_export(export: Any) -> Iterator[str]:
    """How far the files are from the networks that were trained and judged."""
    if not isinstance(export, Mapping) or not export:
        return
    yield from ("### From training to file", "")
    yield (
        "Largest difference of a logit: of the file from torch with the same 16-bit weights, and of"
        " these weights from those that were trained."
    )
    yield ""
    rows = []
    for name, one in export.items():
        differences = [
            make_cell((one.get(key) or {}).get("logits"))
            for key in ("onnx_difference", "rounding_difference")
        ]
        real = one.get("real_inputs")
        compared = f"{real} real inputs" if real else "a made-up input"
        rows.append((escape(str(name)), *(cell or "–" for cell in differences), compared))
    yield from render_table(("network", "file", "16-bit weights", "compared on"), rows)


def _render_reproduction(provenance: Mapping[str, Any]) -> Iterator[str]:
    yield from ("## How to reproduce", "")
    rest = {name: value for name, value in provenance.items() if name != "data_sets"}
    for name, value in rest.items():
        if isinstance(value, Mapping):
            parts = [f"{key} {escape(_format_value(one))}" for key, one in value.items()]
            yield f"- {escape(str(name))}: {', '.join(parts)}"
        else:
            yield f"- {escape(str(name))}: {escape(_format_value(value))}"
    yield from ("", TRAIN)


def _format_value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_format_value(one) for one in value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)
