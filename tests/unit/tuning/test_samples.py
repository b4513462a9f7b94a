"""Sample inputs, grouped by their shapes."""

from __future__ import annotations

import numpy as np
import pytest

from dioe.graph import Model
from dioe.tuning.samples import shape_groups
from dioe.types import Array, InputError
from tests.toys import models


def rows(n: int, width: int = 8, *, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)


@pytest.fixture
def model() -> Model:
    return Model.load(models.dense())


def test_one_feed_is_one_group(model: Model) -> None:
    x = rows(3)
    (group,) = shape_groups(model, {"x": x})
    assert group.real
    assert group.shapes == {"x": (3, 8)}
    assert group.feeds[0]["x"] is x


def test_feeds_of_the_same_shapes_go_together_in_order(model: Model) -> None:
    samples = [{"x": rows(n, seed=i)} for i, n in enumerate((3, 1, 3, 2, 1, 3))]
    groups = shape_groups(model, samples)
    assert [group.shapes["x"][0] for group in groups] == [3, 1, 2]
    assert [len(group.feeds) for group in groups] == [3, 2, 1]
    assert groups[0].feeds[1]["x"] is samples[2]["x"]


@pytest.mark.parametrize("samples", [None, [], ()])
def test_no_samples_are_made_up(model: Model, samples: list[dict[str, Array]] | None) -> None:
    (group,) = shape_groups(model, samples)
    assert not group.real
    x = np.asarray(group.feeds[0]["x"])
    assert group.shapes == {"x": x.shape}
    assert x.std() > 0
    again = shape_groups(model, samples)[0].feeds[0]["x"]
    np.testing.assert_array_equal(x, np.asarray(again))


def test_made_up_inputs_take_the_shapes_given(model: Model) -> None:
    (group,) = shape_groups(model, None, shapes={"x": (6, 8)})
    assert group.shapes == {"x": (6, 8)}
    with pytest.raises(InputError, match="dimension 1"):
        shape_groups(model, None, shapes={"x": (6, 9)})


def test_state_left_out_starts_as_zeros_of_the_same_batch() -> None:
    model = Model.load(models.accumulator("N, 3"))
    (group,) = shape_groups(model, {"x": rows(5, 3)}, state={"s2": "s"})
    np.testing.assert_array_equal(np.asarray(group.feeds[0]["s"]), np.zeros((5, 3), np.float32))
    given = rows(5, 3, seed=1)
    (group,) = shape_groups(model, {"x": rows(5, 3), "s": given}, state={"s2": "s"})
    assert group.feeds[0]["s"] is given


def test_state_left_out_without_being_declared_is_missing() -> None:
    with pytest.raises(InputError, match="missing input: s"):
        shape_groups(Model.load(models.accumulator()), {"x": rows(1, 3)})


def test_python_lists_are_converted(model: Model) -> None:
    (group,) = shape_groups(model, {"x": [[1, 2, 3, 4, 5, 6, 7, 8]]})
    assert np.asarray(group.feeds[0]["x"]).dtype == np.float32
