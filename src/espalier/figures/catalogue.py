"""Which tables and figures a report shows, and under which heading; nothing heavy is imported."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType

import espalier
from espalier.errors import unknown_name
from espalier.figures.needs import TABLES

#: Heading of every analysis.
HEADINGS: Mapping[str, str] = MappingProxyType(
    {
        "hierarchy": "Class hierarchies",
        "accuracy": "Accuracy",
        "topometrics": "Topometrics",
        "hubs": "Hub neurons",
        "sculpting": "Neural Sculpting",
        "prediction": "Prediction",
    }
)
PUBLISHED_HEADING = "Published networks"

#: Tables that a report shows, by analysis.
REPORTED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "hierarchy": ("baselines", "rf", "rf_summary"),
        "accuracy": ("accuracy", "networks"),
        "topometrics": ("topometrics",),
        "hubs": (
            "censet_accuracy",
            "censet_layout",
            "hub_ablation",
            "hub_formation",
            "hub_search",
            "hub_search_training",
            "hub_training",
            "hubs",
        ),
        "sculpting": (
            "modules",
            "modules_compared",
            "modules_densities",
            "modules_null",
            "modules_recipes",
            "modules_stability",
            "modules_structure",
            "modules_success",
        ),
        "prediction": (
            "ablation",
            "calibration",
            "classification",
            "honest",
            "importance",
            "leave_one_out",
            "ranking",
            "ranks",
            "regression",
        ),
    }
)
#: Tables that are made of the published networks alone.
REPORTED_OF_PUBLISHED = ("comparison", "comparison_summary", "ranking_tables")

# Tables that only figures are drawn from.
_UNREPORTED = MappingProxyType({"layers": "prediction", "predictions": "prediction"})

#: Analyses of the figures that are drawn from graphs and trees instead of tables.
_NETWORK_FIGURES = MappingProxyType(
    {
        "coactivation_graph": "hierarchy",
        "facing_trees": "hierarchy",
        "radial_hierarchy": "hierarchy",
        "degree_distributions": "topometrics",
        "layer_graph": "topometrics",
    }
)
_PACKAGES = (
    "snakemake",
    "numpy",
    "scipy",
    "pandas",
    "torch",
    "scikit-learn",
    "numba",
    "leidenalg",
    "infomap",
    "xgboost-cpu",
    "shap",
    "matplotlib",
)

#: Every figure whose caption depends on its name.
FIGURES = (*TABLES, *_NETWORK_FIGURES)


def heading_of_table(table: str) -> str:
    """Return the heading under which a table of the project's own networks stands.

    Raises:
        ConfigurationError: no analysis makes a table of this name.
    """
    homes = {name: analysis for analysis, names in REPORTED.items() for name in names}
    homes |= dict.fromkeys(REPORTED_OF_PUBLISHED, "prediction") | _UNREPORTED
    if table not in homes:
        raise unknown_name("table", table, homes)
    return HEADINGS[homes[table]]


def heading_of_figure(figure: str) -> str:
    """Return the heading under which a figure of the project's own networks stands.

    Raises:
        ConfigurationError: no figure has this name.
    """
    if figure in _NETWORK_FIGURES:
        return HEADINGS[_NETWORK_FIGURES[figure]]
    if figure not in TABLES:
        raise unknown_name("figure", figure, FIGURES)
    return heading_of_table(TABLES[figure][0])


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages behind the results, where installed."""
    found = {"Espalier": espalier.__version__, "Python": platform.python_version()}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
