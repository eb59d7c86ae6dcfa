"""Any torch module as a representation: features by hand, evaluation mode, hooks, layers in one pass, refusals."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import stability as st
from stability.representations import module as source


class Counted(nn.Module):
    """Convolution, dropout, batch norm, in-place ReLU, pooling, flattening, linear; counts its passes."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(2, 3, 3), nn.Dropout(0.5), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.AvgPool2d(2)
        )
        self.flatten, self.head, self.unused = nn.Flatten(), nn.Linear(3 * 3 * 2, 4), nn.Linear(1, 1)
        self.passes, self.images = 0, 0
        rng = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=rng))
            self.features[2].running_mean.copy_(torch.randn(3, generator=rng))
            self.features[2].running_var.copy_(torch.rand(3, generator=rng) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.passes, self.images = self.passes + 1, self.images + len(x)
        return self.head(self.flatten(self.features(x)))

    def by_hand(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Outputs of features.2 (before the ReLU), features.4 and the whole, from the weights."""
        conv, norm = self.features[0], self.features[2]
        y = functional.conv2d(x, conv.weight, conv.bias)
        scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).view(3, 1, 1)
        y = (y - norm.running_mean.view(3, 1, 1)) * scale + norm.bias.view(3, 1, 1)
        pooled = functional.avg_pool2d(y.relu(), 2)
        return [y, pooled, pooled.flatten(1) @ self.head.weight.T + self.head.bias]


LAYERS = ["features.2", "features.4", "head"]
AREAS = [8 * 6 / (6 * 4), 8 * 6 / (3 * 2), 1.0]


def images(generator, count=3, **options):
    return torch.randn(count, 2, 8, 6, generator=generator, dtype=torch.float64, **options)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_features_norms_and_distances_are_those_by_hand(dtype, generator):
    net, x, y = Counted().to(dtype), images(generator), images(generator)
    exact = Counted().double()
    tolerance = {"rtol": 1e-10 if dtype == torch.float64 else 1e-4}
    phi = st.ModuleRepresentation(net, LAYERS)
    reference = phi.reference(x)
    pairs = list(zip(exact.by_hand(x), exact.by_hand(y), AREAS, strict=True))
    norms = torch.stack([area**0.5 * a.flatten(1).norm(dim=1) for a, _, area in pairs]).detach()
    distances = torch.stack([area**0.5 * (a - b).flatten(1).norm(dim=1) for a, b, area in pairs]).detach()
    assert torch.allclose(reference.norms, norms, **tolerance)
    assert torch.allclose(reference.distances(y), distances, **tolerance)
    assert torch.allclose(phi.distance(x, y), distances.norm(dim=0), **tolerance)  # the direct sum
    assert torch.allclose(phi.norm(x), norms.norm(dim=0), **tolerance)
    assert reference.distances(y).dtype == reference.norms.dtype == torch.float64
    assert phi.dtype == dtype
    eps = torch.finfo(dtype).eps
    assert torch.allclose(reference.floors, 10 * eps * reference.norms)
    assert torch.allclose(reference.floor, 10 * eps * reference.norm)
    for name, expected in zip(LAYERS, exact.by_hand(x), strict=True):
        (single,) = st.ModuleRepresentation(net, name).layers(x)
        assert torch.allclose(single.double(), expected, rtol=1e-3, atol=1e-5)
    whole = st.ModuleRepresentation(net)
    assert whole.layer_names == ("output",)
    assert torch.allclose(whole.distance(x, y), distances[2], **tolerance)


def test_all_layers_come_from_one_pass_a_few_images_at_a_time(generator, monkeypatch):
    net = Counted().double()
    phi = st.ModuleRepresentation(net, LAYERS)
    reference = phi.reference(images(generator, 2))
    net.passes = net.images = 0
    others = torch.stack([images(generator, 5) for _ in range(2)])  # (B, F, C, H, W)
    found = reference.distances(others)
    assert (found.shape, net.passes, net.images) == ((3, 2, 5), 1, 10)
    monkeypatch.setattr(source, "BATCH", 3)
    net.passes = net.images = 0
    assert torch.allclose(reference.distances(others), found, rtol=1e-12)
    assert (net.passes, net.images) == (4, 10)
    each = st.ModuleRepresentation(net, "features.4").reference(reference._images)
    assert torch.allclose(each.distance(others), found[1], rtol=1e-12)
    deeper = reference.distances(others.view(2, 5, 1, 2, 8, 6))
    assert torch.allclose(deeper, found[..., None], rtol=1e-12)


def test_matrices_of_all_pairs_are_the_distances_of_pairs(generator):
    phi, x = st.ModuleRepresentation(Counted().double(), LAYERS), images(generator, 3)
    matrices = phi.distance_matrices(x)
    assert matrices.shape == (3, 3, 3)
    assert torch.equal(matrices, matrices.transpose(1, 2))
    assert torch.allclose(matrices[:, 0], phi.reference(x[:1]).distances(x[None])[:, 0])
    assert torch.allclose(st.kernel_matrix(phi, x).diagonal().sqrt(), phi.norm(x))
    assert torch.allclose(st.kernel_matrix(phi, x, x[:2]), st.kernel_matrix(phi, x)[:, :2])


def test_evaluation_mode_whoever_switches_it_and_flags_come_back(generator):
    """Dropout and batch statistics would change the features; the batch norm's averages must not move."""
    net, x = Counted().double(), images(generator)
    phi = st.ModuleRepresentation(net, "features.4")
    net.eval()
    expected, averages = phi(x).detach(), net.features[2].running_mean.clone()
    net.train()
    net.features[1].eval()  # a mixture, as fine-tuning leaves it
    flags = [part.training for part in net.modules()]
    for switched in (phi, phi.train(), phi.eval(), phi.train(True)):
        assert torch.equal(switched(x).detach(), expected)
        assert torch.equal(switched.norm(x), phi.norm(x))
    assert [part.training for part in net.modules()] == flags
    assert torch.equal(net.features[2].running_mean, averages)
    assert not torch.equal(net.features(x), expected)  # negative control: in training mode they do change


def test_hooks_and_flags_come_back_after_an_exception(generator):
    net = Counted().double()
    phi = st.ModuleRepresentation(net, LAYERS)
    with pytest.raises(RuntimeError):
        phi(torch.randn(1, 5, 8, 6, generator=generator))
    phi.norm(images(generator))
    assert all(not part._forward_hooks for part in net.modules())
    assert all(part.training for part in net.modules())


def test_images_are_normalised_per_channel_and_left_alone(generator):
    net, x = Counted().double(), images(generator)
    mean, std = torch.tensor([0.3, -0.2]).double(), torch.tensor([0.5, 2.0]).double()
    expected = Counted().double().by_hand((x - mean.view(2, 1, 1)) / std.view(2, 1, 1))[1]
    for phi in (
        st.ModuleRepresentation(net, "features.4", mean=mean, std=std),
        st.ModuleRepresentation(net, "features.4", mean=(0.3, -0.2), std=[0.5, 2.0]),
    ):
        assert torch.allclose(phi(x), expected, rtol=1e-6)
    one = st.ModuleRepresentation(net, "features.4", mean=0.3)
    assert torch.allclose(one(x), net.by_hand(x - 0.3)[1])
    before = x.clone()
    st.ModuleRepresentation(nn.Sequential(nn.ReLU(inplace=True))).norm(x)
    assert torch.equal(x, before)
    with pytest.raises(ValueError, match="one per channel"):
        st.ModuleRepresentation(net, mean=(1.0, 2.0, 3.0))(x)


def test_features_are_taken_before_a_later_layer_overwrites_them(generator):
    phi = st.ModuleRepresentation(nn.Sequential(nn.Identity(), nn.ReLU(inplace=True)), ["0", "1"])
    before, after = phi.layers(images(generator))
    assert (before < 0).any()
    assert torch.equal(before.relu(), after)


def test_forward_is_differentiable_and_carries_the_areas_of_a_sum(generator):
    net, x = Counted().double(), images(generator, 1).requires_grad_()
    phi = st.ModuleRepresentation(net, LAYERS, mean=0.1, std=2.0)
    assert torch.autograd.gradcheck(phi, (x,))
    rows = phi(x)
    assert rows.shape == (1, 3 * 24 + 3 * 6 + 4)
    assert torch.allclose(rows.norm(dim=1), phi.norm(x))
    assert not phi.reference(x).norm.requires_grad
    assert phi.cell_area((8, 6), rows) == 1.0
    single = st.ModuleRepresentation(net, "features.4")
    assert single.cell_area((8, 6), single(x)) == AREAS[1]


def test_signals_and_modules_without_parameters(generator):
    phi = st.ModuleRepresentation(nn.AvgPool1d(4))
    x = torch.randn(2, 3, 16, generator=generator, dtype=torch.float64)
    assert phi.dtype == torch.float64  # nothing says otherwise, and small distances need it
    assert torch.allclose(phi.norm(x), 2 * functional.avg_pool1d(x, 4).flatten(1).norm(dim=1), rtol=1e-5)
    assert phi.reference(x).distances(torch.zeros_like(x)).shape == (1, 2)


def test_an_architecture_is_not_claimed():
    phi = st.ModuleRepresentation(st.LeNet(), ["pool1", "hidden"])
    assert (phi.architecture, phi.lipschitz, phi.layer_names) == (None, None, ("pool1", "hidden"))
    with pytest.raises(ValueError, match="own grid"):
        phi.refined(2)
    with pytest.raises(ValueError, match="must have an architecture"):
        x = torch.zeros(1, 1, 28, 28, dtype=torch.float64)
        st.ladder(phi, x, st.Translation((1.0, 0.0), size=(28, 28)))


class Twice(nn.Module):
    """Calls one layer twice, returns a tuple, drops the batch axis, rounds."""

    def __init__(self) -> None:
        super().__init__()
        self.again, self.pair, self.total, self.round = nn.ReLU(), Pair(), Total(), Round()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.again(self.again(x))
        self.pair(x), self.total(x), self.round(x)
        return x


class Pair(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


class Total(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum()


class Round(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.round().long()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: st.ModuleRepresentation(Counted(), "featurs.2"), "did you mean 'features.2'"),
        (lambda x: st.ModuleRepresentation(Counted(), ["head", "heads"]), "did you mean 'head'"),
        (lambda x: st.ModuleRepresentation(Counted(), ""), "layer must be one of"),
        (lambda x: st.ModuleRepresentation(Counted(), []), "one or more different layers"),
        (lambda x: st.ModuleRepresentation(Counted(), ["head", "head"]), "one or more different layers"),
        (lambda x: st.ModuleRepresentation(torch.relu), "torch.nn.Module"),
        (lambda x: st.ModuleRepresentation(Counted(), std=0.0), "std must be finite and positive"),
        (lambda x: st.ModuleRepresentation(Counted(), mean=[float("nan"), 0.0]), "mean must be finite"),
        (lambda x: st.ModuleRepresentation(Counted(), "unused").norm(x), "'unused' must be called once.*0 calls"),
        (lambda x: st.ModuleRepresentation(Twice(), "again").norm(x), "'again' must be called once.*2 calls"),
        (lambda x: st.ModuleRepresentation(Twice(), "pair").norm(x), "'pair' must return a floating-point.*tuple"),
        (lambda x: st.ModuleRepresentation(Twice(), "round").norm(x), "'round' must return a floating-point.*int64"),
        (lambda x: st.ModuleRepresentation(Twice(), "total").norm(x), "'total' must have shape"),
        (lambda x: st.ModuleRepresentation(Counted()).distance(x, x[:1]), "second images"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(make, message, generator):
    with pytest.raises(ValueError, match=message) as error:
        make(images(generator))
    assert "\n" not in str(error.value)
