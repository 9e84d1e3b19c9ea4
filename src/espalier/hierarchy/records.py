"""Files of hierarchies: class trees as Newick, one a line, and a record of how they came about."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from espalier.files import content_digest, read_npz, write_json, write_text
from espalier.graphs.coactivation import read_coactivation
from espalier.hierarchy.detectors import detect
from espalier.networks import detector_of_path, network_of_path
from espalier.provenance import provenance

_TIMES = {"seconds", "fit_seconds"}


def detect_networks(
    detector: str,
    graphs: Sequence[str | os.PathLike[str]],
    readouts: Sequence[str | os.PathLike[str]],
    trees: Sequence[str | os.PathLike[str]],
    records: Sequence[str | os.PathLike[str]],
    options: Mapping[str, Any],
    code: str,
    **machine: Any,
) -> None:
    """Read the hierarchies of several networks and write trees and records.

    Args:
        detector: name of the detector.
        graphs: co-activation graphs, one per network.
        readouts: readouts in the same order, or none for a detector that reads graphs alone.
        trees: Newick files to write, one per network; their paths name network and detector.
        records: JSON files to write, one per network.
        options: options of the detector that shape its result.
        code: digest of the code, for the record.
        **machine: options that say only where it runs.
    """
    for position, (graph_path, tree, record) in enumerate(zip(graphs, trees, records, strict=True)):
        started = time.monotonic()
        network = network_of_path(tree)
        graph = read_coactivation(graph_path)
        readout = read_npz(readouts[position])[0] if readouts else {}
        detection = detect(detector, graph, readout, network.seed, **options, **machine)
        print(
            f"{Path(tree).name}: {graph.n_nodes} units, {graph.n_edges} edges, "
            f"{len(detection.newicks)} trees, {time.monotonic() - started:.1f} s",
            file=sys.stderr,
        )
        # Times would make equal results unequal files; they are in the log.
        details = {k: v for k, v in detection.details.items() if k not in _TIMES}
        newicks = "\n".join(detection.newicks) + "\n"
        write_text(tree, newicks)
        write_json(
            record,
            {
                "network": network._asdict(),
                "detector": detector_of_path(tree),
                "samples": detection.samples,
                "nodes": graph.n_nodes,
                "edges": graph.n_edges,
                "constant_units": int(graph.constant.sum()),
                "details": details,
                "trees_digest": content_digest(newicks),
                "provenance": provenance(code, dict(options), network.seed),
            },
        )
