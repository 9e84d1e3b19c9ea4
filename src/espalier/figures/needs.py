"""Which tables each figure is drawn from; no matplotlib here, so that a workflow can ask."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_RF = ("rf", "baselines")

TABLES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "training_curve": _RF,
        "sparsity_vs_rf": _RF,
        "accuracy_vs_rf": _RF,
        "detector_comparison": _RF,
        "accuracy_by_sparsity": ("networks",),
        "topometric_trends": ("topometrics",),
    }
)
