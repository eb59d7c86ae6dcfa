import pytest
import torch

from stability.deformations.affine import AffineField
from stability.deformations.control import control
from stability.deformations.flow import FlowField
from stability.deformations.fourier import FourierField
from stability.deformations.inverse import inverse
from stability.deformations.points import push_boxes, push_masks, push_points
from stability.deformations.thin_plate import ThinPlateField
from stability.deformations.translation import Translation
from stability.grid import band_limit, coordinates
from stability.warps.band_limited import BandLimitedWarp
from stability.warps.index import IndexWarp

SIZE = (32, 32)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def fourier(count=2, b=0.4, a=2.0, seed=0):
    field = FourierField.sample(SIZE, cutoff=2, batch_shape=(count,), generator=rng(seed))
    return control(field, displacement_norm=a, jacobian_norm=b)


def blobs(centres, width=1.6):
    """Periodic Gaussian blobs ``(K, 1, *SIZE)``."""
    gap = coordinates(SIZE) - centres[:, None, None]
    gap = gap - 32 * torch.round(gap / 32)
    return torch.exp(-gap.square().sum(-1) / (2 * width**2))[:, None]


def test_a_warped_blob_has_its_peak_where_its_centre_is_pushed():
    tau, centres = fourier()[0], 32 * torch.rand(6, 2, generator=rng(1), dtype=torch.float64)
    warped = BandLimitedWarp(oversample=1)(band_limit(blobs(centres)), tau)[:, 0]
    pushed = push_points(tau, centres)
    for image, place, centre in zip(warped, pushed, centres, strict=True):
        # the logarithm of a warped Gaussian is smooth: a parabola through the pixels near the peak finds it
        flat = int(image.argmax())
        row, column = divmod(flat, 32)
        near = torch.stack([image.roll((1 - row, 1 - column), (0, 1))[i, j] for i in range(3) for j in range(3)])
        f = near.log().reshape(3, 3)
        shift = torch.stack([
            (f[1, 2] - f[1, 0]) / (2 * (2 * f[1, 1] - f[1, 0] - f[1, 2])),
            (f[2, 1] - f[0, 1]) / (2 * (2 * f[1, 1] - f[0, 1] - f[2, 1])),
        ])  # fmt: skip
        found = torch.tensor([column, row]).double() + shift

        def off(target, found=found):
            gap = found - target
            return float((gap - 32 * torch.round(gap / 32)).norm())

        assert off(place) < 0.1
        assert off(centre - tau.displacement(centre)) > 2 * off(place)  # the other way round


def test_pushed_points_solve_the_equation():
    tau, p = fourier(), 32 * torch.rand(2, 7, 2, generator=rng(2), dtype=torch.float64)
    v = push_points(tau, p)
    torch.testing.assert_close(v - tau.displacement(v, each=True), p, rtol=0, atol=1e-11)
    p = torch.tensor([[3.0, 4.0], [31.5, 2.0]], dtype=torch.float64)
    torch.testing.assert_close(push_points(Translation((3.0, -1.0), SIZE), p), p + torch.tensor([3.0, -1.0]).double())
    turn = AffineField.rotation(0.5, centre=(10.0, 12.0), size=SIZE)
    torch.testing.assert_close(push_points(turn, torch.tensor([[10.0, 12.0]])), torch.tensor([[10.0, 12.0]]).double())
    flow = FlowField(fourier(b=1.0, a=4.0))
    v = push_points(flow, p)
    torch.testing.assert_close(v - flow.displacement(v, each=True), p.expand(2, 2, 2), rtol=0, atol=1e-9)


def test_batches_of_points_and_fields_broadcast():
    tau, p = fourier(), 32 * torch.rand(3, 1, 5, 2, generator=rng(3), dtype=torch.float64)
    v = push_points(tau, p)
    assert v.shape == (3, 2, 5, 2)
    torch.testing.assert_close(v[2, 1], push_points(tau[1], p[2, 0]), rtol=0, atol=1e-11)


def test_gradients_flow_through_pushed_points():
    tau = fourier()[0]
    p = torch.tensor([[4.0, 9.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda at: push_points(tau, at), (p,), atol=1e-7)


@pytest.mark.parametrize("kind", ["fourier", "flow", "rotation"])
def test_boxes_contain_the_moved_boxes_and_little_more(kind):
    tau = {
        "fourier": fourier,
        "flow": lambda: FlowField(fourier(b=0.7, a=3.0)),
        "rotation": lambda: AffineField.rotation(torch.tensor([0.2, 0.7]), size=SIZE),
    }[kind]()
    boxes = torch.tensor([[4.0, 6.0, 12.0, 9.0], [20.0, 1.0, 20.5, 30.0], [7.0, 7.0, 7.0, 7.0]]).double()
    found = push_boxes(tau, boxes.expand(2, 3, 4))
    share = torch.cartesian_prod(*(torch.linspace(0, 1, 41, dtype=torch.float64),) * 2)
    inside = boxes[:, None, :2] + share * (boxes[:, None, 2:] - boxes[:, None, :2])  # (3, 1681, 2)
    for i in range(2):
        moved = push_points(tau[i], inside.flatten(0, 1)).unflatten(0, (3, -1))
        low, high = moved.amin(1), moved.amax(1)
        assert bool((found[i, :, :2] <= low + 1e-12).all())
        assert bool((found[i, :, 2:] >= high - 1e-12).all())
        assert bool((found[i, :, :2] >= low - 0.02).all())
        assert bool((found[i, :, 2:] <= high + 0.02).all())


def test_the_corners_alone_do_not_contain_a_box():
    tau, boxes = fourier(count=4), torch.tensor([[4.0, 6.0, 20.0, 26.0]]).double()
    found = push_boxes(tau, boxes)
    corners = push_points(tau, boxes[0][torch.tensor([[0, 1], [2, 1], [0, 3], [2, 3]])])
    missed = torch.maximum(corners.amin(-2) - found[:, 0, :2], found[:, 0, 2:] - corners.amax(-2))
    assert float(missed.max()) > 0.2


def test_a_mask_of_a_disc_moves_as_the_nearest_pixel_says():
    tau, u = fourier(), coordinates(SIZE)
    centre = torch.tensor([14.0, 17.0]).double()
    disc = (u - centre).norm(dim=-1) <= 8
    moved = push_masks(tau, disc)
    assert moved.dtype == torch.bool
    assert moved.shape == (2, 32, 32)
    nearest = torch.floor(u - tau.displacement(u) + 0.5)
    assert torch.equal(moved, (nearest - centre).norm(dim=-1) <= 8)
    # its centre of mass is that of the pushed disc, where a pixel at u has become det(I - grad sigma) as large
    weight = torch.linalg.det(torch.eye(2).double() - inverse(tau).jacobian(u[disc]))[..., None]
    expected = (weight * push_points(tau, u[disc])).sum(-2) / weight.sum(-2)
    found = torch.stack([u[one].mean(0) for one in moved])
    assert float((found - expected).norm(dim=-1).max()) < 0.15


def test_labels_stay_labels_and_agree_with_the_index_warp():
    tau = fourier()
    labels = torch.randint(-3, 200, (2, *SIZE), generator=rng(4), dtype=torch.int16)
    moved = push_masks(tau, labels)
    assert moved.dtype == torch.int16
    assert torch.equal(moved.double(), IndexWarp()(labels[:, None].double(), tau)[:, 0])
    assert push_masks(tau, labels[:, None]).shape == (2, 2, *SIZE)
    assert push_masks(Translation((1.0,), size=(4,)), torch.tensor([7, 0, 0, 5])).tolist() == [5, 7, 0, 0]


def test_wrong_uses_are_one_clear_error():
    tau = fourier()
    with pytest.raises(ValueError, match=r"points must be a tensor \(..., K, 2\)"):
        push_points(tau, torch.zeros(4, 3))
    with pytest.raises(ValueError, match="points must be a tensor"):
        push_points(tau, torch.zeros(2))
    with pytest.raises(ValueError, match="must broadcast with the batch"):
        push_points(tau, torch.zeros(3, 5, 2))
    with pytest.raises(ValueError, match=r"boxes must be \(x_0, y_0, x_1, y_1\)"):
        push_boxes(tau, torch.tensor([[3.0, 0.0, 1.0, 2.0]]))
    with pytest.raises(ValueError, match="boxes need fields of the plane"):
        push_boxes(Translation((1.0,), size=(8,)), torch.zeros(1, 4))
    with pytest.raises(ValueError, match="masks must be bool or integer"):
        push_masks(tau, torch.zeros(SIZE))
    with pytest.raises(ValueError, match="masks must live on the field's grid"):
        push_masks(tau, torch.zeros(8, 8, dtype=torch.bool))
    plate = ThinPlateField.sample(SIZE, generator=rng(5)) * 0.1
    with pytest.raises(ValueError, match="certified inverse"):
        push_boxes(plate, torch.tensor([[1.0, 1.0, 3.0, 3.0]]))
