"""`emotion-calibrate samples`: the calibration set, from the lists and the data sets."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ...engines.bundles import DEFAULT_BUNDLE, load_bundle


def add_parser(commands: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "samples",
        help="collect the calibration set into one file",
        description="Looks the ids of the committed lists up in FER+ train and RAVDESS, spoils"
        " each as its line says, and writes what the networks would be shown: plain arrays, which"
        " need neither the data sets nor torch to be read.",
    )
    parser.add_argument("ferplus", metavar="FERPLUS", type=Path)
    parser.add_argument("ravdess", metavar="RAVDESS", type=Path)
    parser.add_argument("out", metavar="FILE.npz", type=Path)
    parser.add_argument("--noise", metavar="DIR", type=Path, help="sounds (white and pink noise)")
    parser.add_argument("--bundle", metavar="DIR", type=Path, default=DEFAULT_BUNDLE)
    parser.add_argument("--lists", metavar="DIR", type=Path, help="face.txt and voice.txt")
    parser.add_argument(
        "--choose",
        metavar="SEED",
        type=int,
        help="draw the lists anew and write them, before they are followed",
    )
    parser.add_argument("--cache", metavar="DIR", type=Path, help="of decoded data sets")
    return parser


def run(args: argparse.Namespace) -> int:
    from ...training.data.cache import FeatureCache
    from ...training.data.ferplus import load_ferplus
    from ...training.data.noise import load_noises
    from ...training.data.ravdess import TEST_FOLDS, find_voice_clips
    from ...training.data.voices import load_voices
    from ..render import render_faces, render_voices
    from ..sample_lists import LISTS, read_list, select_faces, select_voices, write_list
    from ..samples import save_samples

    manifest = load_bundle(args.bundle).manifest
    cache = FeatureCache(args.cache) if args.cache else None
    actors = [actor for fold in TEST_FOLDS for actor in fold]
    faces = load_ferplus(args.ferplus, "train", cache)
    voices = load_voices(find_voice_clips(args.ravdess, actors), manifest.mel, cache)
    rate_hz = manifest.mel.sample_rate_hz
    noises = load_noises(args.noise, True, rate_hz) if args.noise else []
    lists = args.lists or LISTS
    if args.choose is not None:
        lists.mkdir(parents=True, exist_ok=True)
        write_list(lists / "face.txt", select_faces(faces, args.choose))
        write_list(lists / "voice.txt", select_voices(voices, args.choose))
    samples = {
        "face": render_faces(read_list(lists / "face.txt"), faces, manifest),
        "voice": render_voices(read_list(lists / "voice.txt"), voices, noises, manifest),
    }
    save_samples(args.out, samples)
    for name, one in samples.items():
        print(f"{name}: {len(one.ids)} samples, sha256 {one.sha256[:16]}")
    print(f"{args.out}: {args.out.stat().st_size} bytes")
    return 0
