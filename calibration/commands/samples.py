"""`emotion-calibrate samples`: the calibration samples, from the lists and the data sets."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...engines.bundles import DEFAULT_BUNDLE, load_bundle
from ..errors import CalibrationError

if TYPE_CHECKING:
    from ..samples import Samples


def add_parser(commands: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "samples",
        help="render the calibration samples into one file",
        usage="%(prog)s [options] FERPLUS RAVDESS FILE.npz | --recipe RECIPE.yaml FILE.npz",
        description="Choose samples of a recipe's training people, or find the ids of the lists in"
        " FER+ train and RAVDESS; corrupt them, and write the networks' input as arrays. Reading"
        " the file needs neither the data sets nor torch.",
    )
    parser.add_argument(
        "paths",
        metavar="PATH",
        nargs="+",
        type=Path,
        help="folder of FER+ and folder of RAVDESS, unless --recipe is given; the file to write",
    )
    parser.add_argument(
        "--recipe", metavar="FILE", type=Path, help="recipe whose data, noise and inputs apply"
    )
    parser.add_argument(
        "--noise", metavar="DIR", type=Path, help="noise recordings (default: white and pink noise)"
    )
    parser.add_argument(
        "--bundle",
        metavar="DIR",
        type=Path,
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
    parser.add_argument(
        "--cache",
        metavar="DIR",
        type=Path,
        help="cache of decoded data sets (default: that of the recipe, if any)",
    )
    return parser


def run(args: argparse.Namespace) -> int:
    from ..samples import save_samples

    wanted = 1 if args.recipe is not None else 3
    if len(args.paths) != wanted:
        raise CalibrationError(
            f"{len(args.paths)} paths, expected: "
            + ("FILE.npz with --recipe" if wanted == 1 else "FERPLUS RAVDESS FILE.npz")
        )
    for option in ("noise", "bundle", "lists", "choose"):
        if args.recipe is not None and getattr(args, option) is not None:
            raise CalibrationError(f"--{option}: not with --recipe")
    out = args.paths[-1]
    samples = _render_lists(args) if args.recipe is None else _render_recipe(args)
    save_samples(out, samples)
    for name, of_network in samples.items():
        print(f"{name}: {len(of_network.ids)} samples, sha256 {of_network.sha256[:16]}")
    print(f"{out}: {out.stat().st_size} bytes")
    return 0


def _render_recipe(args: argparse.Namespace) -> dict[str, Samples]:
    from ...training.data import FeatureCache, load_corpus, load_noises
    from ...training.recipe_file import load_recipe
    from ..corpus_samples import make_samples
    from ..render import InputSpecs

    recipe = load_recipe(args.recipe)
    corpus = load_corpus(recipe, FeatureCache(args.cache or recipe.cache))
    rate_hz = recipe.mel.sample_rate_hz
    noises = load_noises(Path(recipe.noise), True, rate_hz) if recipe.noise else []
    specs = InputSpecs(recipe.image, recipe.mel, recipe.levels[0].face_px)
    return make_samples(corpus.faces, corpus.voices, noises, specs)


def _render_lists(args: argparse.Namespace) -> dict[str, Samples]:
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
    from ..render import read_specs, render_faces, render_voices
    from ..sample_lists import (
        LISTS,
        index_faces,
        index_voices,
        read_list,
        select_faces,
        select_voices,
        write_list,
    )

    ferplus, ravdess = args.paths[:2]
    manifest = load_bundle(args.bundle or DEFAULT_BUNDLE).manifest
    cache = FeatureCache(args.cache) if args.cache else None
    actors = [actor for fold in TEST_FOLDS for actor in fold]
    faces = load_ferplus(ferplus, "train", cache)
    voices = load_voices(find_voice_clips(ravdess, actors), manifest.mel, cache)
    rate_hz = manifest.mel.sample_rate_hz
    noises = load_noises(args.noise, True, rate_hz) if args.noise else []
    lists = args.lists or LISTS
    if args.choose is not None:
        lists.mkdir(parents=True, exist_ok=True)
        write_list(lists / "face.txt", select_faces(faces, args.choose))
        write_list(lists / "voice.txt", select_voices(voices, args.choose))
    specs = read_specs(manifest)
    of_face, of_voice = (read_list(lists / f"{name}.txt") for name in ("face", "voice"))
    return {
        "face": render_faces(of_face, index_faces(faces), specs),
        "voice": render_voices(of_voice, index_voices(voices), noises, specs),
    }
