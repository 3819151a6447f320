"""Builds the package `emotion_edge` from the folders at the root of the checkout.

All other metadata is in pyproject.toml.
"""

from setuptools import setup

PACKAGES = (
    "kernels",
    "kernels.cpu",
    "kernels.cuda",
    "engines",
    "engines.bundles",
    "engines.tensorrt",
    "calibration",
    "calibration.commands",
    "training",
    "training.augment",
    "training.commands",
    "training.data",
    "training.evaluation",
    "training.export",
    "training.loop",
    "training.models",
    "training.recipes",
    "training.search",
    "training.steps",
    "training.toy",
    "runtime",
    "runtime.bench",
    "runtime.board",
    "runtime.capture",
    "runtime.cli",
    "runtime.doctor",
    "runtime.perception",
    "runtime.quality",
    "runtime.service",
    "runtime.sinks",
    "runtime.sinks.mqtt",
    "runtime.sinks.screen",
    "runtime.telemetry",
    "runtime.web",
)

setup(
    # The folders at the root are imported as emotion_edge.<folder>. As top-level packages they
    # would collide with others: the package index already has a `kernels`.
    package_dir={"emotion_edge": "."},
    packages=["emotion_edge", *(f"emotion_edge.{name}" for name in PACKAGES)],
    include_package_data=False,  # everything in the checkout is below the root package
    package_data={
        "emotion_edge": ["py.typed"],
        **{f"emotion_edge.{name}": ["py.typed"] for name in PACKAGES if "." not in name},
        "emotion_edge.engines": ["py.typed", "default/*"],
        "emotion_edge.calibration": ["py.typed", "lists/*"],
        "emotion_edge.training": ["py.typed", "presets/*"],
        "emotion_edge.training.evaluation": ["report.html"],
        "emotion_edge.training.steps": ["report.html", "default_recipe.yaml"],
        "emotion_edge.runtime": ["py.typed", "report.css"],
        "emotion_edge.runtime.bench": ["report.html"],
        "emotion_edge.runtime.cli": ["clips.html"],
        "emotion_edge.runtime.web": ["page.html", "page.css", "page.js"],
    },
)
