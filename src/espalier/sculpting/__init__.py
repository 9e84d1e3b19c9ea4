"""Neural Sculpting: train and prune many small networks at once, and read the modules they form.

Importing this package imports no submodule: each name is looked up where it lives when it is first
used, so that neither torch nor numba nor pandas is loaded before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from espalier.lazy import lazily

if TYPE_CHECKING:
    from espalier.sculpting.function_families import (
        FAMILIES,
        published_function,
        published_functions,
    )
    from espalier.sculpting.functions import FunctionGraph, read_function
    from espalier.sculpting.masked_networks import masks_of, network_modules
    from espalier.sculpting.module_graph import module_hierarchy, write_module_graphml
    from espalier.sculpting.module_stability import module_null_test, seed_stability
    from espalier.sculpting.modules import Modules, detect_modules
    from espalier.sculpting.networks import Network, initial_network, network_of
    from espalier.sculpting.pruning import RULES, Grid, Pair, Rules, Trial, sculpt
    from espalier.sculpting.published_recipes import (
        published_densities,
        published_recipe,
        published_success,
        published_widths,
    )
    from espalier.sculpting.structure import path_products, separability_tests, units_covering
    from espalier.sculpting.success import compare_hierarchy, success_table, trial_successes
    from espalier.sculpting.tasks import Task, boolean_task, build_task, digit_xor, two_digits
    from espalier.sculpting.training import Recipe, Streams, Trained, Training, train_networks

_HOMES = {
    "FAMILIES": "function_families",
    "RULES": "pruning",
    "FunctionGraph": "functions",
    "Grid": "pruning",
    "Modules": "modules",
    "Network": "networks",
    "Pair": "pruning",
    "Recipe": "training",
    "Rules": "pruning",
    "Streams": "training",
    "Task": "tasks",
    "Trained": "training",
    "Training": "training",
    "Trial": "pruning",
    "boolean_task": "tasks",
    "build_task": "tasks",
    "compare_hierarchy": "success",
    "detect_modules": "modules",
    "module_hierarchy": "module_graph",
    "masks_of": "masked_networks",
    "network_modules": "masked_networks",
    "seed_stability": "module_stability",
    "module_null_test": "module_stability",
    "digit_xor": "tasks",
    "initial_network": "networks",
    "network_of": "networks",
    "path_products": "structure",
    "published_densities": "published_recipes",
    "published_function": "function_families",
    "published_functions": "function_families",
    "published_recipe": "published_recipes",
    "published_success": "published_recipes",
    "published_widths": "published_recipes",
    "read_function": "functions",
    "sculpt": "pruning",
    "separability_tests": "structure",
    "success_table": "success",
    "train_networks": "training",
    "trial_successes": "success",
    "two_digits": "tasks",
    "units_covering": "structure",
    "write_module_graphml": "module_graph",
}

__all__ = [
    "FAMILIES",
    "RULES",
    "FunctionGraph",
    "Grid",
    "Modules",
    "Network",
    "Pair",
    "Recipe",
    "Rules",
    "Streams",
    "Task",
    "Trained",
    "Training",
    "Trial",
    "boolean_task",
    "build_task",
    "compare_hierarchy",
    "detect_modules",
    "digit_xor",
    "initial_network",
    "masks_of",
    "module_hierarchy",
    "module_null_test",
    "network_modules",
    "network_of",
    "path_products",
    "published_densities",
    "published_function",
    "published_functions",
    "published_recipe",
    "published_success",
    "published_widths",
    "read_function",
    "sculpt",
    "seed_stability",
    "separability_tests",
    "success_table",
    "train_networks",
    "trial_successes",
    "two_digits",
    "units_covering",
    "write_module_graphml",
]

__getattr__, __dir__ = lazily(__name__, _HOMES)
