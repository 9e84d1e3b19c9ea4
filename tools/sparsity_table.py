"""Print whether every pruner keeps as many weights as the sparsity says, network by network.

    python tools/sparsity_table.py --networks conv6 resnet20 --width 0.5

Prunes freshly initialised networks (10 classes, 3x32x32) to sparsities 0.6, 0.8, 0.9, 0.95 and
0.98 with random inputs. A cell is the largest difference between the weights kept and
n - floor(sparsity * n) over the five sparsities, and in brackets the number of layers without any
weight at 0.98. Iterative pruners take few steps here, which changes which weights stay, and so the
number in brackets, but not how many. group_magnitude is left out: its sparsity is of units. Fails
if a difference is larger than one weight.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from espalier import models
from espalier.pruning import names, prunable_parameters, prune
from espalier.pruning.report import collapsed_layers
from espalier.pruning.selection import keep_count

NETWORKS = (
    "conv6",
    "resnet20",
    "resnet32",
    "wide_resnet28_2",
    "mobilenet_v2",
    "small_cnn",
    "medium_cnn",
)
SPARSITIES = (0.6, 0.8, 0.9, 0.95, 0.98)
CLASSES = 10
INPUT_SHAPE = (3, 32, 32)
PRUNERS = tuple(name for name in names() if name != "group_magnitude")
CHEAP_OPTIONS = {
    "iterative_snip": {"steps": 3},
    "force": {"steps": 3},
    "grasp": {"samples_per_class": 1},
    "synflow": {"steps": 5},
    "prospr": {"inner_steps": 1},
    "ntk_sap": {"epochs": 2, "resamples": 1, "num_batches": 1, "batch_size": 4},
}


def cell(
    pruner: str, model: torch.nn.Module, batches: list[tuple[torch.Tensor, torch.Tensor]]
) -> tuple[int, int]:
    """Return the largest deviation in weights, and the layers without any at the last sparsity."""
    total = sum(weight.numel() for weight in prunable_parameters(model).values())
    deviations, collapsed = [], 0
    for sparsity in SPARSITIES:
        options = CHEAP_OPTIONS.get(pruner, {})
        masks = prune(pruner, model, batches, sparsity, seed=0, **options)
        kept = sum(int(mask.count_nonzero()) for mask in masks.values())
        deviations.append(kept - keep_count(total, sparsity))
        collapsed = len(collapsed_layers(masks))
    return max(deviations, key=abs), collapsed


def main() -> None:
    """Prune, print the table and fail where a count is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="NAME")
    parser.add_argument("--pruners", nargs="+", default=PRUNERS, choices=PRUNERS, metavar="NAME")
    parser.add_argument("--width", type=float, default=1.0, help="factor on the channels")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn((2 * CLASSES, *INPUT_SHAPE), generator=generator)
    batches = [(images, torch.arange(len(images)) % CLASSES)]

    rows: dict[str, list[str]] = {pruner: [] for pruner in arguments.pruners}
    heads, worst = [], 0
    for network in arguments.networks:
        model = models.build(
            network,
            CLASSES,
            INPUT_SHAPE,
            width=arguments.width,
            seed=0,
            initialisation="kaiming_normal",
        )
        weights = [weight.numel() for weight in prunable_parameters(model).values()]
        heads.append(f"{network} ({len(weights)} layers, {sum(weights):,} weights)")
        for pruner in arguments.pruners:
            started = time.process_time()
            deviation, collapsed = cell(pruner, model, batches)
            rows[pruner].append(f"{deviation} ({collapsed})")
            worst = max(worst, abs(deviation))
            seconds = time.process_time() - started
            print(f"{network} {pruner}: {seconds:.1f} s", file=sys.stderr, flush=True)
    print("| pruner | " + " | ".join(heads) + " |")
    print("|---|" + "---|" * len(heads))
    for pruner, cells in rows.items():
        print(f"| `{pruner}` | " + " | ".join(cells) + " |")
    if worst > 1:
        sys.exit(f"a pruner misses the sparsity by {worst} weights")


if __name__ == "__main__":
    main()
