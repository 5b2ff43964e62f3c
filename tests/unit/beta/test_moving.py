"""Moving mean and deviation."""

import pytest
import torch

from betahead.beta.moving import SMALLEST_DEVIATION, MovingMoments


def batches(number: int, pairs: int = 6) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    return [1.0 + 2.0 * torch.randn(pairs, generator=rng, dtype=torch.float64) for _ in range(number)]


@pytest.mark.parametrize("start", ["zero", "corrected"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_they_are_the_weighted_moments_of_the_batches_so_far(momentum: float, start: str) -> None:
    moments = MovingMoments(momentum, start).double()
    mean = deviation = 0.0
    for number, batch in enumerate(batches(5), start=1):
        found = moments(batch)
        values = batch.tolist()
        middle = sum(values) / len(values)
        spread = (sum((x - middle) ** 2 for x in values) / (len(values) - 1)) ** 0.5
        mean = momentum * mean + (1 - momentum) * middle
        deviation = momentum * deviation + (1 - momentum) * spread
        scale = 1.0 if start == "zero" else 1 - momentum**number
        assert [float(x) for x in found] == pytest.approx([mean / scale, deviation / scale], rel=1e-12)


def test_the_corrected_start_gives_the_first_batch_its_own_moments() -> None:
    (batch,) = batches(1)
    mean, deviation = MovingMoments(0.9, "corrected").double()(batch)
    torch.testing.assert_close(mean, batch.mean())
    torch.testing.assert_close(deviation, batch.std())
    # From zero the first mean is a tenth of it.
    torch.testing.assert_close(MovingMoments(0.9).double()(batch)[0], 0.1 * batch.mean())


@pytest.mark.parametrize("start", ["zero", "corrected"])
def test_margins_that_are_all_zero_have_a_deviation_that_one_can_divide_by(start: str) -> None:
    mean, deviation = MovingMoments(0.9, start)(torch.zeros(4))
    assert (float(mean), float(deviation)) == (0.0, pytest.approx(SMALLEST_DEVIATION))


@pytest.mark.parametrize("start", ["zero", "corrected"])
def test_a_batch_of_one_is_measured_by_those_before_it_and_moves_nothing(start: str) -> None:
    moments, one = MovingMoments(0.5, start).double(), torch.tensor([3.0], dtype=torch.float64)
    # Before all others it is measured by itself, without a warning about its deviation.
    assert [float(value) for value in moments(one)] == [3.0, SMALLEST_DEVIATION]
    first, second = batches(2)
    held = moments(first)
    assert moments(one) == held
    alone = MovingMoments(0.5, start).double()
    alone(first)
    assert moments(second) == alone(second)


def test_evaluation_moves_nothing() -> None:
    moments = MovingMoments(0.9).double()
    first, second = batches(2)
    held = moments(first)
    moments.eval()
    state = {name: value.clone() for name, value in moments.state_dict().items()}
    assert moments(second) == held
    assert all(torch.equal(value, state[name]) for name, value in moments.state_dict().items())


@pytest.mark.parametrize("start", ["zero", "corrected"])
def test_evaluation_before_any_training_measures_by_the_values_themselves(start: str) -> None:
    (batch,) = batches(1)
    mean, deviation = MovingMoments(0.9, start).double().eval()(batch)
    torch.testing.assert_close(mean, batch.mean())
    torch.testing.assert_close(deviation, batch.std())


def test_the_values_get_moments_of_their_own_dtype_whatever_the_state_has() -> None:
    assert MovingMoments(0.9)(torch.ones(2, dtype=torch.float64))[0].dtype == torch.float64
