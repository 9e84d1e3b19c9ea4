"""`espalier fit-predictor`: from a table of topometrics to a predictor of the accuracy drop."""

from __future__ import annotations

import argparse
from pathlib import Path

from espalier.cli.arguments import names
from espalier.cli.command import Command
from espalier.errors import ConfigurationError


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--table", help="CSV such as results/tables/topometrics.csv")
    source.add_argument("--published", help="folder of the published tables")
    parser.add_argument("--features", help="expression, for example topometrics+sparsity+dataset")
    parser.add_argument(
        "--groups", type=names, help="columns, separated by commas; the interval is for new ones"
    )
    parser.add_argument(
        "--convention",
        choices=("definition", "published"),
        help="how the topometrics of --table were computed; by default definition",
    )
    parser.add_argument("--trees", type=int, default=10, help="per fold")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", required=True, help="NPZ to write")


def _run(options: argparse.Namespace) -> None:
    from espalier.files import read_table
    from espalier.prediction.predictor import FEATURE_SET, GROUPS, fit, write_predictor
    from espalier.prediction.published import TMLR_MODELS, TMLR_PRUNERS, read_published
    from espalier.provenance import code_of, provenance

    convention = options.convention or "definition"
    if options.published:
        if options.convention == "definition":
            raise ConfigurationError("the published tables have the convention 'published'")
        convention = "published"
        table = read_published(
            options.published, models=TMLR_MODELS, pruners=TMLR_PRUNERS, names="project"
        ).table
    else:
        if not Path(options.table).is_file():
            raise ConfigurationError(f"--table {options.table} does not exist")
        table = read_table(options.table)
    features, groups = options.features or FEATURE_SET, options.groups or list(GROUPS)
    encoding = {
        "kind": "unrolled",
        "convention": convention,
        "edges": convention,
        "normalise": True,
    }
    predictor = fit(
        table,
        features,
        groups=groups,
        trees=options.trees,
        seed=options.seed,
        encoding=encoding,
    )
    settings = {"features": features, "groups": groups, "trees": options.trees, **encoding}
    code = code_of("prediction.predictor")
    write_predictor(options.out, predictor, provenance(code, settings, options.seed))
    print(
        f"{len(table)} networks, out of fold by {'+'.join(groups)}: R2 "
        f"{predictor.scores['r2']:.3f}, mean absolute error {predictor.scores['mae']:.3f}; "
        f"intervals up to level {predictor.highest_level:.3f}"
    )


COMMAND = Command(
    "fit-predictor",
    "Fit a predictor of the accuracy drop to a table of topometrics, for espalier rank.",
    "espalier fit-predictor --table results/tables/topometrics.csv --out predictor.npz",
    _add_arguments,
    _run,
)
