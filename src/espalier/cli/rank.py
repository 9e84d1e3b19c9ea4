"""`espalier rank`: pruners of an untrained network, by the accuracy drop that is predicted."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from espalier.cli.arguments import add_dataset_arguments, dataset_from, names
from espalier.cli.command import Command
from espalier.errors import ConfigurationError


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help="name, or file.py:function of your own")
    parser.add_argument("--width", type=float, default=1.0, help="factor on the hidden units")
    add_dataset_arguments(parser)
    parser.add_argument("--sparsity", type=float, required=True, help="share removed, in [0, 1)")
    parser.add_argument(
        "--predictor", help="file of fit-predictor; by default that of the published networks"
    )
    parser.add_argument(
        "--pruners", type=names, help="names separated by commas; by default all that can be"
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


def _run(options: argparse.Namespace) -> None:
    from espalier.data.inputs import Normalisation
    from espalier.models.fitting import build_network
    from espalier.prediction.predictor import read_predictor
    from espalier.prediction.rank_pruners import published_predictor, rank_pruners
    from espalier.pruning.batches import ScoringBatches

    if options.batch_size < 1:
        raise ConfigurationError(f"--batch-size is {options.batch_size}; take at least 1")
    predictor = read_predictor(options.predictor) if options.predictor else published_predictor()
    images = dataset_from(options, options.seed)
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


COMMAND = Command(
    "rank",
    "Prune an untrained network with every pruner that acts before training, predict the accuracy "
    "drop of each from its topology, and rank them.",
    "espalier rank --model conv6 --width 0.25 --dataset digits --sparsity 0.9",
    _add_arguments,
    _run,
)
