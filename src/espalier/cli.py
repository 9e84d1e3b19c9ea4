"""The command line: `espalier <command>`; one function adds each command and one runs it.

Starting it imports the standard library alone; a command imports what it needs when it runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import espalier
from espalier.errors import ConfigurationError, DataError, EspalierError

Commands = Any  # argparse has no public name for what add_subparsers returns
Run = Callable[[argparse.Namespace], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: those of the command line when None.

    Returns:
        The exit status: 0; 1 after an error that the user can mend, which is printed without a
        traceback; 130 when interrupted. Wrong usage exits with 2.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except EspalierError as error:
        print(f"espalier {options.command}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"espalier {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"espalier {options.command}: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="espalier",
        description="Train and prune neural networks, turn each into a graph, and read the graph.",
    )
    parser.add_argument("--version", action="version", version=f"espalier {espalier.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    _add_rank(commands)
    _add_fit_predictor(commands)
    return parser


def _add(commands: Commands, name: str, run: Run, purpose: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=purpose, description=purpose)
    parser.set_defaults(run=run)
    return parser


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


# -- rank ----------------------------------------------------------------------------------------


def _add_rank(commands: Commands) -> None:
    parser = _add(
        commands,
        "rank",
        _rank,
        "Prune an untrained network with every pruner that acts before training, predict the "
        "accuracy drop of each from its topology, and rank them.",
    )
    parser.add_argument("--model", required=True, help="name, or file.py:function of your own")
    parser.add_argument("--width", type=float, default=1.0, help="factor on the hidden units")
    parser.add_argument("--dataset", required=True, help="name, for example digits or cifar10")
    parser.add_argument("--source", help="of the data set: folder or npz, with --path")
    parser.add_argument("--path", help="folder or prepared NPZ of the data set")
    parser.add_argument("--mirror", action="append", default=[], help="folder or URL; repeatable")
    parser.add_argument("--sparsity", type=float, required=True, help="share removed, in [0, 1)")
    parser.add_argument(
        "--predictor", help="file of fit-predictor; by default that of the published networks"
    )
    parser.add_argument(
        "--pruners", type=_names, help="names separated by commas; by default all that can be"
    )
    parser.add_argument(
        "--edges",
        choices=("definition", "published"),
        default="definition",
        help="convention of the graph's edges",
    )
    parser.add_argument("--level", type=float, default=0.9, help="of the intervals")
    parser.add_argument("--batch-size", type=int, default=128, help="images per scoring batch")
    parser.add_argument(
        "--normalisation", choices=("symmetric", "standard"), default="standard", help="of images"
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and pruners")
    parser.add_argument("--out", help="CSV to write")


def _rank(options: argparse.Namespace) -> None:
    from espalier.data.inputs import Normalisation
    from espalier.data.prepare import all_mirrors, prepare
    from espalier.models.fitting import build_network
    from espalier.prediction.predictor import read_predictor
    from espalier.prediction.rank_pruners import published_predictor, rank_pruners
    from espalier.pruning.batches import ScoringBatches

    if options.batch_size < 1:
        raise ConfigurationError(f"--batch-size is {options.batch_size}; take at least 1")
    predictor = read_predictor(options.predictor) if options.predictor else published_predictor()
    mirrors = all_mirrors(options.mirror)
    images = prepare(options.dataset, options.source, options.path, mirrors, seed=options.seed)
    network = {"architecture": options.model, "width": options.width}
    normalisation = Normalisation.named(options.normalisation, images.x_train)
    table = rank_pruners(
        build_network(network, images, options.seed),
        images.input_shape,
        options.sparsity,
        ScoringBatches(
            images.x_train, images.y_train, normalisation, options.batch_size, options.seed
        ),
        predictor,
        pruners=options.pruners,
        model_name=options.model,
        dataset_name=options.dataset,
        seed=options.seed,
        edges=options.edges,
        level=options.level,
    )
    _say_ranking(table, options, predictor.encoding.get("edges", "definition"))
    if options.out:
        from espalier.files import write_table
        from espalier.provenance import code_of, provenance

        settings = {k: v for k, v in vars(options).items() if k not in ("run", "command", "out")}
        code = code_of("prediction.rank_pruners")
        write_table(options.out, table, provenance(code, settings, options.seed))


def _say_ranking(table: Any, options: argparse.Namespace, edges: str) -> None:
    print(
        f"{options.model} on {options.dataset} at sparsity {options.sparsity:g}: predicted drop "
        f"of accuracy relative to the dense network, with {options.level:.0%} intervals"
    )
    print(f"{'rank':>4}  {'over folds':>10}  {'drop':>7}  {'interval':>16}  pruner")
    for row in table[table["problem"] == ""].itertuples():
        folds = f"{row.rank_low}-{row.rank_high}"
        interval = f"{row.low:7.3f} to {row.high:5.3f}"
        print(f"{row.rank:>4}  {folds:>10}  {row.drop:7.3f}  {interval:>16}  {row.pruning}")
    if edges != options.edges:
        print(
            f"note: the predictor saw graphs with {edges} edges, these have {options.edges} ones",
            file=sys.stderr,
        )
    strange = table[table["outside"].fillna("") != ""]
    if len(strange):
        print(
            f"note: {len(strange)} of {len(table)} networks are unlike all that the predictor saw, "
            f"so that drops and intervals are guesses; {strange.iloc[0]['pruning']}: "
            f"{strange.iloc[0]['outside']}",
            file=sys.stderr,
        )


# -- fit-predictor -------------------------------------------------------------------------------


def _add_fit_predictor(commands: Commands) -> None:
    parser = _add(
        commands,
        "fit-predictor",
        _fit_predictor,
        "Fit a predictor of the accuracy drop to a table of topometrics, for espalier rank.",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--table", help="CSV such as results/tables/topometrics.csv")
    source.add_argument("--published", help="folder of the published tables")
    parser.add_argument("--features", help="expression, for example topometrics+sparsity+dataset")
    parser.add_argument(
        "--groups", type=_names, help="columns, separated by commas; the interval is for new ones"
    )
    parser.add_argument(
        "--convention",
        choices=("definition", "published"),
        help="how the topometrics of --table were computed; by default definition",
    )
    parser.add_argument("--trees", type=int, default=10, help="per fold")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", required=True, help="NPZ to write")


def _fit_predictor(options: argparse.Namespace) -> None:
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
        try:
            table = read_table(options.table)
        except ValueError as error:
            raise DataError(f"{options.table} is not a readable CSV ({error})") from error
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


if __name__ == "__main__":
    sys.exit(main())
