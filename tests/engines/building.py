"""Builds of one bundle's engines, as `open_tensorrt` makes them."""

from __future__ import annotations

import pytest

from emotion_edge.engines.base import EngineError, Report
from emotion_edge.engines.bundles.manifest import Bundle
from emotion_edge.engines.tensorrt.builder import BuiltEngine, load_or_build_engine
from emotion_edge.engines.tensorrt.cache import EngineCache, find_cache_folder
from emotion_edge.engines.tensorrt.gpu import open_gpu
from emotion_edge.engines.tensorrt.plan import BuildOptions, plan_engine

from .fake_cuda import FakeGpu


class Builder:
    """Builds engines and records the reports, unless the test sets another `report`."""

    def __init__(self, bundle: Bundle, gpu: FakeGpu) -> None:
        self.bundle, self.gpu = bundle, gpu
        self.reports: list[str] = []
        self.report: Report = self.reports.append
        self.cache = EngineCache(find_cache_folder())

    def prepare(
        self,
        network: str = "face",
        precision: str = "fp16",
        force: bool = False,
        levels: tuple[str, ...] = (),
        dla_core: int | None = None,
    ) -> BuiltEngine:
        plan = plan_engine(self.bundle, network, precision, BuildOptions(levels, dla_core))
        return load_or_build_engine(
            plan, open_gpu(), self.gpu.version, self.cache, self.report, force
        )

    def refuse(self, match: str, dla_core: int | None = None) -> None:
        """The build fails with one line, and nothing is stored."""
        with pytest.raises(EngineError, match=match) as failure:
            self.prepare(dla_core=dla_core)
        assert len(str(failure.value).splitlines()) == 1
        assert not list(self.cache.folder.glob("*.engine*"))
