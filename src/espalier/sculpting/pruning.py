"""Iterative pruning of units, then of edges, for a grid of steps and many seeds in lock-step.

Percentages are of the original number of units or edges. A round prunes one step more than the last
accepted network, trains the result from its current weights and accepts it if it is accurate
enough; else it returns to the last accepted network and halves the step, down to one unit or edge.
Patil et al. (2023), section 3 and algorithms 1 and 2; `RULES` names where their text and their
implementation differ.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from espalier.errors import ConfigurationError, unknown_name
from espalier.sculpting.networks import Network, check_widths, initial_network
from espalier.sculpting.training import Recipe, Streams, Trained, Training, train_networks

if TYPE_CHECKING:
    from espalier.sculpting.functions import FunctionGraph
    from espalier.sculpting.tasks import Task

CONTROLS = ("edge-only", "dense")
SEEDS = (0, 1, 2, 5)


@dataclass(frozen=True)
class Rules:
    """Where the published text and the published implementation of the loops differ.

    Attributes:
        unit_scores: "mean_of_absolute" over rows, or "absolute_of_mean".
        accept: "threshold", or "dense": as accurate as the dense network.
        floor_step: whether a halved step stops at one unit or edge, and the loop at the first
            rejection of that step; else the loop stops when a halved step is below that.
        retrain_between: whether the unit-pruned network is trained once more before its edges are
            pruned.
    """

    unit_scores: str = "mean_of_absolute"
    accept: str = "threshold"
    floor_step: bool = True
    retrain_between: bool = True


RULES = {
    "implemented": Rules(),
    "paper": Rules("absolute_of_mean", "dense", floor_step=False, retrain_between=False),
}


@dataclass(frozen=True)
class Grid:
    """The first steps to try, in percent of the original units and edges.

    Raises:
        ConfigurationError: no steps, or one that is not above 0 and below 100.
    """

    unit_steps: tuple[float, ...] = tuple(float(step) for step in range(5, 75, 5))
    edge_steps: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0, 2.5)

    def __post_init__(self) -> None:
        for key in ("unit_steps", "edge_steps"):
            steps = getattr(self, key)
            if not steps or not all(0 < step < 100 for step in steps):
                raise ConfigurationError(
                    f"{key} is {steps}; give at least one percentage above 0 and below 100"
                )


EDGE_ONLY_STEPS = (0.5, 1.0, 1.5, 2.0, 2.5, 5.0)


@dataclass(frozen=True)
class Pair:
    """What one pair of steps came to.

    Attributes:
        unit_step: percent; None without unit pruning.
        edge_step: percent.
        density: share of edges that is left.
        accuracy: share of right bits.
        reached: whether the accuracy is enough.
        rounds: pruning rounds that were trained, of units and of edges.
    """

    unit_step: float | None
    edge_step: float
    density: float
    accuracy: float
    reached: bool
    rounds: int


@dataclass(frozen=True, eq=False)
class Trial:
    """The sparsest network of one seed.

    Attributes:
        seed: of the initial weights, shuffles and noise.
        unit_step, edge_step: the winning pair, in percent; None where that stage was not run or
            nothing was reached. Of equally sparse networks the last of the grid wins, that is, by
            unit step, then by edge step; the published winners follow this rule.
        masks: one (n_out, n_in) boolean matrix per layer.
        weights: likewise; pruned edges are 0.
        biases: one (n_out,) vector per layer.
        density: share of edges that is left.
        accuracy: share of right validation bits.
        dense_accuracy: that of the dense network.
        reached: whether the accuracy is enough; if not, the network is the dense one.
        rounds: pruning rounds of the winning pair.
        trainings: trainings of this seed in all, over the whole grid.
        pairs: every pair of the grid.
        dense_weights: of the trained dense network.
    """

    seed: int
    unit_step: float | None
    edge_step: float | None
    masks: list[np.ndarray]
    weights: list[np.ndarray]
    biases: list[np.ndarray]
    density: float
    accuracy: float
    dense_accuracy: float
    reached: bool
    rounds: int
    trainings: int
    pairs: tuple[Pair, ...]
    dense_weights: list[np.ndarray]


@dataclass(frozen=True, eq=False)
class Stage:
    """The last accepted network of a pruning loop, and the rounds that were trained."""

    accepted: Trained
    rounds: int


Path = Generator[Training, Trained, Any]


def percentile(values: np.ndarray, q: float, zeros: int = 0) -> float:
    """Return the q-th percentile of non-negative values and of `zeros` more zeros.

    Linear interpolation between order statistics, as numpy's, without the zeros being there.
    """
    position = q / 100 * (len(values) + zeros - 1)
    low = int(np.floor(position))
    share = position - low
    ordered = np.sort(np.asarray(values, np.float64))
    below, above = (
        0.0 if rank < zeros else float(ordered[min(rank - zeros, len(values) - 1)])
        for rank in (low, low + 1)
    )
    if share < 0.5:
        return below + (above - below) * share
    return above - (above - below) * (1 - share)


def prune_units(network: Network, scores: np.ndarray, q: float) -> Network:
    """Return the network without the hidden units whose score is in the lowest q percent.

    Args:
        network: any.
        scores: (hidden,), at least 0, of all units of the original.
        q: percent of the original units; units at the percentile go too.
    """
    kept = np.ones(sum(network.widths), bool)
    kept[network.widths[0] : network.widths[0] + network.hidden_units] = scores > percentile(
        scores, q
    )
    source, target = network.endpoints()
    return network.keep(kept[source] & kept[target])


def prune_edges(network: Network, q: float) -> Network:
    """Return the network without the weights in the lowest q percent of the original edges."""
    sizes = np.abs(network.weights.astype(np.float64))
    return network.keep(sizes > percentile(sizes, q, network.total_edges - len(sizes)))


def unit_stage(
    start: Trained, step: float, right_needed: int, rules: Rules, recipe: Recipe, streams: Streams
) -> Generator[Training, Trained, Stage]:
    """Prune units until a step of one unit is rejected; yields trainings, is sent their results.

    The results need unit scores. Returns the last accepted network, or `start`.
    """

    def prune(accepted: Trained, q: float) -> Network:
        if accepted.unit_scores is None:
            raise ValueError("unit_stage needs trainings with unit scores")
        return prune_units(accepted.network, accepted.unit_scores, q)

    smallest = 100 / start.network.hidden_units
    return (
        yield from _prune_while_accurate(
            start, prune, 0.0, step, smallest, right_needed, rules, recipe, streams
        )
    )


def edge_stage(
    start: Trained, step: float, right_needed: int, rules: Rules, recipe: Recipe, streams: Streams
) -> Generator[Training, Trained, Stage]:
    """Prune edges until a step of one edge is rejected; yields trainings, is sent their results.

    Returns the last accepted network, or `start`.
    """
    network = start.network
    return (
        yield from _prune_while_accurate(
            start,
            lambda accepted, q: prune_edges(accepted.network, q),
            100 * (1 - network.density),
            step,
            100 / network.total_edges,
            right_needed,
            rules,
            recipe,
            streams,
        )
    )


def _prune_while_accurate(
    start: Trained,
    prune: Any,
    pruned: float,
    step: float,
    smallest: float,
    right_needed: int,
    rules: Rules,
    recipe: Recipe,
    streams: Streams,
) -> Generator[Training, Trained, Stage]:
    accepted, rounds = start, 0
    while True:
        q = pruned + step
        if q < 100:
            trained = yield Training(prune(accepted, q), recipe, streams)
            rounds += 1
            if trained.right >= right_needed:
                accepted, pruned = trained, q
                continue
        if rules.floor_step:
            if step <= smallest:
                return Stage(accepted, rounds)
            step = max(step / 2, smallest)
        else:
            step /= 2
            if step < smallest:
                return Stage(accepted, rounds)


def _unit_path(
    dense: Trained, step: float, right_needed: int, rules: Rules, recipe: Recipe, streams: Streams
) -> Generator[Training, Trained, tuple[Stage, Trained]]:
    """Run the unit stage; return it and the network from which edges are pruned."""
    stage = yield from unit_stage(dense, step, right_needed, rules, recipe, streams)
    if not rules.retrain_between:
        return stage, stage.accepted
    return stage, (yield Training(stage.accepted.network, recipe, streams))


def _train_once(training: Training) -> Generator[Training, Trained, Trained]:
    return (yield training)


def run_paths(paths: Iterable[Path], train: Any, at_once: int) -> tuple[list[Any], list[int]]:
    """Run paths side by side, training whatever they ask for together.

    Args:
        paths: generators that yield trainings and are sent the results.
        train: a function from a list of trainings to their results, in order.
        at_once: how many paths run at a time; the next one starts when one ends.

    Returns:
        What each path returned, and how many trainings each one asked for.
    """
    waiting: Iterator[tuple[int, Path]] = enumerate(paths)
    active: dict[int, tuple[Path, Training]] = {}
    returned: dict[int, Any] = {}
    trainings: dict[int, int] = {}

    def advance(index: int, path: Path, result: Trained | None) -> None:
        try:
            active[index] = path, path.send(result)  # type: ignore[arg-type]
            trainings[index] = trainings.get(index, 0) + 1
        except StopIteration as end:
            active.pop(index, None)
            returned[index] = end.value

    while True:
        while len(active) < at_once:
            following = next(waiting, None)
            if following is None:
                break
            advance(*following, None)
        if not active:
            order = sorted(returned)
            return [returned[i] for i in order], [trainings.get(i, 0) for i in order]
        indices = list(active)
        results = train([active[i][1] for i in indices])
        for index, result in zip(indices, results, strict=True):
            advance(index, active[index][0], result)


def task_of(data: Task | FunctionGraph | Sequence[np.ndarray]) -> Task:
    """Return the data as a task: a task, a function graph, (X, Y), or (X, Y, X, Y) of validation.

    Of plain arrays the accuracy threshold is 1 and the noise 0.1, as for Boolean functions; a
    recipe can say otherwise. Without validation arrays the training data validate.

    Raises:
        ConfigurationError: anything else.
        DataError: arrays that do not fit each other.
    """
    from espalier.sculpting.functions import FunctionGraph
    from espalier.sculpting.tasks import Task, boolean_task

    if isinstance(data, Task):
        return data
    if isinstance(data, FunctionGraph):
        return boolean_task(data)
    if isinstance(data, (tuple, list)) and len(data) in (2, 4):
        x, y, *rest = (np.asarray(part, np.float32) for part in data)
        x_validation, y_validation = rest or (x, y)
        return Task("arrays", x, y, x_validation, y_validation, input_noise=0.1)
    raise ConfigurationError(
        "sculpt needs a Task, a FunctionGraph, or a tuple of two or four arrays, not "
        f"{type(data).__name__}"
    )


def sculpt(
    task: Task | FunctionGraph | Sequence[np.ndarray],
    hidden: Sequence[int] = (24, 24),
    seeds: Sequence[int] = SEEDS,
    recipe: Recipe | None = None,
    grid: Grid | None = None,
    device: str = "cpu",
    control: str | None = None,
    rules: str | Rules = "implemented",
    engine: str = "auto",
    threads: int = 1,
    dtype: type[np.floating] = np.float32,
    max_bytes: int = 1 << 30,
) -> list[Trial]:
    """Prune the units, then the edges of networks of one shape, and return the sparsest per seed.

    The unit stage of a (seed, unit step) is shared by its edge steps. A trial depends on its seed
    and the arguments other than `seeds`, `threads` and `max_bytes`, not on the other trials.

    Args:
        task: data; see `task_of`.
        hidden: widths of the hidden layers.
        seeds: one trial each.
        recipe: of every training.
        grid: first steps to try; the default is the published one.
        device: where the engine "stacked" runs.
        control: None, "edge-only" (no unit pruning; edge steps also 5) or "dense" (no pruning).
        rules: "implemented", "paper" or your own.
        engine, threads, max_bytes: see `train_networks`; `max_bytes` also bounds the networks that
            are pruned side by side.
        dtype: precision of the networks.

    Returns:
        One trial per seed, in order. One whose accuracy was never reached is dense and marked.

    Raises:
        ConfigurationError: an argument out of its range, or seeds that repeat.
        DataError: arrays that do not fit each other.
    """
    data = task_of(task)
    recipe = recipe or Recipe()
    named = RULES.get(rules) if isinstance(rules, str) else rules
    if named is None:
        raise unknown_name("pruning rules", rules, RULES)
    if control is not None and control not in CONTROLS:
        raise unknown_name("control", control, CONTROLS)
    if len(set(seeds)) < len(seeds):
        raise ConfigurationError(
            f"seeds {tuple(seeds)} repeat; a trial is its seed, so name each once"
        )
    widths = check_widths((data.n_inputs, *hidden, data.n_outputs))
    if control is None and len(widths) < 3:
        raise ConfigurationError("hidden is empty; unit pruning needs a hidden layer")
    if grid is None:
        grid = Grid(edge_steps=EDGE_ONLY_STEPS) if control == "edge-only" else Grid()
    sculptor = _Sculptor(
        data, widths, recipe, named, grid, control, device, engine, threads, dtype, max_bytes
    )
    return sculptor.trials(list(seeds))


@dataclass(frozen=True, eq=False)
class _Sculptor:
    """The arguments of one call of `sculpt`, checked."""

    task: Task
    widths: tuple[int, ...]
    recipe: Recipe
    rules: Rules
    grid: Grid
    control: str | None
    device: str
    engine: str
    threads: int
    dtype: type[np.floating]
    max_bytes: int

    def trials(self, seeds: list[int]) -> list[Trial]:
        paths = [
            _train_once(
                Training(
                    initial_network(self.widths, seed, self.dtype),
                    self.recipe,
                    Streams(seed, "dense"),
                )
            )
            for seed in seeds
        ]
        dense, spent = self._run(paths, scores=self.control is None)
        trainings = dict(zip(seeds, spent, strict=True))
        if self.control == "dense":
            return [
                self._trial(seed, network, [], trainings[seed])
                for seed, network in zip(seeds, dense, strict=True)
            ]
        starts = self._starts(seeds, dense, trainings)
        outcomes = self._edge_stages(starts, trainings)
        return [
            self._trial(seed, network, [o for o in outcomes if o.seed == seed], trainings[seed])
            for seed, network in zip(seeds, dense, strict=True)
        ]

    def _run(self, paths: list[Path], scores: bool) -> tuple[list[Any], list[int]]:
        # A path holds its accepted and its candidate network: edges, weights, and copies of both.
        dense_edges = sum(a * b for a, b in zip(self.widths[:-1], self.widths[1:], strict=True))
        at_once = max(1, self.max_bytes // (4 * 16 * dense_edges))
        kind = self.rules.unit_scores if scores else None

        def train(trainings: list[Training]) -> list[Trained]:
            return train_networks(
                trainings, self.task, kind, self.engine, self.device, self.threads, self.max_bytes
            )

        return run_paths(paths, train, at_once)

    def _right_needed(self, dense: Trained) -> int:
        if self.rules.accept == "dense":
            return dense.right
        share = self.recipe.accuracy_threshold
        share = self.task.accuracy_threshold if share is None else share
        # A threshold such as 0.99 is not a binary fraction: 99 of 100 bits must pass.
        return int(np.ceil(share * dense.bits - 1e-9 * dense.bits))

    def _starts(
        self, seeds: list[int], dense: list[Trained], trainings: dict[int, int]
    ) -> list[_Start]:
        """Return where edge pruning starts: from every unit-pruned network, or the dense ones."""
        if self.control == "edge-only":
            return [
                _Start(seed, None, network, Stage(network, 0), network)
                for seed, network in zip(seeds, dense, strict=True)
            ]
        keys = [(s, step) for s in range(len(seeds)) for step in self.grid.unit_steps]
        paths = [
            _unit_path(
                dense[s],
                step,
                self._right_needed(dense[s]),
                self.rules,
                self.recipe,
                Streams(seeds[s], "unit", f"{step:g}"),
            )
            for s, step in keys
        ]
        returned, spent = self._run(paths, scores=True)
        starts = []
        for (s, step), (stage, start), count in zip(keys, returned, spent, strict=True):
            trainings[seeds[s]] += count
            starts.append(_Start(seeds[s], step, dense[s], stage, start))
        return starts

    def _edge_stages(self, starts: list[_Start], trainings: dict[int, int]) -> list[_Outcome]:
        keys = [(start, step) for start in starts for step in self.grid.edge_steps]
        paths = [
            edge_stage(
                start.network,
                step,
                self._right_needed(start.dense),
                self.rules,
                self.recipe,
                Streams(start.seed, *start.stream, f"{step:g}"),
            )
            for start, step in keys
        ]
        returned, spent = self._run(paths, scores=False)
        outcomes = []
        for (start, step), stage, count in zip(keys, returned, spent, strict=True):
            trainings[start.seed] += count
            outcomes.append(self._outcome(start, step, stage))
        return outcomes

    def _outcome(self, start: _Start, step: float, stage: Stage) -> _Outcome:
        """Prefer, of two networks with the same masks, the one that is accurate enough.

        The training between the stages can lose what the last accepted network could do.
        """
        needed, final = self._right_needed(start.dense), stage.accepted
        if final.right < needed <= start.stage.accepted.right:
            final = start.stage.accepted
        rounds = start.stage.rounds + stage.rounds
        pair = Pair(
            start.unit_step,
            step,
            final.network.density,
            final.accuracy,
            final.right >= needed,
            rounds,
        )
        return _Outcome(start.seed, pair, final)

    def _trial(
        self, seed: int, dense: Trained, outcomes: Sequence[_Outcome], trainings: int
    ) -> Trial:
        reached = [outcome for outcome in outcomes if outcome.pair.reached]
        best = min(reversed(reached), key=lambda outcome: outcome.pair.density, default=None)
        final = best.trained if best else dense
        network = final.network
        return Trial(
            seed=seed,
            unit_step=best.pair.unit_step if best else None,
            edge_step=best.pair.edge_step if best else None,
            masks=network.masks(),
            weights=network.weight_matrices(),
            biases=network.bias_vectors(),
            density=network.density,
            accuracy=final.accuracy,
            dense_accuracy=dense.accuracy,
            reached=final.right >= self._right_needed(dense),
            rounds=best.pair.rounds if best else 0,
            trainings=trainings,
            pairs=tuple(outcome.pair for outcome in outcomes),
            dense_weights=dense.network.weight_matrices(),
        )


@dataclass(frozen=True, eq=False)
class _Start:
    """Where the edge stages of one unit step, or of none, start."""

    seed: int
    unit_step: float | None
    dense: Trained
    stage: Stage
    network: Trained

    @property
    def stream(self) -> tuple[str, ...]:
        return ("edge-only",) if self.unit_step is None else ("edge", f"{self.unit_step:g}")


@dataclass(frozen=True, eq=False)
class _Outcome:
    seed: int
    pair: Pair
    trained: Trained
