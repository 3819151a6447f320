"""Builds the package `emotion_edge` out of the folders at the root of the checkout.

Everything else about the project stands in pyproject.toml.
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
    "runtime.sinks.screen",
    "runtime.telemetry",
)

setup(
    # The folders sit at the root, the way the design draws them, and are imported as
    # emotion_edge.<folder>. Shipped as plain top-level packages they would collide with others:
    # there is already a `kernels` on the package index.
    package_dir={"emotion_edge": "."},
    # The root itself is not listed, so its __init__.py (there for type checkers) is not shipped.
    packages=[f"emotion_edge.{name}" for name in PACKAGES],
    package_data={
        **{f"emotion_edge.{name}": ["py.typed"] for name in PACKAGES if "." not in name},
        "emotion_edge.engines": ["py.typed", "default/*"],
        "emotion_edge.calibration": ["py.typed", "lists/*"],
        "emotion_edge.training": ["py.typed", "presets/*"],
        "emotion_edge.training.evaluation": ["report.html"],
        "emotion_edge.runtime.bench": ["report.html"],
    },
)
