"""Singular values of long products of matrices, each to high relative accuracy, however far apart they are.

A product of a thousand Jacobians holds values a hundred orders of magnitude below its largest one: summed up in
float64 they are gone. Here the product is kept as an orthonormal basis times a *graded* factor, as in G. W. Stewart
(1995), "On graded QR decompositions of products of matrices", Electronic Transactions on Numerical Analysis 3, 39-49:
rows of about unit length, and their sizes apart, as powers of two, so that nothing underflows. The values of such a
factor come from one-sided Jacobi rotations, for which only the angles between the rows matter: Z. Drmač & K. Veselić
(2008), "New fast and accurate Jacobi SVD algorithm I", SIAM Journal on Matrix Analysis and Applications 29, 1322-1342.
"""

import numpy as np

_CHUNK = 2**18  # numbers rotated at once: about what a processor's cache holds
_SWEEPS = 60  # some six are usual


def log_singular_values(jacobians, block=slice(None)):
    """Return the natural logarithms of the singular values of a block of J_T ... J_{t+1}, for t = 0 ... T.

    The Jacobians are taken as they are: right to float64's rounding, relative to each value, as long as rounding the
    entries of one Jacobian would not change the value much. Values that zero rows or columns make zero are -inf.

    Args:
        jacobians: finite array (batch, time, total, total): J_1 ... J_T.
        block: slice of the states: the rows and columns of the product that are wanted.

    Returns:
        array (batch, time + 1, units), descending along the last axis; of the empty product, zeros, at the end.
    """
    batch, time, total, _ = jacobians.shape
    units = len(range(total)[block])
    values = np.empty((batch, time + 1, units))
    at_once = max(1, _CHUNK // (batch * units**2))
    waiting = []
    for t, factor in zip(range(time, -1, -1), _products(jacobians, block), strict=True):
        waiting.append(factor)
        if len(waiting) == at_once or t == 0:
            powers, rows = (np.stack(part[::-1], axis=1) for part in zip(*waiting, strict=True))
            found = _factor_values(powers.reshape(-1, units), rows.reshape(-1, units, units))
            values[:, t : t + len(waiting)] = found.reshape(batch, -1, units)
            waiting = []
    return values


def last_log_singular_values(jacobians):
    """Return those of the whole product J_T ... J_1 alone, an array (batch, total)."""
    *_, (powers, rows) = _products(jacobians, slice(None))
    return _factor_values(powers, rows)


def _products(jacobians, block):
    """Yield (powers, rows) for the empty product, J_T, J_T J_{T-1}, ..., J_T ... J_1.

    The block has the singular values of diag(2**powers) rows. Followed is its transpose: the columns of the identity
    that make the block, led back through J_T^T, J_{T-1}^T and so on, after each as basis diag(2**powers) rows.
    """
    batch, time, total, _ = jacobians.shape
    units = len(range(total)[block])
    # In a basis of no special direction the columns come to stand in the order of their growth, as they have to. In
    # the identity's own a triangular kernel could keep them in the wrong one for ever.
    start, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(units, units)))
    basis = np.zeros((batch, total, units))
    basis[:, block] = start
    powers, rows = np.zeros((batch, units)), np.broadcast_to(start.T, (batch, units, units))

    def of_block():
        if units == total:  # an orthonormal factor changes no singular value
            return powers, rows
        return _multiplied(_row_sorted_qr(basis[:, block])[1], powers, rows)

    yield of_block()
    for t in reversed(range(time)):
        # J = diag(sizes) directions, one after the other, so that its small rows, or rows of zeros, are kept apart.
        sizes = np.abs(jacobians[:, t]).max(axis=-1, keepdims=True)
        directions = jacobians[:, t] / np.where(sizes > 0, sizes, 1)
        basis, triangle = _row_sorted_qr(sizes * basis)
        powers, rows = _multiplied(triangle, powers, rows)
        basis, triangle = _row_sorted_qr(directions.swapaxes(-1, -2) @ basis)
        powers, rows = _multiplied(triangle, powers, rows)
        yield of_block()


def _row_sorted_qr(matrix):
    """Return the QR factors of a batch of matrices; the columns of Q that no row of R needs are zeros.

    With its rows from large to small, Householder's method keeps the digits of the small ones, and zeros stay zeros:
    A. J. Cox & N. J. Higham (1998), "Stability of Householder QR factorization for weighted least squares problems".
    """
    order = np.argsort(-np.abs(matrix).max(axis=-1), axis=-1)[..., None]
    sorted_basis, triangle = np.linalg.qr(np.take_along_axis(matrix, order, axis=-2))
    basis = np.empty_like(sorted_basis)
    np.put_along_axis(basis, order, sorted_basis, axis=-2)
    return basis * triangle.any(axis=-1)[..., None, :], triangle


def _multiplied(matrix, powers, rows):
    """Return `matrix @ diag(2**powers) @ rows` as (powers, rows), the largest entry of a row between 0.5 and 1.

    The powers are whole numbers, so that nothing is rounded however many are added; -inf goes with a row of zeros.
    """
    fractions, exponents = np.frexp(matrix)
    exponents = np.where(matrix == 0, -np.inf, exponents + powers[..., None, :])
    largest = exponents.max(axis=-1)
    largest[np.isneginf(largest)] = 0
    product = (fractions * np.exp2(exponents - largest[..., None])) @ rows
    sizes = np.frexp(np.abs(product).max(axis=-1))[1]
    return np.where(product.any(axis=-1), largest + sizes, -np.inf), np.ldexp(product, -sizes[..., None])


def _factor_values(powers, rows):
    """Return the natural logarithms of the singular values of diag(2**powers) rows, descending; for a batch of them."""
    count, units = powers.shape
    # The triangular factor of rows that stand from large to small is nearly diagonal: that halves the sweeps to come.
    order = np.argsort(-powers, axis=-1)
    powers, rows = np.take_along_axis(powers, order, axis=-1), np.take_along_axis(rows, order[..., None], axis=-2)
    powers, triangle = _multiplied(np.linalg.qr(rows.swapaxes(-1, -2), mode="r"), powers, np.eye(units))

    # An even number of rows, so that each has a partner, and the number of the row first: taking rows is fast then.
    logs, rows = np.full((units + units % 2, count), -np.inf), np.zeros((units + units % 2, count, units))
    sizes, rows[:units] = _unit(triangle.swapaxes(0, 1))
    logs[:units] = np.log(2) * powers.T + sizes
    players, half = np.arange(len(rows)), len(rows) // 2
    for _ in range(_SWEEPS):
        largest_cosine = 0
        for _ in players[1:]:  # a round-robin tournament: after so many rounds each has met each
            cosines = _rotate(logs, rows, players[:half], players[: half - 1 : -1])
            largest_cosine = max(largest_cosine, np.abs(cosines).max())
            players[1:] = np.roll(players[1:], 1)
        if largest_cosine < 1e-10:  # each of the last sweeps squares the cosines: now they are rounding
            return -np.sort(-logs[:units].T, axis=-1)
    raise RuntimeError(f"Singular values must settle within {_SWEEPS} sweeps of rotations. Please report the model.")


def _rotate(logs, rows, first, second):
    """Turn each row of `first` and its partner of `second`, in place, until the two are orthogonal.

    Returns the cosines of the angles before. With rho the ratio of the sizes of the smaller and the larger row, and t
    the tangent of Hestenes's rotation, t / rho stays finite where rho underflows: the rotation then takes from the
    small row its part along the large one, and leaves the large one as it is.
    """
    logs_1, logs_2, rows_1, rows_2 = logs[first], logs[second], rows[first], rows[second]
    cosines = np.einsum("ijk,ijk->ij", rows_1, rows_2)
    gaps = np.subtract(logs_1, logs_2, out=np.zeros_like(logs_1), where=np.isfinite(np.maximum(logs_1, logs_2)))
    rho_squared, rest = np.exp(-2 * np.abs(gaps)), -np.expm1(-2 * np.abs(gaps))  # rest = 1 - rho^2
    below = rest + np.sqrt(rest**2 + 4 * cosines**2 * rho_squared)
    ratio = -2 * cosines / np.where(below > 0, below, 1)  # t / rho
    of_second = np.where(gaps >= 0, -ratio * rho_squared, ratio)
    of_first = np.where(gaps >= 0, ratio, -ratio * rho_squared)
    log_cosine_of_turn = -np.log1p(ratio**2 * rho_squared) / 2
    for place, row, other, share in ((first, rows_1, rows_2, of_second), (second, rows_2, rows_1, of_first)):
        sizes, rows[place] = _unit(row + share[..., None] * other)
        logs[place] += sizes + log_cosine_of_turn
    return cosines


def _unit(rows):
    """Return the logarithms of the lengths of rows, -inf for zeros, and the rows of unit length."""
    lengths = np.sqrt(np.einsum("...i,...i->...", rows, rows))
    with np.errstate(divide="ignore"):
        return np.log(lengths), rows / np.where(lengths > 0, lengths, 1)[..., None]
