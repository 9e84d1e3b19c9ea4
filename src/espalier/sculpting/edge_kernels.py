"""Compiled training of networks given as lists of edges.

Each network is trained on its own, in one pass over its live edges and units, so that neither the
company in a call nor the number of threads can change a bit of its result. Rows of a batch lie
next to each other, in blocks of eight that the compiler turns into vector instructions.

Everything compiled is in this file: numba notices a changed source file, not a changed callee.
"""

from __future__ import annotations

import numba
import numpy as np

BLOCK = 8
VALIDATION_ROWS = 256
_RELAXED = {"reassoc", "contract", "nsz"}


@numba.njit(cache=True, nogil=True)
def shuffled_rows(uniforms: np.ndarray) -> np.ndarray:
    """Return (..., rows) int64: a Fisher-Yates shuffle of the rows per (set, epoch) of uniforms."""
    sets, epochs, rows = uniforms.shape
    order = np.empty((sets, epochs, rows), np.int64)
    for s in range(sets):
        for e in range(epochs):
            for r in range(rows):
                order[s, e, r] = r
            for r in range(rows - 1, 0, -1):
                other = int(uniforms[s, e, r] * (r + 1))
                held = order[s, e, r]
                order[s, e, r] = order[s, e, other]
                order[s, e, other] = held
    return order


@numba.njit(inline="always")
def _accumulate(total, weight, values, blocks):
    for b in range(blocks):
        for r in range(BLOCK):
            total[b, r] += weight * values[b, r]


@numba.njit(fastmath=_RELAXED)
def _forward(values, parameters, source, target, edge_start, fed, fed_start, blocks):
    """Fill the rows of every unit with incoming edges; outputs hold logits."""
    layers = len(edge_start) - 1
    edges = len(source)
    zero = parameters.dtype.type(0)
    for layer in range(layers):
        for k in range(fed_start[layer], fed_start[layer + 1]):
            bias = parameters[edges + k]
            row = values[fed[k]]
            for b in range(blocks):
                for r in range(BLOCK):
                    row[b, r] = bias
        for e in range(edge_start[layer], edge_start[layer + 1]):
            _accumulate(values[target[e]], parameters[e], values[source[e]], blocks)
        if layer < layers - 1:
            for k in range(fed_start[layer], fed_start[layer + 1]):
                row = values[fed[k]]
                for b in range(blocks):
                    for r in range(BLOCK):
                        row[b, r] = max(row[b, r], zero)


@numba.njit(fastmath=_RELAXED)
def _clear_hidden(slopes, source, edge_start, blocks):
    zero = slopes.dtype.type(0)
    for e in range(edge_start[1], edge_start[-1]):
        row = slopes[source[e]]
        for b in range(blocks):
            for r in range(BLOCK):
                row[b, r] = zero


@numba.njit(fastmath=_RELAXED)
def _through_relu(slopes, values, fed, fed_start, layer, blocks):
    zero = slopes.dtype.type(0)
    for k in range(fed_start[layer], fed_start[layer + 1]):
        slope, value = slopes[fed[k]], values[fed[k]]
        for b in range(blocks):
            for r in range(BLOCK):
                if value[b, r] <= zero:
                    slope[b, r] = zero


@numba.njit(fastmath=_RELAXED)
def _backward(
    gradient, slopes, values, parameters, source, target, edge_start, fed, fed_start, blocks
):
    """Fill the gradient from the slopes of the outputs."""
    layers = len(edge_start) - 1
    edges = len(source)
    zero = parameters.dtype.type(0)
    _clear_hidden(slopes, source, edge_start, blocks)
    for layer in range(layers - 1, -1, -1):
        if layer < layers - 1:
            _through_relu(slopes, values, fed, fed_start, layer, blocks)
        for k in range(fed_start[layer], fed_start[layer + 1]):
            row = slopes[fed[k]]
            total = zero
            for b in range(blocks):
                for r in range(BLOCK):
                    total += row[b, r]
            gradient[edges + k] = total
        for e in range(edge_start[layer], edge_start[layer + 1]):
            slope, value = slopes[target[e]], values[source[e]]
            total = zero
            for b in range(blocks):
                for r in range(BLOCK):
                    total += slope[b, r] * value[b, r]
            gradient[e] = total
        if layer > 0:
            for e in range(edge_start[layer], edge_start[layer + 1]):
                _accumulate(slopes[source[e]], parameters[e], slopes[target[e]], blocks)


@numba.njit(fastmath=_RELAXED)
def _output_slopes(slopes, values, first_output, targets, rows, scale, blocks):
    """Set the slope of the loss at each logit: (sigmoid - target) * scale, 0 beyond the rows."""
    one, zero = slopes.dtype.type(1), slopes.dtype.type(0)
    for o in range(targets.shape[0]):
        row, slope = values[first_output + o], slopes[first_output + o]
        for b in range(blocks):
            for r in range(BLOCK):
                at = b * BLOCK + r
                if at < rows:
                    share = one / (one + np.exp(-row[b, r]))
                    slope[b, r] = (share - targets[o, b, r]) * scale
                else:
                    slope[b, r] = zero


@numba.njit(fastmath=_RELAXED)
def _adam(parameters, gradient, mean, square, numbers, mean_share, square_share):
    """One step of Adam; the L2 penalty is part of the gradient, for biases as for weights.

    `numbers` holds learning rate, decay, beta1, beta2, epsilon and 1, in the networks' precision.
    """
    rate, decay, beta1, beta2, epsilon, one = (
        numbers[0],
        numbers[1],
        numbers[2],
        numbers[3],
        numbers[4],
        numbers[5],
    )
    step = rate / mean_share
    root = np.sqrt(square_share)
    for i in range(len(parameters)):
        slope = gradient[i] + decay * parameters[i]
        mean[i] = beta1 * mean[i] + (one - beta1) * slope
        square[i] = beta2 * square[i] + (one - beta2) * slope * slope
        parameters[i] -= step * mean[i] / (np.sqrt(square[i]) / root + epsilon)


@numba.njit(inline="always")
def _load(values, rows_of, first, rows, blocks):
    zero = values.dtype.type(0)
    for i in range(rows_of.shape[1]):
        row = values[i]
        for b in range(blocks):
            for r in range(BLOCK):
                at = b * BLOCK + r
                row[b, r] = rows_of[first + at, i] if at < rows else zero


@numba.njit(fastmath={"contract", "nsz"})
def _row_losses(losses, values, first_output, targets, first, rows):
    """Set the summed loss of each row and return the number of right bits.

    log(1 + e) of all outputs of a row is the log of one product: a log per row, not per bit.
    """
    right = 0
    for r in range(rows):
        block, lane = r // BLOCK, r % BLOCK
        loss, product = 0.0, 1.0
        for o in range(targets.shape[1]):
            logit = values[first_output + o, block, lane]
            target = targets[first + r, o]
            loss += max(np.float64(logit), 0.0) - np.float64(logit) * np.float64(target)
            product *= 1.0 + np.float64(np.exp(-abs(logit)))
            if product > 1e200:
                loss += np.log(product)
                product = 1.0
            if (logit > 0) == (target > 0.5):
                right += 1
        losses[first + r] = loss + np.log(product)
    return right


@numba.njit
def _average_loss(losses, outputs, batch_size, published):
    """Mean loss per bit, or the published average of batch means over one batch too few."""
    rows = len(losses)
    if not published:
        return losses.sum() / (rows * outputs)
    total, batches = 0.0, 0
    for first in range(0, rows, batch_size):
        batch = losses[first : first + batch_size]
        total += batch.sum() / (len(batch) * outputs)
        batches += 1
    return total / (batches - 1) if batches > 1 else np.inf


@numba.njit(cache=True, nogil=True)
def train_edge_lists(
    widths,
    edge_bounds,
    all_edges,
    all_weights,
    all_biases,
    numbers,
    inputs,
    targets,
    validation_inputs,
    validation_targets,
    order,
    noise,
    noise_scale,
    batch_size,
    published_loss,
    score_kind,
    losses_out,
    right_out,
    scores_out,
):
    """Train networks one after the other, in place, and return nothing.

    Network t has the edges `all_edges[edge_bounds[t]:edge_bounds[t + 1]]` (flat positions), the
    weights beside them and the biases `all_biases[t]`; all are replaced by the best checkpoint.

    Args:
        widths: (layers + 1,) int64.
        edge_bounds: (networks + 1,) int64.
        all_edges, all_weights, all_biases: see above; biases (networks, hidden + outputs).
        numbers: (networks, 6), see `_adam`.
        inputs, targets: (rows, n), (rows, m) of the training data.
        validation_inputs, validation_targets: likewise, for accuracy, loss and scores.
        order: (networks, epochs, rows) int64, the rows in the order of each epoch.
        noise: (networks, epochs, rows, n) standard normal numbers by position in the epoch, or
            with no epochs for none.
        noise_scale: standard deviation of the noise.
        batch_size: rows per step.
        published_loss: whether the loss is averaged over one batch too few.
        score_kind: 0 no unit scores, 1 mean of absolute values, 2 absolute value of the mean.
        losses_out, right_out: (networks,), loss and right bits of the best checkpoint.
        scores_out: (networks, hidden), its unit scores.
    """
    layers = len(widths) - 1
    rows, n = inputs.shape
    m = targets.shape[1]
    validation_rows = validation_inputs.shape[0]
    kind = all_weights.dtype.type
    units = widths.sum()
    first_output = units - m
    hidden = first_output - n
    epochs = order.shape[1]
    blocks = (min(batch_size, rows) + BLOCK - 1) // BLOCK
    chunk = min(validation_rows, VALIDATION_ROWS)
    chunk_blocks = (chunk + BLOCK - 1) // BLOCK

    values = np.zeros((units, blocks, BLOCK), all_weights.dtype)
    slopes = np.zeros((units, blocks, BLOCK), all_weights.dtype)
    batch_targets = np.zeros((m, blocks, BLOCK), all_weights.dtype)
    checked = np.zeros((units, chunk_blocks, BLOCK), all_weights.dtype)
    checked_slopes = np.zeros((units, chunk_blocks, BLOCK), all_weights.dtype)
    checked_targets = np.zeros((m, chunk_blocks, BLOCK), all_weights.dtype)
    losses = np.zeros(validation_rows)
    _load(checked, validation_inputs, 0, chunk, chunk_blocks)
    whole = chunk == validation_rows

    for t in range(len(edge_bounds) - 1):
        edges = all_edges[edge_bounds[t] : edge_bounds[t + 1]]
        count = len(edges)
        source = np.empty(count, np.int64)
        target = np.empty(count, np.int64)
        edge_start = np.zeros(layers + 1, np.int64)
        is_fed = np.zeros(units, np.bool_)
        e, offset, first_unit = 0, 0, 0
        for layer in range(layers):
            n_in, n_out = widths[layer], widths[layer + 1]
            edge_start[layer] = e
            while e < count and edges[e] < offset + n_in * n_out:
                at = edges[e] - offset
                source[e] = first_unit + at % n_in
                target[e] = first_unit + n_in + at // n_in
                is_fed[target[e]] = True
                e += 1
            offset += n_in * n_out
            first_unit += n_in
        edge_start[layers] = count
        fed = np.flatnonzero(is_fed)
        fed_start = np.zeros(layers + 1, np.int64)
        last_unit = n
        for layer in range(layers):
            last_unit += widths[layer + 1]
            fed_start[layer + 1] = np.searchsorted(fed, last_unit)

        size = count + len(fed)
        parameters = np.empty(size, all_weights.dtype)
        parameters[:count] = all_weights[edge_bounds[t] : edge_bounds[t + 1]]
        for k in range(len(fed)):
            parameters[count + k] = all_biases[t, fed[k] - n]
        best = parameters.copy()
        gradient = np.zeros(size, all_weights.dtype)
        mean = np.zeros(size, all_weights.dtype)
        square = np.zeros(size, all_weights.dtype)
        values[n:] = 0
        slopes[:] = 0
        checked[n:] = 0
        best_loss, best_right = np.inf, 0
        powers1, powers2 = 1.0, 1.0
        beta1, beta2 = np.float64(numbers[t, 2]), np.float64(numbers[t, 3])

        for epoch in range(epochs):
            for first in range(0, rows, batch_size):
                here = min(batch_size, rows - first)
                for b in range(blocks):
                    for r in range(BLOCK):
                        at = b * BLOCK + r
                        if at < here:
                            row = order[t, epoch, first + at]
                            for i in range(n):
                                values[i, b, r] = inputs[row, i]
                            for o in range(m):
                                batch_targets[o, b, r] = targets[row, o]
                            if noise.shape[1] > 0:
                                for i in range(n):
                                    values[i, b, r] += kind(
                                        noise_scale * noise[t, epoch, first + at, i]
                                    )
                        else:
                            for i in range(n):
                                values[i, b, r] = kind(0)
                _forward(values, parameters, source, target, edge_start, fed, fed_start, blocks)
                scale = kind(1.0 / (here * m))
                _output_slopes(slopes, values, first_output, batch_targets, here, scale, blocks)
                _backward(
                    gradient,
                    slopes,
                    values,
                    parameters,
                    source,
                    target,
                    edge_start,
                    fed,
                    fed_start,
                    blocks,
                )
                powers1 *= beta1
                powers2 *= beta2
                _adam(
                    parameters,
                    gradient,
                    mean,
                    square,
                    numbers[t],
                    kind(1.0 - powers1),
                    kind(1.0 - powers2),
                )
            right = 0
            for first in range(0, validation_rows, chunk):
                here = min(chunk, validation_rows - first)
                if not whole:
                    _load(checked, validation_inputs, first, here, chunk_blocks)
                _forward(
                    checked, parameters, source, target, edge_start, fed, fed_start, chunk_blocks
                )
                right += _row_losses(losses, checked, first_output, validation_targets, first, here)
            loss = _average_loss(losses, m, batch_size, published_loss)
            if (loss <= best_loss and right >= best_right) or right > best_right:
                best_loss, best_right = loss, right
                best[:] = parameters

        all_weights[edge_bounds[t] : edge_bounds[t + 1]] = best[:count]
        all_biases[t] = 0
        for k in range(len(fed)):
            all_biases[t, fed[k] - n] = best[count + k]
        losses_out[t], right_out[t] = best_loss, best_right

        if score_kind > 0:
            checked_slopes[:] = 0
            for first in range(0, validation_rows, chunk):
                here = min(chunk, validation_rows - first)
                if not whole:
                    _load(checked, validation_inputs, first, here, chunk_blocks)
                for r in range(here):
                    for o in range(m):
                        checked_targets[o, r // BLOCK, r % BLOCK] = validation_targets[first + r, o]
                _forward(checked, best, source, target, edge_start, fed, fed_start, chunk_blocks)
                _output_slopes(
                    checked_slopes,
                    checked,
                    first_output,
                    checked_targets,
                    here,
                    kind(1.0 / m),
                    chunk_blocks,
                )
                _backward(
                    gradient,
                    checked_slopes,
                    checked,
                    best,
                    source,
                    target,
                    edge_start,
                    fed,
                    fed_start,
                    chunk_blocks,
                )
                for u in range(hidden):
                    if is_fed[n + u]:
                        total = 0.0
                        for r in range(here):
                            product = np.float64(
                                checked[n + u, r // BLOCK, r % BLOCK]
                                * checked_slopes[n + u, r // BLOCK, r % BLOCK]
                            )
                            total += abs(product) if score_kind == 1 else product
                        scores_out[t, u] += total
            for u in range(hidden):
                scores_out[t, u] = abs(scores_out[t, u]) / validation_rows
