"""Initializers against NumPy's eigenvalues."""

import keras
import numpy as np
import pytest

from rnnkit.initializers import SpectralRadius


@pytest.mark.parametrize("radius", [0.3, 1.0, 1.5])
def test_spectral_radius_is_as_asked_and_the_largest_singular_value_above_it(radius):
    matrix = np.asarray(SpectralRadius(radius, seed=4)((24, 24)))
    assert np.abs(np.linalg.eigvals(matrix)).max() == pytest.approx(radius, rel=1e-4)
    assert np.linalg.svd(matrix, compute_uv=False)[0] > 1.2 * radius


def test_it_serves_and_is_saved_as_a_recurrent_initializer(tmp_path):
    model = keras.Sequential(
        [keras.Input((None, 2)), keras.layers.SimpleRNN(5, recurrent_initializer=SpectralRadius(0.7, seed=0))]
    )
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras").layers[0].cell.recurrent_initializer
    assert again.get_config() == {"radius": 0.7, "seed": 0}
    W = model.layers[0].get_weights()[1]
    np.testing.assert_allclose(np.asarray(again((5, 5))), W)


def test_without_a_seed_every_matrix_is_another():
    assert not np.allclose(SpectralRadius(1.0)((4, 4)), SpectralRadius(1.0)((4, 4)))


@pytest.mark.parametrize("radius", [0, -1.0, float("nan"), float("inf"), "large"])
def test_a_radius_that_is_none_is_refused(radius):
    with pytest.raises(ValueError, match="`radius` must be"):
        SpectralRadius(radius)


def test_a_shape_that_is_not_square_is_refused():
    with pytest.raises(ValueError, match=r"square matrix.*\(2, 4\).*recurrent_initializer"):
        SpectralRadius(0.9)((2, 4))
