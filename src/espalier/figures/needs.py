"""Which tables each figure is drawn from; no matplotlib here, so that a workflow can ask."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_RF = ("rf", "baselines")
_SUCCESS = ("modules_success",)

#: Drawn for the project's own pool of networks and for the published one.
PREDICTION: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "regression_by_setting": ("regression",),
        "pearson_weights": ("importance",),
        "importance_of_drop": ("importance",),
        "importance_of_category": ("importance",),
        "importance_of_pruner": ("importance",),
        "layer_measures": ("layers",),
        "density_correlation": ("layers",),
        "observed_vs_predicted": ("predictions",),
        "honest_splits": ("honest",),
        "interval_calibration": ("calibration",),
        "ranks_by_sparsity": ("ranks",),
        "overlap_by_strategy": ("ranking",),
    }
)

TABLES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "training_curve": _RF,
        "sparsity_vs_rf": _RF,
        "accuracy_vs_rf": _RF,
        "detector_comparison": _RF,
        "accuracy_by_sparsity": ("networks",),
        "topometric_trends": ("topometrics",),
        "centrality_distribution": ("hubs",),
        "centrality_spread": ("hub_training",),
        "hub_methods": ("hub_training",),
        "hub_ablation": ("hub_ablation",),
        "threshold_search": ("censet_accuracy",),
        "pruned_densities": ("modules",),
        "success_digits": _SUCCESS,
        "success_levels": _SUCCESS,
        "success_own": _SUCCESS,
        "success_overlap": _SUCCESS,
        "success_use": _SUCCESS,
        "success_validation": _SUCCESS,
        **PREDICTION,
    }
)
