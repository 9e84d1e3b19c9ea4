"""One function per figure: a table, graph or tree in, a matplotlib Figure out.

matplotlib is imported only when one of these names is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from espalier.lazy import lazily

if TYPE_CHECKING:
    from espalier.figures.coactivation import coactivation_graph
    from espalier.figures.curves import accuracy_vs_rf, sparsity_vs_rf, training_curve
    from espalier.figures.detectors import detector_comparison
    from espalier.figures.hub_networks import hub_network
    from espalier.figures.hubs import (
        centrality_distribution,
        centrality_spread,
        hub_ablation,
        hub_methods,
        threshold_search,
    )
    from espalier.figures.layer_graph import degree_distributions, draw_layer_graph
    from espalier.figures.prediction import (
        honest_splits,
        interval_calibration,
        observed_vs_predicted,
        regression_by_setting,
    )
    from espalier.figures.prediction_features import (
        density_correlation,
        feature_importance,
        layer_measures,
        pearson_weights,
    )
    from espalier.figures.prediction_ranking import overlap_by_strategy, ranks_by_sparsity
    from espalier.figures.radial import radial_hierarchy
    from espalier.figures.sculpting import function_graph, pruned_network
    from espalier.figures.sculpting_trials import density_distribution, success_rates
    from espalier.figures.style import save
    from espalier.figures.tanglegram import facing_trees
    from espalier.figures.topology import accuracy_by_sparsity, topometric_trends

__all__ = [
    "accuracy_by_sparsity",
    "accuracy_vs_rf",
    "centrality_distribution",
    "centrality_spread",
    "coactivation_graph",
    "degree_distributions",
    "density_correlation",
    "density_distribution",
    "detector_comparison",
    "draw_layer_graph",
    "facing_trees",
    "feature_importance",
    "function_graph",
    "honest_splits",
    "hub_ablation",
    "hub_methods",
    "hub_network",
    "interval_calibration",
    "layer_measures",
    "observed_vs_predicted",
    "overlap_by_strategy",
    "pearson_weights",
    "pruned_network",
    "radial_hierarchy",
    "ranks_by_sparsity",
    "regression_by_setting",
    "save",
    "sparsity_vs_rf",
    "success_rates",
    "threshold_search",
    "topometric_trends",
    "training_curve",
]

_HOMES = {
    "accuracy_by_sparsity": "topology",
    "accuracy_vs_rf": "curves",
    "centrality_distribution": "hubs",
    "centrality_spread": "hubs",
    "coactivation_graph": "coactivation",
    "degree_distributions": "layer_graph",
    "density_correlation": "prediction_features",
    "density_distribution": "sculpting_trials",
    "detector_comparison": "detectors",
    "draw_layer_graph": "layer_graph",
    "facing_trees": "tanglegram",
    "feature_importance": "prediction_features",
    "function_graph": "sculpting",
    "honest_splits": "prediction",
    "hub_ablation": "hubs",
    "hub_methods": "hubs",
    "hub_network": "hub_networks",
    "interval_calibration": "prediction",
    "layer_measures": "prediction_features",
    "observed_vs_predicted": "prediction",
    "overlap_by_strategy": "prediction_ranking",
    "pearson_weights": "prediction_features",
    "pruned_network": "sculpting",
    "radial_hierarchy": "radial",
    "ranks_by_sparsity": "prediction_ranking",
    "regression_by_setting": "prediction",
    "save": "style",
    "sparsity_vs_rf": "curves",
    "success_rates": "sculpting_trials",
    "threshold_search": "hubs",
    "topometric_trends": "topology",
    "training_curve": "curves",
}

__getattr__, __dir__ = lazily(__name__, _HOMES)
