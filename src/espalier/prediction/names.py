"""Names that the configuration of the prediction stage may use; nothing heavy is imported here.

The registries behind them need scikit-learn or pandas, and the configuration is read before every
run of the workflow. A test keeps both in step.
"""

from __future__ import annotations

from espalier.errors import ConfigurationError, unknown_name

ENCODINGS = ("unrolled", "rolled", "rolled-channel")

PROTOCOLS = (
    "published",
    "stratified",
    "grouped",
    "leave-architecture-out",
    "leave-dataset-out",
    "leave-pruner-out",
    "leave-sparsity-out",
)

FEATURES = (
    "topometrics",
    "layerwise",
    "local",
    "regional",
    "stability",
    "all",
    "ramanujan",
    "layer-density",
    "sparsity",
    "sparsity-level",
    "dataset",
    "architecture",
    "pruner",
)

LINEAR = (
    "linear",
    "ridge",
    "lasso",
    "elastic_net",
    "huber",
    "principal_components",
    "bayesian_ridge",
    "ard",
)
"""The eight regressors of TMLR, appendix A.6."""

REGRESSORS = (
    *LINEAR,
    "mean",
    "extra_trees",
    "extra_trees_50",
    "gaussian_process",
    "xgboost",
    "xgboost_slow",
)

CLASSIFIERS = ("xgboost", "extra_trees", "logistic", "most_frequent")

TARGETS = ("category", "pruner")


def check_features(expression: str) -> None:
    """Check that an expression such as "topometrics+dataset" joins known feature sets.

    Raises:
        ConfigurationError: a name is unknown or comes twice.
    """
    names = [name.strip() for name in expression.split("+")]
    for name in names:
        check_name("feature set", name, FEATURES)
    if len(set(names)) < len(names):
        raise ConfigurationError(f"feature set {expression!r} names a part twice")


def check_name(kind: str, name: str, known: tuple[str, ...]) -> None:
    """Check that a name is known.

    Raises:
        ConfigurationError: it is not; the message has the nearest one.
    """
    if name not in known:
        raise unknown_name(kind, name, known)
