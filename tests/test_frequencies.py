"""Tables that polynomials with equal frequencies share: right values, and nothing drawn later suffers from changes."""

import pytest
import torch

from stability.deformations.fourier import FourierField
from stability.deformations.modes import disc, distinct, lattice

SIZE = (12, 20)


def test_waves_and_tables_are_exponentials():
    frequencies = lattice(disc(SIZE, 3), SIZE, constant=True)
    rng = torch.Generator().manual_seed(0)
    points, offset = torch.rand(2, 5, 2, generator=rng, dtype=torch.float64) * 12
    expected = torch.exp(1j * (points @ frequencies.omega.T))
    torch.testing.assert_close(frequencies.waves(points), expected, rtol=0, atol=1e-13)
    z = torch.randn(len(frequencies.omega), generator=rng, dtype=torch.complex128)
    moved = frequencies.table(offset) @ torch.view_as_real(frequencies.waves(points) * z).flatten(1).T  # (S, P)
    phase = (offset[:, None] + points) @ frequencies.omega.T
    torch.testing.assert_close(moved, (torch.exp(1j * phase) * z).sum(-1).real, rtol=0, atol=1e-12)


@pytest.mark.parametrize("counts", [(5,), (4, 7), (1, 1)])
def test_neighbours_are_those_of_a_torus(counts):
    size = SIZE[: len(counts)]
    grid = lattice(disc(size, 2), size).grid(counts)
    nodes = torch.arange(grid.counts[0] * grid.counts[-1] if len(counts) == 2 else counts[0]).reshape(counts)
    place = tuple(axis.flatten() for axis in torch.meshgrid(*map(torch.arange, counts), indexing="ij"))
    shifts = [(x,) for x in (-1, 0, 1)] if len(counts) == 1 else [(y, x) for x in (-1, 0, 1) for y in (-1, 0, 1)]
    axes = tuple(range(len(counts)))
    rolled = [nodes.roll(tuple(-step for step in shift), axes).flatten() for shift in shifts]
    assert torch.equal(grid.neighbours(place), torch.stack(rolled))


def test_equal_modes_have_the_same_tables_and_others_their_own():
    modes = disc(SIZE, 3)
    assert lattice(modes, SIZE) is lattice(modes.clone(), SIZE)
    different = [lattice(-modes, SIZE), lattice(modes, (12, 24)), lattice(modes, SIZE, constant=True)]
    assert all(one is not lattice(modes, SIZE) for one in different)


def test_modes_that_somebody_changes_do_not_spoil_later_draws():
    def draw():
        return FourierField.sample(SIZE, cutoff=3, batch_shape=(2,), generator=torch.Generator().manual_seed(0))

    expected = draw().on_grid()
    field = draw()
    field.modes.mul_(2)
    assert not torch.equal(field.on_grid(), expected)
    assert torch.equal(draw().on_grid(), expected)


def test_tables_made_in_inference_mode_serve_gradients():
    size = (10, 14)
    with torch.inference_mode():
        drawn = FourierField.sample(size, cutoff=2, generator=torch.Generator().manual_seed(0))
        drawn.on_grid()
        assert float(drawn.norms().jacobian.lower) > 0
    cosine = drawn.cosine.clone().requires_grad_()
    field = FourierField(disc(size, 2), cosine, torch.zeros(cosine.shape, dtype=torch.float64), size=size)
    (gradient,) = torch.autograd.grad(field.on_grid().square().sum(), cosine)
    assert bool((gradient != 0).any())


def test_modes_that_are_zero_or_equal_up_to_sign_are_not_distinct():
    assert distinct(torch.tensor([[1, 0], [0, 1], [1, 1], [-1, 1]]))
    assert not distinct(torch.tensor([[1, 0], [0, 0]]))
    assert not distinct(torch.tensor([[1, 2], [-1, -2]]))
    assert not distinct(torch.tensor([[1, 2], [1, 2]]))
