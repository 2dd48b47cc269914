"""In which forms a model takes images, and what is said of others."""

import numpy as np
import pytest

from tinyqae import Adam, Commit, MLPAutoencoder, fit
from tinyqae.arguments import as_images

GRAY, COLOUR = (6, 4, 1), (6, 4, 3)


def images(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(
    ("shape", "input_shape", "n"),
    [
        ((5, 6, 4, 3), COLOUR, 5),
        ((6, 4, 3), COLOUR, 1),
        ((0, 6, 4, 3), COLOUR, 0),
        ((5, 6, 4, 1), GRAY, 5),
        ((5, 6, 4), GRAY, 5),
        ((6, 4, 1), GRAY, 1),
        ((6, 4), GRAY, 1),
        ((0, 6, 4), GRAY, 0),
        ((4, 4, 1), (4, 1, 1), 4),
        ((4, 1, 1), (4, 1, 1), 1),
        ((4, 4, 4), (4, 4, 1), 4),
        ((3, 3, 3), (3, 3, 3), 1),
    ],
)
def test_the_models_shape_tells_forms_of_images_apart(shape, input_shape, n):
    given = images(*shape)
    found = as_images(given, input_shape)
    assert found.shape == (n, *input_shape)
    np.testing.assert_array_equal(found.ravel(), given.ravel())


@pytest.mark.parametrize(
    ("shape", "input_shape"),
    [
        ((5, 6, 4), COLOUR),
        ((6, 4), COLOUR),
        ((5, 4, 6, 3), COLOUR),
        ((1, 5, 6, 4, 3), COLOUR),
        ((), COLOUR),
        ((), GRAY),
        ((4, 6), GRAY),
        ((24,), GRAY),
        ((1, 5, 6, 4), GRAY),
        ((5, 6, 4, 3), GRAY),
    ],
)
def test_another_shape_is_refused(shape, input_shape):
    with pytest.raises(ValueError, match=r"images have shape \(.*\); this model takes \(N, 6, 4, [13]\), or one image"):
        as_images(images(*shape), input_shape)


def test_every_form_has_the_code_of_the_images(engine):
    model, given = MLPAutoencoder(Commit(), 7, GRAY), images(5, *GRAY)
    code = model.encode(given)
    for form in (given[..., 0], list(given), given[..., 0] / 255):
        np.testing.assert_array_equal(model.encode(form), code)
    for form in (given[0], given[0, ..., 0]):
        np.testing.assert_array_equal(model.encode(form), code[:1])
    np.testing.assert_array_equal(model.reconstruct(given[..., 0]), model.reconstruct(given))
    assert model.validate(given[..., 0]) == model.validate(given)
    history = fit(model, given[..., 0], Adam(), epochs=1, progress=False, validation=given[..., 0])
    assert history.rows[0].keys() >= {"reconstruction", "val_psnr"}


def test_a_tensor_of_pytorch(torch):
    model, given = MLPAutoencoder(Commit(), 7, GRAY), images(5, *GRAY)
    for form in (torch.tensor(given), torch.tensor(given[..., 0]), torch.tensor(given).permute(0, 2, 1, 3).transpose(1, 2)):
        np.testing.assert_array_equal(model.encode(form), model.encode(given))
    assert as_images(tensor := torch.tensor(given), GRAY).ctypes.data == tensor.data_ptr()


def test_a_tensor_in_gpu_memory_is_refused_in_one_line():
    class Tensor:
        shape = (5, *GRAY)

        def __dlpack_device__(self):
            return 2, 0  # kDLCUDA.

    with pytest.raises(TypeError, match=r"^images are a Tensor in GPU memory, but the backend is NumPy: copy them to .*$"):
        MLPAutoencoder(Commit(), 7, GRAY).encode(Tensor())


def test_an_optimizers_class_is_no_optimizer():
    with pytest.raises(TypeError, match=r"optimizer=<class 'tinyqae.optim.Adam'> must be an optimizer object, such as Adam"):
        fit(MLPAutoencoder(Commit(), 7, GRAY), images(5, *GRAY), Adam)
