"""`emotion-train face-detector`: train the network that finds faces."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

MAX_TIMES = 1000


def people_folder(text: str) -> tuple[Path, int]:
    """Convert DIR or DIR=TIMES."""
    folder, separator, times = text.rpartition("=")
    if not separator:
        return Path(text), 1
    if not times.isdigit() or not 1 <= int(times) <= MAX_TIMES:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected DIR or DIR=TIMES, TIMES from 1 to {MAX_TIMES}"
        )
    return Path(folder), int(times)


def add_parser(commands: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "face-detector",
        help="train the network that finds faces",
        description="Let YuNet mark the faces of FER+'s split train and of videos and pictures of"
        " one person each, paste them into pictures without faces, train on that, and write the"
        " ONNX file. A repeated start resumes.",
    )
    parser.add_argument("--teacher", metavar="FILE", type=Path, required=True, help="YuNet")
    parser.add_argument("--ferplus", metavar="DIR", type=Path, required=True)
    parser.add_argument(
        "--people",
        metavar="DIR[=TIMES]",
        type=people_folder,
        action="append",
        default=[],
        help="videos and pictures with one person each, counted TIMES times; may be repeated",
    )
    parser.add_argument(
        "--pictures", metavar="DIR", type=Path, required=True, help="pictures without faces"
    )
    parser.add_argument(
        "--choose",
        metavar="DIR",
        type=Path,
        required=True,
        help="further pictures without faces, to choose the least score of a face",
    )
    parser.add_argument("--work", metavar="DIR", type=Path, default=Path("build/face_detector"))
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="ONNX file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--epochs",
        metavar="N,N",
        type=lambda text: tuple(int(part) for part in text.split(",")),
        help="epochs of the two rounds (default: the recipe's)",
    )
    return parser


def run(args: argparse.Namespace) -> None:
    import json
    from dataclasses import replace
    from itertools import chain

    import msgspec

    from ...engines.detection_network import DetectionNetwork, describe_detection_network
    from ..augment import FaceSceneMaterial
    from ..data import (
        FacePicture,
        FeatureCache,
        Teacher,
        load_people,
        load_pictures,
        load_tight_faces,
    )
    from ..evaluation.detection import LEAST_MIN_SCORE, choose_min_score, count_false
    from ..export import export_detector
    from ..recipes import DetectorRecipe, train_detector

    recipe = DetectorRecipe(seed=args.seed)
    if args.epochs is not None:
        rounds = zip(recipe.rounds, args.epochs, strict=False)
        recipe = replace(recipe, rounds=tuple(replace(r, num_epochs=count) for r, count in rounds))
    teacher = Teacher(args.teacher)
    people: list[FacePicture] = []
    for folder, times in args.people:
        people += list(chain.from_iterable(load_people(folder, teacher).values())) * times
    faces = load_tight_faces(args.ferplus, "train", teacher, FeatureCache(args.work))
    material = FaceSceneMaterial(faces, people, load_pictures(args.pictures))
    model = train_detector(material, args.work, recipe)
    export_detector(model, args.out)
    false = count_false(DetectionNetwork(args.out, LEAST_MIN_SCORE), load_pictures(args.choose))
    min_score = choose_min_score(false["scores"], false["n"])
    entry = describe_detection_network(args.out, min_score)
    print(f"{args.out}: {args.out.stat().st_size} bytes, for bundle.json:")
    print(json.dumps({"face_detector": msgspec.to_builtins(entry)}))
