"""`emotion-calibrate samples`: the calibration samples, from the lists and the data sets."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ...engines.bundles import DEFAULT_BUNDLE, load_bundle
from ..errors import CalibrationError


def add_parser(commands: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "samples",
        help="render the calibration samples into one file",
        description="Find the ids of the lists in FER+ train and RAVDESS, apply the corruption of"
        " each line, and write the networks' input as arrays. Reading the file needs neither the"
        " data sets nor torch.",
    )
    parser.add_argument("ferplus", metavar="FERPLUS", type=Path, help="folder of FER+")
    parser.add_argument("ravdess", metavar="RAVDESS", type=Path, help="folder of RAVDESS")
    parser.add_argument("out", metavar="FILE.npz", type=Path, help="file to write")
    parser.add_argument(
        "--noise", metavar="DIR", type=Path, help="noise recordings (default: white and pink noise)"
    )
    parser.add_argument(
        "--bundle",
        metavar="DIR",
        type=Path,
        default=DEFAULT_BUNDLE,
        help="bundle whose input specs apply (default: the one that ships)",
    )
    parser.add_argument(
        "--lists",
        metavar="DIR",
        type=Path,
        help="folder of face.txt and voice.txt (default: the lists that ship)",
    )
    parser.add_argument(
        "--choose",
        metavar="SEED",
        type=int,
        help="first select new samples with this seed and write them to --lists",
    )
    parser.add_argument("--cache", metavar="DIR", type=Path, help="cache of decoded data sets")
    return parser


def run(args: argparse.Namespace) -> int:
    if args.choose is not None and args.lists is None:
        raise CalibrationError(
            f"--choose {args.choose}: give --lists DIR, the folder to write face.txt and"
            " voice.txt to"
        )

    from ...training.data import (
        TEST_FOLDS,
        FeatureCache,
        find_voice_clips,
        load_ferplus,
        load_noises,
        load_voices,
    )
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
    for name, of_network in samples.items():
        print(f"{name}: {len(of_network.ids)} samples, sha256 {of_network.sha256[:16]}")
    print(f"{args.out}: {args.out.stat().st_size} bytes")
    return 0
