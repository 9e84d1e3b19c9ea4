"""Layer graphs built by hand, and their edges straight from the definition, for tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from espalier.graphs.block_merging import WeightedOperation, merged_block
from espalier.graphs.layer_graph import AxisRelation, Block, LayerGraph, Part

Windows = list[list[int]]


@dataclass(frozen=True)
class View:
    """Channels of a part as the next operation sees them, after pooling."""

    part: int
    channels: int
    rows: Windows
    columns: Windows
    offset: int = 0


class Hand:
    """Builds a layer graph operation by operation."""

    def __init__(self, channels: int, height: int, width: int, padding: int = 0) -> None:
        size = (height + 2 * padding, width + 2 * padding)
        self.parts = [Part("input", channels, *size, padding)]
        self.blocks: list[Block] = []
        self.input = self.view(0)

    def view(self, part: int) -> View:
        p = self.parts[part]
        return View(part, p.channels, [[r] for r in range(p.height)], [[c] for c in range(p.width)])

    def part(self, name: str, channels: int, height: int, width: int) -> int:
        self.parts.append(Part(name, channels, height, width))
        return len(self.parts) - 1

    def conv(
        self,
        views: View | Sequence[View],
        weight: np.ndarray,
        mask: np.ndarray | None = None,
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
        into: int | None = None,
        target_offset: int = 0,
        name: str | None = None,
        kind: str = "conv",
    ) -> View:
        """A convolution of one view or of the concatenation of several (then groups is 1)."""
        views = [views] if isinstance(views, View) else list(views)
        mask = np.ones(weight.shape, bool) if mask is None else np.asarray(mask, bool)
        name = name or f"op{len(self.blocks)}"
        kernel = weight.shape[2:]
        sizes = [
            (len(axis) + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1
            for i, axis in enumerate((views[0].rows, views[0].columns))
        ]
        if into is None:
            into = self.part(name, weight.shape[0], *sizes)
        target = self.parts[into]
        assert (target.height, target.width) == tuple(sizes), (target, sizes)
        start = 0
        for view in views:
            channels = view.channels // groups
            piece = slice(start, start + channels)
            start += channels
            source = self.parts[view.part]
            self.blocks.append(
                Block(
                    name,
                    view.part,
                    into,
                    np.ascontiguousarray(weight[:, piece]).astype(np.float32),
                    np.ascontiguousarray(mask[:, piece]),
                    axis_relation(
                        view.rows, source.height, sizes[0], kernel[0], stride[0], padding[0],
                        dilation[0],
                    ),
                    axis_relation(
                        view.columns, source.width, sizes[1], kernel[1], stride[1], padding[1],
                        dilation[1],
                    ),
                    groups,
                    view.offset,
                    target_offset,
                    kind,
                )
            )  # fmt: skip
        assert start * groups == weight.shape[1] * groups
        return self.view(into)

    def linear(
        self, view: View, weight: np.ndarray, mask: np.ndarray | None = None, name: str = "linear"
    ) -> View:
        """A linear layer on the flattened view."""
        shape = (weight.shape[0], view.channels, len(view.rows), len(view.columns))
        mask = np.ones(weight.shape, bool) if mask is None else np.asarray(mask, bool)
        return self.conv(view, weight.reshape(shape), mask.reshape(shape), name=name, kind="linear")

    def identity(self, view: View, into: int) -> View:
        eye = np.eye(view.channels)[:, :, None, None]
        return self.conv(view, eye, eye > 0, into=into, name="identity:x", kind="identity")

    def graph(self) -> LayerGraph:
        """The graph with blocks merged as the library asks for: no two between the same parts."""
        between: dict[tuple[int, int], list[Block]] = {}
        for block in self.blocks:
            between.setdefault((block.target, block.source), []).append(block)
        merged = [
            merged_block([_operation(b) for b in blocks], self.parts)
            for _, blocks in sorted(between.items())
        ]
        return LayerGraph(tuple(self.parts), tuple(merged))

    def raw_graph(self) -> LayerGraph:
        """The graph as the operations make it; two taps or blocks may join the same two nodes."""
        return LayerGraph(tuple(self.parts), tuple(self.blocks))


def _operation(block: Block) -> WeightedOperation:
    return WeightedOperation(
        block.name,
        block.source,
        block.target,
        block.weight,
        block.mask,
        block.rows.triples,
        block.columns.triples,
        block.groups,
        block.source_offset,
        block.target_offset,
        block.kind,
    )


def pool(view: View, kernel: int, stride: int, padding: int = 0, ceil: bool = False) -> View:
    def windows(axis: Windows) -> Windows:
        size = len(axis)
        span = size + 2 * padding - kernel
        count = (-(-span // stride) if ceil else span // stride) + 1
        if ceil and (count - 1) * stride >= size + padding:
            count -= 1
        out = []
        for i in range(count):
            start = i * stride - padding
            members = [r for q in range(max(start, 0), min(start + kernel, size)) for r in axis[q]]
            out.append(sorted(set(members)))
        return out

    return View(view.part, view.channels, windows(view.rows), windows(view.columns), view.offset)


def adaptive(view: View, count: int) -> View:
    def windows(axis: Windows) -> Windows:
        size = len(axis)
        return [
            sorted(
                {r for q in range(i * size // count, -(-(i + 1) * size // count)) for r in axis[q]}
            )
            for i in range(count)
        ]

    return View(view.part, view.channels, windows(view.rows), windows(view.columns), view.offset)


def axis_relation(
    windows: Windows,
    source_size: int,
    target_size: int,
    taps: int,
    stride: int,
    padding: int,
    dilation: int,
) -> AxisRelation:
    triples = {
        (tap, y, row)
        for y in range(target_size)
        for tap in range(taps)
        if 0 <= y * stride - padding + tap * dilation < len(windows)
        for row in windows[y * stride - padding + tap * dilation]
    }
    ordered = np.array(sorted(triples), np.int32).reshape(-1, 3)[:, ::-1]
    return AxisRelation(source_size, target_size, taps, np.ascontiguousarray(ordered))


def edges_by_definition(graph: LayerGraph) -> dict[tuple[int, int], float]:
    """Every edge (source node, target node) and its weight, by the definition of a block."""
    edges: dict[tuple[int, int], float] = {}
    for block in graph.blocks:
        source, target = graph.parts[block.source], graph.parts[block.target]
        outputs, inputs = block.mask.shape[0] // block.groups, block.mask.shape[1]
        rows, columns = block.rows.triples.tolist(), block.columns.triples.tolist()
        weight, mask = np.abs(block.weight.astype(np.float64)).tolist(), block.mask.tolist()
        for o in range(block.mask.shape[0]):
            for c in range(inputs):
                into = block.target_offset + o
                out_of = block.source_offset + (o // outputs) * inputs + c
                for r, y, ey in rows:
                    for s, x, ex in columns:
                        if mask[o][c][ey][ex]:
                            u = graph.offsets[block.source] + (
                                (out_of * source.height + r) * source.width + s
                            )
                            v = graph.offsets[block.target] + (
                                (into * target.height + y) * target.width + x
                            )
                            key = (int(u), int(v))
                            edges[key] = edges.get(key, 0.0) + weight[o][c][ey][ex]
    return edges


def random_graph(seed: int, density: float | None = None) -> LayerGraph:
    """A small random network: kernels 1-5, strides 1-3, groups, pools, shortcuts, concatenation."""
    return random_hand(seed, density).graph()


def random_hand(seed: int, density: float | None = None) -> Hand:
    rng = np.random.default_rng(seed)
    side = (int(rng.integers(4, 8)), int(rng.integers(4, 8)))
    hand = Hand(int(rng.integers(1, 4)), *side, padding=int(rng.integers(0, 2)))
    kept = float(rng.choice([0.0, 0.2, 0.5, 0.8, 1.0])) if density is None else density
    channels = 4

    def mask(shape: tuple[int, ...]) -> np.ndarray:
        return rng.random(shape) < (kept if rng.random() < 0.9 else 0.0)

    def conv(
        view: View, out: int, kernel: tuple[int, int], into: int | None = None, **options: object
    ) -> View:
        groups = int(options.get("groups", 1))  # type: ignore[call-overload]
        shape = (out, view.channels // groups, *kernel)
        weight = rng.normal(size=shape)
        return hand.conv(view, weight, mask(shape), into=into, **options)  # type: ignore[arg-type]

    view = conv(hand.input, channels, (3, 3), padding=(1, 1))
    for _ in range(int(rng.integers(1, 4))):
        size = min(len(view.rows), len(view.columns))
        choice = rng.choice(
            ["conv", "pool", "project", "identity", "concat", "depthwise", "beside", "grouped"]
        )
        if choice == "pool" and size >= 3:
            kernel = int(rng.integers(2, 4))
            view = pool(
                view,
                kernel,
                int(rng.integers(1, 4)),
                int(rng.integers(0, 2)),
                bool(rng.random() < 0.5),
            )
        elif choice == "project":
            start = view
            stride = (2, 1) if rng.random() < 0.5 else (1, 1)
            inner = conv(start, channels, (3, 3), stride=stride, padding=(1, 1))
            view = conv(inner, channels, (3, 3), padding=(1, 1))
            conv(start, channels, (1, 1), into=view.part, stride=stride)
        elif choice == "identity":
            start = view
            inner = conv(start, channels, (3, 3), padding=(1, 1))
            view = conv(inner, channels, (3, 3), padding=(1, 1))
            hand.identity(start, view.part)
        elif choice == "beside":
            start = view
            view = conv(start, channels, (3, 1), padding=(1, 0))
            hand.identity(start, view.part)
        elif choice == "concat":
            left = conv(view, 2, (1, 3), padding=(0, 1))
            shape = (channels, view.channels + 2, 1, 1)
            view = hand.conv([view, left], rng.normal(size=shape), mask(shape))
        elif choice == "depthwise":
            view = conv(view, view.channels, (3, 3), padding=(1, 1), groups=view.channels)
        elif choice == "grouped":
            view = conv(view, channels, (3, 2), padding=(1, 1), groups=2)
        else:
            kernel = (int(rng.integers(1, 6)), int(rng.integers(1, 4)))
            stride = (int(rng.integers(1, 4)), int(rng.integers(1, 3)))
            dilation = (1, 2) if rng.random() < 0.3 and len(view.columns) > 4 else (1, 1)
            padding = (kernel[0] // 2, dilation[1] * (kernel[1] // 2))
            view = conv(view, channels, kernel, stride=stride, padding=padding, dilation=dilation)
        if min(len(view.rows), len(view.columns)) < 2:
            break
    if rng.random() < 0.5:
        view = adaptive(view, min(int(rng.integers(1, 3)), len(view.rows), len(view.columns)))
    features = view.channels * len(view.rows) * len(view.columns)
    hand.linear(view, rng.normal(size=(3, features)), mask((3, features)))
    return hand


GOLDENS = Path(__file__).parents[1] / "goldens" / "graph_encodings"
LARGE_GOLDENS = Path(__file__).parents[3] / "shared" / "goldens" / "graph_encodings"
needs_large_goldens = pytest.mark.skipif(
    not LARGE_GOLDENS.is_dir(), reason="the golden graphs of whole networks are not at hand"
)


def _golden_file(name: str) -> Path:
    return next((d / name for d in (GOLDENS, LARGE_GOLDENS) if (d / name).exists()), GOLDENS / name)


def golden(case: str, kind: str = "bruteforce") -> dict:
    return json.loads(_golden_file(f"{case}_{kind}.json").read_text())


def golden_graph(case: str) -> LayerGraph:
    """The definition-correct graph of a golden, weights rounded to float16 as there."""
    with np.load(_golden_file(f"{case}.npz")) as arrays:
        masks = {k.split("_", 2)[2]: arrays[k] > 0 for k in arrays if k.startswith("mask_")}
        weights = {
            k.split("_", 2)[2]: np.abs(arrays[k]).astype(np.float16).astype(np.float32)
            for k in arrays
            if k.startswith("weight_")
        }
    return network(case, weights, masks)


def network(case: str, weights: dict[str, np.ndarray], masks: dict[str, np.ndarray]) -> LayerGraph:
    """The networks of the goldens, with the padding nodes of the input."""
    names = list(weights)
    if case.startswith("conv6"):
        return _conv6(names, weights, masks)
    if case.startswith(("resnet20", "tiny_res")):
        return _resnet(case, names, weights, masks)
    return _tiny(case, names, weights, masks)


def _first(
    hand: Hand, weights: dict[str, np.ndarray], masks: dict[str, np.ndarray], name: str
) -> View:
    return hand.conv(hand.input, weights[name], masks[name], name=name)


def _conv6(names: list[str], weights: dict, masks: dict) -> LayerGraph:
    hand = Hand(3, 32, 32, padding=1)
    view = _first(hand, weights, masks, names[0])
    for i, name in enumerate(names[1:6], start=1):
        view = hand.conv(view, weights[name], masks[name], padding=(1, 1), name=name)
        if i % 2:
            view = pool(view, 2, 2)
    for name in names[6:]:
        view = hand.linear(view, weights[name], masks[name], name=name)
    return hand.graph()


def _resnet(case: str, names: list[str], weights: dict, masks: dict) -> LayerGraph:
    side = 32 if case.startswith("resnet20") else 6
    hand = Hand(3, side, side, padding=1)
    view = _first(hand, weights, masks, names[0])
    blocks = sorted({name.rsplit(".conv", 1)[0] for name in names if ".conv" in name})
    for block in blocks:
        start = view
        wide = weights[f"{block}.conv1"].shape[0] != weights[f"{block}.conv1"].shape[1]
        stride = (2, 2) if wide and "res_s1" not in case else (1, 1)
        for conv, step in (("conv1", stride), ("conv2", (1, 1))):
            name = f"{block}.{conv}"
            view = hand.conv(
                view, weights[name], masks[name], stride=step, padding=(1, 1), name=name
            )
        name = f"{block}.shortcut.0"
        if name in weights:
            hand.conv(
                start, weights[name], masks[name], stride=stride, into=view.part, name=name,
                kind="residual",
            )  # fmt: skip
    hand.linear(adaptive(view, 1), weights["linear"], masks["linear"])
    return hand.graph()


def _tiny(case: str, names: list[str], weights: dict, masks: dict) -> LayerGraph:
    side = {"tiny_s2": 6, "tiny_odd": 7, "tiny_pool": 8}[case.rsplit("_", 1)[0]]
    hand = Hand(3, side, side, padding=1)
    view = _first(hand, weights, masks, names[0])
    if case.startswith("tiny_pool"):
        for i, name in enumerate(names[1:4], start=1):
            view = hand.conv(view, weights[name], masks[name], padding=(1, 1), name=name)
            if i % 2:
                view = pool(view, 2, 2)
    else:
        name = names[1]
        view = hand.conv(view, weights[name], masks[name], stride=(2, 2), padding=(1, 1), name=name)
        view = pool(view, 2, 2)
    hand.linear(view, weights["linear"], masks["linear"])
    return hand.graph()
