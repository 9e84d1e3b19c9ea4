from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_sculpting_training import INPUTS, TARGETS, TASK

from espalier.errors import ConfigurationError
from espalier.sculpting.networks import Network, initial_network, network_of
from espalier.sculpting.pruning import (
    RULES,
    Grid,
    Stage,
    edge_stage,
    percentile,
    prune_edges,
    prune_units,
    run_paths,
    sculpt,
    task_of,
    unit_stage,
)
from espalier.sculpting.tasks import Task
from espalier.sculpting.training import Recipe, Streams, Trained, train_networks

RECIPE = Recipe(0.05, 8, 15)
SMALL = Grid(unit_steps=(30.0, 60.0), edge_steps=(2.0, 5.0))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 0.25, 0.5, 1e-9, 3.0, 7.5]) | st.floats(0, 9), max_size=30),
    st.integers(0, 12),
    st.floats(0, 99.99),
)
def test_percentile_is_numpys(values, zeros, q):
    if len(values) + zeros == 0:
        return
    whole = np.concatenate([values, np.zeros(zeros)])
    assert percentile(np.array(values), q, zeros) == np.percentile(whole, q)


def test_pruned_edges_are_the_lowest_of_the_original():
    network = initial_network((4, 6, 5, 3), 0)
    once = prune_edges(network, 40)
    flat = np.abs(np.concatenate([w.ravel() for w in network.weight_matrices()])).astype(float)
    kept = flat > np.percentile(flat, 40)
    assert np.array_equal(once.edges, np.flatnonzero(kept))
    twice = prune_edges(once, 70)
    held = np.where(kept, flat, 0)
    assert np.array_equal(twice.edges, np.flatnonzero(held > np.percentile(held, 70)))
    assert len(prune_edges(once, 10).edges) == len(once.edges)


def test_pruned_units_lose_both_sides_and_bias():
    network = initial_network((4, 6, 5, 3), 0)
    network = Network(network.widths, network.edges, network.weights, np.ones(14, np.float32))
    scores = np.arange(11.0)
    pruned = prune_units(network, scores, 30)  # the percentile is 3: units 0 to 3 go
    first, second, last = pruned.masks()
    assert not first[:4].any() and first[4:].all()
    assert not second[:, :4].any() and second[:, 4:].all()
    assert last.all()
    assert np.array_equal(pruned.bias_vectors()[0], [0, 0, 0, 0, 1, 1])
    # Units that are gone score 0 and count: of 11, the lower half is 5 or 6 units.
    scores[:4] = 0
    again = prune_units(pruned, scores, 50)
    assert np.array_equal(again.masks()[0].any(1), [False] * 6)
    assert np.array_equal(again.masks()[1].any(1), [False] * 5)


def answers(path, start: Trained, replies: list[bool]):
    """Drive a stage by hand: send results that are right or wrong, note what was proposed."""
    proposed, training = [], next(path)
    for right in replies:
        proposed.append(training.network.density)
        scores = start.unit_scores
        reply = Trained(training.network, 0.1, 48 if right else 47, 48, scores)
        try:
            training = path.send(reply)
        except StopIteration as end:
            return proposed, end.value
    return proposed, None


def dense_start(widths=(4, 10, 10, 3)) -> Trained:
    network = initial_network(widths, 0)
    return Trained(network, 0.1, 48, 48, np.arange(1.0, sum(widths[1:-1]) + 1))


def test_edge_stage_halves_to_one_edge_and_stops_at_its_first_rejection():
    start, total = dense_start(), 170
    path = edge_stage(start, 4.0, 48, RULES["implemented"], RECIPE, Streams(0))
    # 4, 8 accepted, 12 rejected; 2 rejected, 1 rejected, then steps of 1/170.
    replies = [True, True, False, False, False, True, False]
    proposed, stage = answers(path, start, replies)
    assert isinstance(stage, Stage)
    steps = [4, 8, 12, 10, 9, 8 + 100 / total, 8 + 200 / total]
    weights = np.abs(start.network.weights.astype(float))
    expected = [np.mean(weights > np.percentile(weights, q)) for q in steps]
    assert proposed == pytest.approx(expected)
    assert stage.rounds == 7
    assert stage.accepted.network.density == pytest.approx(expected[5])


def test_text_rules_stop_when_a_halved_step_is_below_one_edge():
    start = dense_start()
    path = edge_stage(start, 4.0, 48, RULES["paper"], RECIPE, Streams(0))
    # 4, 2, 1 are tried; 0.5 is below 100/170.
    proposed, stage = answers(path, start, [False, False, False])
    assert stage is not None and stage.accepted is start
    assert len(proposed) == 3


def test_unit_stage_counts_original_units_and_skips_percentages_of_100():
    start = dense_start()
    path = unit_stage(start, 50.0, 48, RULES["implemented"], RECIPE, Streams(0))
    # 50 accepted; 100 is rejected without a training; 75 accepted; 100; 87.5 wrong; 81.25 wrong;
    # 80 (6.25 is halved to 5, one unit of 20) wrong: stop.
    proposed, stage = answers(path, start, [True, True, False, False, False])
    assert stage is not None and stage.rounds == 5
    assert len(proposed) == 5
    scores = start.unit_scores
    live = [int((scores > np.percentile(scores, q)).sum()) for q in (50, 75)]
    alive = [m.any(1).sum() for m in stage.accepted.network.masks()[:2]]
    assert live == [10, 5]
    assert sum(alive) <= live[1]


def naive_sculpture(seed: int, unit_step: float, edge_step: float, task: Task, recipe: Recipe):
    """The published loops for one pair of steps, on full matrices with numpy's percentile."""

    def train(masks, weights, biases, streams, scores=None):
        network = network_of(masks, weights, biases)
        from espalier.sculpting.training import Training

        done = train_networks([Training(network, recipe, streams)], task, scores)[0]
        return done.network.weight_matrices(), done.network.bias_vectors(), done

    def loop(masks, weights, biases, done, pruned, step, smallest, streams, choose, scores):
        while True:
            q = pruned + step
            accepted = False
            if q < 100:
                trial = choose(masks, weights, done, q)
                held = [np.where(m, w, 0) for m, w in zip(trial, weights, strict=True)]
                new_weights, new_biases, new = train(trial, held, biases, streams, scores)
                accepted = new.right == new.bits
            if accepted:
                masks, weights, biases, done, pruned = trial, new_weights, new_biases, new, q
            elif step > smallest:
                step = max(step / 2, smallest)
            else:
                return masks, weights, biases, done

    def by_units(masks, weights, done, q):
        scores = done.unit_scores
        kept = np.split(
            scores > np.percentile(scores, q), np.cumsum([len(m) for m in masks[:-1]])[:-1]
        )
        sides = [np.ones(masks[0].shape[1], bool), *kept, np.ones(len(masks[-1]), bool)]
        return [m & sides[i + 1][:, None] & sides[i][None, :] for i, m in enumerate(masks)]

    def by_edges(masks, weights, done, q):
        flat = np.abs(np.concatenate([w.ravel() for w in weights])).astype(np.float64)
        cut = np.percentile(flat, q)
        return [np.abs(w).astype(np.float64) > cut for w in weights]

    first = initial_network((task.n_inputs, 10, 8, task.n_outputs), seed)
    masks = first.masks()
    total = sum(m.size for m in masks)
    weights, biases, done = train(
        masks,
        first.weight_matrices(),
        first.bias_vectors(),
        Streams(seed, "dense"),
        "mean_of_absolute",
    )
    streams = Streams(seed, "unit", f"{unit_step:g}")
    masks, weights, biases, done = loop(
        masks,
        weights,
        biases,
        done,
        0.0,
        unit_step,
        100 / 18,
        streams,
        by_units,
        "mean_of_absolute",
    )
    weights, biases, done = train(masks, weights, biases, streams)
    streams = Streams(seed, "edge", f"{unit_step:g}", f"{edge_step:g}")
    pruned = 100 * (1 - sum(m.sum() for m in masks) / total)
    return loop(
        masks, weights, biases, done, pruned, edge_step, 100 / total, streams, by_edges, None
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_sculpt_is_the_naive_loop_with_numpys_percentile(seed):
    masks, weights, _, done = naive_sculpture(seed, 30.0, 2.0, TASK, RECIPE)
    grid = Grid(unit_steps=(30.0,), edge_steps=(2.0,))
    trial = sculpt(TASK, (10, 8), [seed], RECIPE, grid)[0]
    if done.right == done.bits:
        assert trial.reached
        assert all(np.array_equal(a, b) for a, b in zip(trial.masks, masks, strict=True))
        assert all(np.array_equal(a, b) for a, b in zip(trial.weights, weights, strict=True))
    else:
        assert not trial.reached


def equal_trials(first, second) -> bool:
    return (
        first.pairs == second.pairs
        and first.trainings == second.trainings
        and all(np.array_equal(a, b) for a, b in zip(first.masks, second.masks, strict=True))
        and all(np.array_equal(a, b) for a, b in zip(first.weights, second.weights, strict=True))
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_trial_does_not_depend_on_its_company(dtype):
    several = sculpt(TASK, (10, 8), (0, 1, 2), RECIPE, SMALL, dtype=dtype)
    alone = sculpt(TASK, (10, 8), (1,), RECIPE, SMALL, dtype=dtype)
    assert equal_trials(alone[0], several[1])
    bounded = sculpt(TASK, (10, 8), (2, 0), RECIPE, SMALL, dtype=dtype, max_bytes=1, threads=2)
    assert equal_trials(bounded[0], several[2])
    assert equal_trials(bounded[1], several[0])


def test_company_changes_no_decision_of_the_stacked_engine():
    def run(seeds, **options):
        return sculpt(
            TASK,
            (10, 8),
            seeds,
            replace(RECIPE, epochs=6),
            Grid(unit_steps=(60.0,), edge_steps=(5.0,)),
            engine="stacked",
            dtype=np.float64,
            **options,
        )

    several, alone = run((0, 1, 2)), run((1,), max_bytes=1)
    assert equal_trials(alone[0], several[1])


def test_the_sparsest_network_wins_and_is_what_it_says():
    for trial in sculpt(TASK, (12, 12), (0, 1), RECIPE, SMALL):
        reached = [pair for pair in trial.pairs if pair.reached]
        assert trial.reached and trial.accuracy == 1
        lowest = min(pair.density for pair in reached)
        assert trial.density == lowest
        last = [pair for pair in reached if pair.density == lowest][-1]
        assert (trial.unit_step, trial.edge_step) == (last.unit_step, last.edge_step)
        assert sum(m.sum() for m in trial.masks) == round(lowest * (48 + 144 + 36))
        values = INPUTS
        for layer, (mask, weight, bias) in enumerate(
            zip(trial.masks, trial.weights, trial.biases, strict=True)
        ):
            assert not weight[~mask].any()
            values = values @ weight.T + bias
            values = np.maximum(values, 0) if layer < 2 else values
        assert np.array_equal(values > 0, TARGETS > 0.5)
        assert len(trial.pairs) == 4
        assert trial.trainings > len(trial.pairs)


def test_a_threshold_never_reached_gives_the_dense_network_marked():
    hopeless = Recipe(1e-6, 8, 1)
    for control in (None, "edge-only", "dense"):
        trial = sculpt(TASK, (6, 6), (0,), hopeless, SMALL, control=control)[0]
        assert not trial.reached
        assert trial.density == 1 and all(mask.all() for mask in trial.masks)
        assert trial.unit_step is None and trial.edge_step is None
        assert trial.accuracy == trial.dense_accuracy < 1


def test_a_threshold_always_reached_prunes_to_the_end_without_a_crash():
    trial = sculpt(TASK, (5, 4), (0,), replace(RECIPE, accuracy_threshold=0.0), SMALL)[0]
    assert trial.reached
    assert trial.density < 0.1


def test_controls():
    edge_only = sculpt(TASK, (10, 8), (0,), RECIPE, control="edge-only")[0]
    assert [pair.edge_step for pair in edge_only.pairs] == [0.5, 1.0, 1.5, 2.0, 2.5, 5.0]
    assert all(pair.unit_step is None for pair in edge_only.pairs)
    dense = sculpt(TASK, (10, 8), (0,), RECIPE, control="dense")[0]
    assert dense.trainings == 1 and dense.pairs == () and dense.density == 1
    assert all(
        np.array_equal(a, b) for a, b in zip(dense.weights, edge_only.dense_weights, strict=True)
    )


def test_text_rules_accept_what_is_as_accurate_as_the_dense_network():
    weak = Recipe(0.02, 8, 2)
    trial = sculpt(TASK, (8, 8), (0,), weak, SMALL, rules="paper")[0]
    assert trial.dense_accuracy < 1
    assert trial.reached
    assert trial.accuracy >= trial.dense_accuracy
    assert trial.density < 1


def test_paths_run_side_by_side_return_in_order():
    def path(length):
        for _ in range(length):
            yield length
        return length

    calls = []

    def train(batch):
        calls.append(list(batch))
        return batch

    returned, counts = run_paths((path(n) for n in (3, 0, 1, 4)), train, at_once=2)
    assert returned == counts == [3, 0, 1, 4]
    assert max(len(call) for call in calls) == 2
    assert sum(len(call) for call in calls) == 8


def test_arrays_are_a_task():
    assert task_of(TASK) is TASK
    task = task_of((INPUTS, TARGETS))
    assert task.input_noise == 0.1 and task.accuracy_threshold == 1
    four = task_of((INPUTS, TARGETS, INPUTS[:4], TARGETS[:4]))
    assert len(four.x_validation) == 4
    with pytest.raises(ConfigurationError, match="Task"):
        task_of(INPUTS)


def test_refused_arguments():
    with pytest.raises(ConfigurationError, match="repeat"):
        sculpt(TASK, (6,), (0, 0))
    with pytest.raises(ConfigurationError, match="widths"):
        sculpt(TASK, (0,), (0,))
    with pytest.raises(ConfigurationError, match="hidden"):
        sculpt(TASK, (), (0,))
    with pytest.raises(ConfigurationError, match="pruning rules"):
        sculpt(TASK, (6,), (0,), rules="text")
    with pytest.raises(ConfigurationError, match="control"):
        sculpt(TASK, (6,), (0,), control="edges")
    for bad in ({"unit_steps": ()}, {"edge_steps": (0.0,)}, {"unit_steps": (100.0,)}):
        with pytest.raises(ConfigurationError, match=next(iter(bad))):
            Grid(**bad)
