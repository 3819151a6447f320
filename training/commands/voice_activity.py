"""`emotion-train voice-activity`: train the network that tells speech from other sounds."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

NUM_REAL = 64
"""Scenes for the comparison of the exported file with torch."""


def add_parser(commands: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "voice-activity",
        help="train the network that tells speech from other sounds",
        description="Mix speech (RAVDESS, espeak-ng in many languages, further folders) with sounds"
        " (ESC's folds 1 to 3, synthetic ones, further folders), mark the speech with Silero's"
        " detector, train on it, write the ONNX file, and print its entry for bundle.json. A"
        " repeated start resumes. Actors 2, 5, 14, 15, 16 of RAVDESS and ESC's other folds are kept"
        " apart for `evaluate"
        " --dataset voice_activity`.",
    )
    parser.add_argument(
        "--teacher", metavar="FILE", type=Path, required=True, help="silero_vad.onnx"
    )
    parser.add_argument("--ravdess", metavar="DIR", type=Path, required=True)
    parser.add_argument(
        "--noise", metavar="DIR", type=Path, required=True, help="sounds in the layout of ESC"
    )
    parser.add_argument(
        "--speech",
        metavar="DIR",
        type=Path,
        action="append",
        default=[],
        help="further recordings of speech; may be repeated",
    )
    parser.add_argument(
        "--sounds",
        metavar="DIR",
        type=Path,
        action="append",
        default=[],
        help="further sounds without speech: music, effects; may be repeated",
    )
    parser.add_argument("--work", metavar="DIR", type=Path, default=Path("build/voice_activity"))
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="ONNX file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, help="passes over the scenes (default: the recipe's)")
    return parser


def run(args: argparse.Namespace) -> None:
    from dataclasses import replace

    import msgspec

    from ...kernels.spec import MelSpec
    from ..export.voice_activity import describe_entry, export_voice_activity
    from ..recipes.voice_activity import VoiceActivityRecipe, train_voice_activity
    from ..recipes.voice_activity_data import VoiceActivitySources, prepare_scenes

    recipe = VoiceActivityRecipe(seed=args.seed)
    if args.epochs is not None:
        recipe = replace(recipe, num_epochs=args.epochs)
    sources = VoiceActivitySources(args.teacher, args.ravdess, args.noise, args.speech, args.sounds)
    spec = MelSpec()
    scenes, validation = prepare_scenes(sources, recipe, spec, args.work)
    model = train_voice_activity(scenes, recipe, args.work / "network.ckpt", validation)
    exported = export_voice_activity(model, validation.columns[:NUM_REAL], args.out)
    print(f"{args.out}: {exported.describe()}")
    entry = msgspec.json.encode(describe_entry(args.out, spec)).decode()
    print(f'for bundle.json: "voice_activity": {entry}')
