"""``RandomDeformation`` in kornia's containers: replay, labels that move with the image, parameters as rows."""

import copy
import functools
import io
import pickle

import kornia.augmentation as kornia
import pytest
import torch
from kornia import __version__ as kornia_version
from kornia.constants import DataKey
from kornia.geometry.boxes import Boxes

import stability as st
from stability.augmentation.rows import packed, unpacked

H, W = 40, 48
KEYS = ["input", "mask", "keypoints", "bbox", "bbox_xyxy", "bbox_xywh"]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images(count=4, channels=3, seed=1):
    return torch.rand(count, channels, H, W, generator=seeded(seed))


def random_deformation(*args, p=1.0, seed=0, **kwargs):
    return st.RandomDeformation(*(args or (st.Share(0.05),)), p=p, generator=seeded(seed), **kwargs)


def labels(count=4):
    """Mask, key points and the same two boxes in kornia's three ways of writing them."""
    mask = torch.randint(0, 9, (count, 1, H, W), generator=seeded(2))
    points = 8 + 24 * torch.rand(count, 5, 2, generator=seeded(3))
    xyxy = torch.tensor([[6.0, 8.0, 20.0, 18.0], [14.0, 3.0, 40.0, 33.0]]).repeat(count, 1, 1)
    vertices = xyxy[..., [0, 1, 2, 1, 2, 3, 0, 3]].unflatten(-1, (4, 2))
    xywh = torch.cat([xyxy[..., :2], xyxy[..., 2:] - xyxy[..., :2] + 1], -1)  # kornia counts both end pixels here
    return mask, points, vertices, xyxy, xywh


def blob(centres, width=1.5):
    """One image per sample, a Gaussian around each sample's point."""
    y, x = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    square = (x - centres[:, 0, None, None]) ** 2 + (y - centres[:, 1, None, None]) ** 2
    return (-square / (2 * width**2)).exp()[:, None]


def summit(images):
    """The vertex of the parabola through ln x around its largest pixel, ``(B, 2)`` as (x, y)."""
    found = []
    for image in images[:, 0].double():
        row, column = divmod(int(image.argmax()), W)
        log = image[row - 1 : row + 2, column - 1 : column + 2].log()
        gradient = torch.stack([log[1, 2] - log[1, 0], log[2, 1] - log[0, 1]]) / 2
        mixed = (log[2, 2] - log[2, 0] - log[0, 2] + log[0, 0]) / 4
        xx, yy = log[1, 2] + log[1, 0] - 2 * log[1, 1], log[2, 1] + log[0, 1] - 2 * log[1, 1]
        hessian = torch.stack([torch.stack([xx, mixed]), torch.stack([mixed, yy])])
        found.append(torch.tensor([column, row]) - torch.linalg.solve(hessian, gradient))
    return torch.stack(found)


# --- replay -----------------------------------------------------------------------------------------------------


def test_alone_it_replays_bit_for_bit_and_draws_anew():
    aug = random_deformation((0.5, 2.0), (0.1, 0.4))
    x = images()
    first, params = aug(x), aug._params
    assert not torch.equal(aug(x), first)
    assert torch.equal(aug(x, params=params), first)
    assert torch.equal(random_deformation((0.5, 2.0), (0.1, 0.4), seed=0)(x), first)
    fresh = st.RandomDeformation(9.0, p=1.0)  # another instance: parameters hold the field, nothing is solved
    assert torch.equal(fresh(x, params=params), first)


@pytest.mark.parametrize("p", [1.0, 0.5])
def test_a_container_replays_every_kind_of_data_bit_for_bit(p):
    sequence = kornia.AugmentationSequential(
        kornia.RandomHorizontalFlip(p=0.5), random_deformation(st.Share((0.01, 0.05)), p=p),
        data_keys=KEYS,
    )  # fmt: skip
    data = images(), *labels()
    first, params = sequence(*data), sequence._params
    other = sequence(*data)
    again = sequence(*data, params=params)
    assert all(torch.equal(a, b) for a, b in zip(again, first, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(other, first, strict=True))
    assert [value.dtype for value in first] == [value.dtype for value in data]
    assert torch.equal(sequence(data[2], params=params, data_keys=["keypoints"]), first[2])  # without the image
    file = io.BytesIO()
    torch.save(params, file)
    file.seek(0)
    kept = torch.load(file, weights_only=False)
    assert all(torch.equal(a, b) for a, b in zip(sequence(*data, params=kept), first, strict=True))


def test_parameters_hold_the_field_and_its_norms():
    aug = random_deformation((0.5, 2.0))
    aug(images())
    params = aug._params
    tau = unpacked(params)
    n = tau.norms()
    assert torch.allclose(n.displacement.lower, params["displacement_norm"])
    assert torch.allclose(n.jacobian.upper, params["jacobian_norm_upper"])
    assert bool((params["displacement_norm_upper"] >= params["displacement_norm"]).all())
    assert torch.equal(aug.norms.displacement_norm, params["displacement_norm"])
    assert aug.norms.to_frame().shape == (4, 5)
    assert all(len(value) == 4 for value in params.values())
    with pytest.raises(ValueError, match="after a call"):
        _ = random_deformation().norms


@pytest.mark.parametrize(
    "law",
    [
        functools.partial(st.CompactField.sample, cutoff=3),
        functools.partial(st.FlowField.sample, cutoff=2),
        st.BumpField.sample,
        lambda size, *, batch_shape, generator: (
            st.FourierField.sample(size, cutoff=2, batch_shape=batch_shape, generator=generator)
            + st.BumpField.sample(size, batch_shape=(), generator=generator)
        ),
    ],
    ids=["compact", "flow", "bump", "sum"],
)
def test_every_kind_of_field_survives_as_rows(law):
    tau = law((16, 16), batch_shape=(3,), generator=seeded())
    rows = packed(tau)
    u = 15 * torch.rand(20, 2, generator=seeded(), dtype=torch.float64)
    assert torch.equal(unpacked(rows).displacement(u), tau.displacement(u))
    frames = {name: value.repeat_interleave(2, 0) for name, value in rows.items()}  # as a container for videos does
    one = {name: value[1:2] for name, value in rows.items()}  # as for the masks of a list
    expected = tau.displacement(u)
    assert torch.allclose(unpacked(frames).displacement(u), expected.repeat_interleave(2, 0), rtol=0, atol=1e-13)
    assert torch.allclose(unpacked(one).displacement(u), expected[1:2], rtol=0, atol=1e-13)


def test_modes_as_many_as_samples_are_not_taken_for_rows():
    modes = len(st.FourierField.sample((16, 16), cutoff=1, generator=seeded()).modes)
    tau = st.FourierField.sample((16, 16), cutoff=1, batch_shape=(modes,), generator=seeded())
    one = {name: value[1:2] for name, value in packed(tau).items()}
    assert torch.equal(unpacked(one).modes, tau.modes)


# --- labels -----------------------------------------------------------------------------------------------------


def test_a_blobs_centre_moves_where_its_key_point_moves():
    centres = 14 + 18 * torch.rand(8, 1, 2, generator=seeded(5))
    sequence = kornia.AugmentationSequential(random_deformation(2.0, 0.4), data_keys=["input", "keypoints"])
    moved, points = sequence(blob(centres[:, 0]), centres)
    assert float((summit(moved) - points[:, 0]).norm(dim=-1).max()) < 0.06
    assert float((points - centres).norm(dim=-1).max()) > 1.5
    away = (points - centres)[:, 0]
    assert float((summit(moved) - (centres[:, 0] - away)).norm(dim=-1).max()) > 2.5  # the other sign is wrong


def test_key_points_follow_through_a_whole_pipeline():
    centres = 14 + 18 * torch.rand(8, 1, 2, generator=seeded(5))
    torch.manual_seed(0)
    sequence = kornia.AugmentationSequential(
        kornia.RandomVerticalFlip(p=0.5), random_deformation(2.5, 0.6, p=0.7),
        kornia.RandomAffine(10.0, p=1.0, align_corners=True), data_keys=["input", "keypoints"],
    )  # fmt: skip
    moved, points = sequence(blob(centres[:, 0]), centres)
    assert float((summit(moved) - points[:, 0]).norm(dim=-1).max()) < 0.25  # bilinear look-up in the affine step


def test_boxes_enclose_what_was_inside_them_tightly():
    mask, _, vertices, xyxy, xywh = labels()
    inside = torch.zeros_like(mask)
    for row in inside:
        row[0, 8:19, 6:21] = 1  # the pixels of the first box
    sequence = kornia.AugmentationSequential(random_deformation(2.4, 0.5), data_keys=["input", "mask", *KEYS[3:]])
    _, moved, by_vertices, by_ends, by_size = sequence(images(), inside, vertices, xyxy, xywh)
    assert torch.allclose(by_vertices[..., [0, 2], :].flatten(-2), by_ends, atol=1e-4)
    assert torch.allclose(by_ends[..., 2:] - by_ends[..., :2] + 1, by_size[..., 2:], atol=1e-4)
    assert not torch.allclose(by_ends, xyxy, atol=1.0)
    for pixels, box in zip(moved[:, 0], by_ends[:, 0], strict=True):
        rows, columns = pixels.nonzero().unbind(1)
        seen = torch.stack([columns.min(), rows.min(), columns.max(), rows.max()])
        assert float((seen - box).abs().max()) <= 1.5  # pixels reach half a pixel beyond their centres, twice


def test_masks_follow_the_image_by_the_nearest_pixel_or_softly():
    mask = (blob(torch.tensor([[20.0, 20.0]]).expand(4, 2), width=6) > 0.5).float()
    for resample, values in (("nearest", 2), ("bilinear", 1000)):
        sequence = kornia.AugmentationSequential(
            random_deformation(2.0), data_keys=["input", "mask"], extra_args={DataKey.MASK: {"resample": resample}}
        )
        image, moved = sequence(mask, mask)
        assert len(moved.unique()) <= values
        assert float((image - moved).abs().mean()) < 0.01 < float((image - mask).abs().mean())
    with pytest.raises(ValueError, match="nearest or bilinear"):
        kornia.AugmentationSequential(
            random_deformation(2.0), data_keys=["input", "mask"], extra_args={DataKey.MASK: {"resample": "bicubic"}}
        )(mask, mask)


def test_skipped_samples_and_their_labels_stay_bit_for_bit():
    sequence = kornia.AugmentationSequential(random_deformation(2.0, p=0.5), data_keys=KEYS)
    data = images(10), *labels(10)
    moved = sequence(*data)
    applied = sequence[0].norms.applied
    assert 0 < int(applied.sum()) < 10
    for before, after in zip(data, moved, strict=True):
        assert torch.equal((before != after).flatten(1).any(1), applied)


def test_one_field_for_a_batch_and_for_the_frames_of_a_clip():
    sequence = kornia.AugmentationSequential(random_deformation(2.0), data_keys=["input", "mask"], same_on_batch=True)
    x = images(1).expand(3, -1, -1, -1)
    same, _ = sequence(x, labels(3)[0])
    assert torch.equal(same, same[:1].expand_as(same))

    clip = images(2)[:, None].expand(-1, 3, -1, -1, -1)
    video = kornia.VideoSequential(random_deformation(2.0), data_format="BTCHW")
    y = video(clip)
    assert torch.equal(y, y[:, :1].expand_as(y))
    assert torch.equal(video(clip, params=video._params), y)


@pytest.mark.skipif(kornia_version.startswith("0.8"), reason="kornia 0.8 hands lists of masks on whole")
def test_masks_in_a_list_move_as_in_a_batch():
    mask = labels()[0].float()
    sequence = kornia.AugmentationSequential(random_deformation(2.0, p=0.5), data_keys=["input", "mask"])
    _, whole = sequence(images(), mask)
    _, parts = sequence(images(), list(mask), params=sequence._params)
    assert torch.equal(torch.cat(parts), whole)


def test_the_inverse_takes_points_back_exactly_and_images_up_to_interpolation():
    centres = torch.tensor([[[20.0, 18.0]], [[26.0, 22.0]]])
    sequence = kornia.AugmentationSequential(
        random_deformation(2.0, 0.4), data_keys=["input", "keypoints", "mask", "bbox_xyxy"]
    )
    x = blob(centres[:, 0], width=4)
    data = x, centres, (x > 0.5).float(), labels(2)[3]
    moved = sequence(*data)
    back = sequence.inverse(*moved)
    assert torch.allclose(back[1], centres, atol=1e-4)
    assert float((back[0] - x).abs().max()) < 2e-3 < 0.1 < float((moved[0] - x).abs().max())
    assert float((back[2] != data[2]).float().mean()) < 0.003 < float((moved[2] != data[2]).float().mean())
    assert bool((back[3][..., :2] <= data[3][..., :2]).all())
    assert bool((back[3][..., 2:] >= data[3][..., 2:]).all())
    assert torch.allclose(sequence[0].inverse(moved[0]), back[0])


def test_missing_points_and_empty_rows_do_no_harm():
    sequence = kornia.AugmentationSequential(random_deformation(1.0), data_keys=["input", "keypoints", "bbox_xyxy"])
    x, points, boxes = images(), labels()[1], labels()[3]
    full = sequence(x, points, boxes)[1]
    holes = points.clone()
    holes[1, 2] = torch.nan
    kept = sequence(x, holes, boxes, params=sequence._params)[1]
    assert bool(kept[1, 2].isnan().all())
    assert int(kept.isnan().sum()) == 2
    assert torch.allclose(kept[~kept.isnan()], full[~kept.isnan()])
    assert [len(part) for part in sequence(x[:0], points[:0], boxes[:0])] == [0, 0, 0]
    assert sequence(x, points[:, :0], boxes[:, :0])[1].shape == (4, 0, 2)


# --- at home in kornia ------------------------------------------------------------------------------------------


def test_sizes_that_change_on_the_way_nesting_and_ranks():
    sequence = kornia.AugmentationSequential(
        kornia.Resize((24, 24)), random_deformation(st.Share(0.05)), kornia.RandomCrop((16, 16)),
        kornia.ImageSequential(random_deformation(st.Share(0.05))), data_keys=["input", "keypoints"],
    )  # fmt: skip
    assert [tuple(value.shape) for value in sequence(images(), labels()[1])] == [(4, 3, 16, 16), (4, 5, 2)]
    assert sequence[1].norms.displacement_norm.tolist() == pytest.approx([1.2] * 4)
    aug = random_deformation(keepdim=True)
    assert aug(images()[0]).shape == (3, H, W)
    assert random_deformation()(images()[0, 0]).shape == (1, 1, H, W)
    assert aug(images().half()).dtype == torch.float16


def test_no_matrix_is_claimed():
    sequence = kornia.AugmentationSequential(
        kornia.RandomHorizontalFlip(p=1.0), random_deformation(), data_keys=["input"]
    )
    sequence(images())
    assert bool(sequence.transform_matrix.isnan().any())


def test_copies_pickles_and_gradients():
    aug = random_deformation(1.0)
    x = images()
    others = copy.deepcopy(aug), pickle.loads(pickle.dumps(aug))
    y = aug(x)
    assert all(torch.equal(other(x), y) for other in others)
    assert "Pixels(value=1.0)" in repr(kornia.AugmentationSequential(aug))
    small = random_deformation(0.4)
    z = torch.rand(1, 1, 7, 8, generator=seeded(), dtype=torch.float64, requires_grad=True)
    small(z)
    assert torch.autograd.gradcheck(functools.partial(small, params=small._params), z)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: st.RandomDeformation(), "must be given"),
        (lambda: st.RandomDeformation(-1.0), "finite and positive"),
        (lambda: st.RandomDeformation(1.0, p=2.0), "probability"),
        (lambda: st.RandomDeformation(1.0, generator=3), "torch.Generator"),
        (lambda: random_deformation()(images().mul(255).byte()), "floating point"),
        (lambda: random_deformation()(torch.rand(2, 2, 3, H, W)), r"\(B, C, H, W\)"),
        (lambda: random_deformation(9.0)(images()), "not to fold"),
        (lambda: random_deformation()(images(), params={}), "params"),
        (lambda: replayed_on(images(3)), "batch of 3"),
        (lambda: replayed_on(images()[..., :32]), "size"),
        (lambda: kornia.AugmentationSequential(random_deformation(), data_keys=["input", "mask"])(
            images(), torch.zeros(4, 1, 8, 8)), "(?i)masks? must have"),
        (lambda: kornia.AugmentationSequential(
            random_deformation(12.0, injective=False), data_keys=["input", "keypoints"]
        )(images(), labels()[1]), "must have an inverse"),
    ],
)  # fmt: skip
def test_wrong_requests_are_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def replayed_on(other):
    aug = random_deformation()
    aug(images())
    return aug(other, params=aug._params)


def test_boxes_of_other_make_are_taken():
    aug = random_deformation(1.0)
    aug(images())
    boxes = Boxes.from_tensor(labels()[3], mode="xyxy_plus")
    moved = aug.transform_boxes(boxes, aug._params, aug.flags)
    assert torch.equal(boxes.to_tensor("xyxy_plus"), labels()[3])  # left as they were
    assert not torch.allclose(moved.to_tensor("xyxy_plus"), labels()[3])
