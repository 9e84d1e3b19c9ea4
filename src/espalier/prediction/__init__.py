"""Prediction of accuracy drop, pruner and rank from topometrics, with honest splits and controls.

Importing this package imports no submodule: each name is looked up where it lives when it is first
used, so that neither scikit-learn nor xgboost is loaded before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from espalier.lazy import lazily

if TYPE_CHECKING:
    from espalier.prediction.classification import (
        CATEGORIES,
        Classification,
        average_seeds,
        classify,
    )
    from espalier.prediction.features import (
        CONTROLS,
        FEATURES,
        FeatureMatrix,
        feature_matrix,
    )
    from espalier.prediction.importance import (
        classification_importance,
        pearson_importance,
        regression_importance,
        shap_importance,
    )
    from espalier.prediction.predictor import (
        Prediction,
        Predictor,
        fit,
        interval_coverage,
        read_predictor,
        write_predictor,
    )
    from espalier.prediction.published import (
        ReadingReport,
        combine_pools,
        ramanujan_baselines,
        read_published,
        read_ramanujan,
    )
    from espalier.prediction.ranking import (
        bootstrap_overlaps,
        overlaps,
        random_overlap,
        ranking_summary,
        ranking_tables,
        rbo_extrapolated,
        rbo_truncated,
    )
    from espalier.prediction.regression import (
        REGRESSORS,
        Candidate,
        Regression,
        bootstrap_scores,
        compare_with_published,
        evaluate,
        regress,
        select_and_evaluate,
        settings_of,
    )
    from espalier.prediction.splits import (
        PROTOCOLS,
        protocol_splits,
    )

_HOMES = {
    "CATEGORIES": "classification",
    "CONTROLS": "features",
    "FEATURES": "features",
    "PROTOCOLS": "splits",
    "REGRESSORS": "regression",
    "Candidate": "regression",
    "Classification": "classification",
    "FeatureMatrix": "features",
    "Prediction": "predictor",
    "Predictor": "predictor",
    "ReadingReport": "published",
    "Regression": "regression",
    "average_seeds": "classification",
    "bootstrap_overlaps": "ranking",
    "bootstrap_scores": "regression",
    "classification_importance": "importance",
    "classify": "classification",
    "combine_pools": "published",
    "compare_with_published": "regression",
    "evaluate": "regression",
    "feature_matrix": "features",
    "fit": "predictor",
    "interval_coverage": "predictor",
    "overlaps": "ranking",
    "pearson_importance": "importance",
    "protocol_splits": "splits",
    "ramanujan_baselines": "published",
    "random_overlap": "ranking",
    "ranking_summary": "ranking",
    "ranking_tables": "ranking",
    "rbo_extrapolated": "ranking",
    "rbo_truncated": "ranking",
    "read_predictor": "predictor",
    "read_published": "published",
    "read_ramanujan": "published",
    "regress": "regression",
    "regression_importance": "importance",
    "select_and_evaluate": "regression",
    "settings_of": "regression",
    "shap_importance": "importance",
    "write_predictor": "predictor",
}

__all__ = [
    "CATEGORIES",
    "CONTROLS",
    "FEATURES",
    "PROTOCOLS",
    "REGRESSORS",
    "Candidate",
    "Classification",
    "FeatureMatrix",
    "Prediction",
    "Predictor",
    "ReadingReport",
    "Regression",
    "average_seeds",
    "bootstrap_overlaps",
    "bootstrap_scores",
    "classification_importance",
    "classify",
    "combine_pools",
    "compare_with_published",
    "evaluate",
    "feature_matrix",
    "fit",
    "interval_coverage",
    "overlaps",
    "pearson_importance",
    "protocol_splits",
    "ramanujan_baselines",
    "random_overlap",
    "ranking_summary",
    "ranking_tables",
    "rbo_extrapolated",
    "rbo_truncated",
    "read_predictor",
    "read_published",
    "read_ramanujan",
    "regress",
    "regression_importance",
    "select_and_evaluate",
    "settings_of",
    "shap_importance",
    "write_predictor",
]

__getattr__, __dir__ = lazily(__name__, _HOMES)
