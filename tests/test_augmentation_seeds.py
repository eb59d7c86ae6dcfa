"""Seeds of ``DeformationTransform``: one a call, different in every worker, reproducible; a network trains."""

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import stability as st

SIZE = (32, 32)
FORKS = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def image(*lead, seed=1):
    return torch.rand(*lead, *SIZE, generator=seeded(seed))


def test_without_a_generator_one_number_is_taken_from_the_default_one():
    deform = st.DeformationTransform(1.0)
    x = image(3)
    torch.manual_seed(5)
    first, after = deform(x), torch.get_rng_state()
    torch.manual_seed(5)
    assert torch.equal(deform(x), first)
    torch.manual_seed(5)
    torch.randint(2**63 - 1, ())
    assert torch.equal(torch.get_rng_state(), after)
    assert not torch.equal(deform(x), first)


def test_with_a_generator_the_default_one_is_left_alone():
    before = torch.get_rng_state()
    first, second = (st.DeformationTransform(1.0, generator=seeded(7))(image(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


class Deformed(Dataset):
    """The same image, deformed anew for every index."""

    def __init__(self, deform, by_index=False):
        self.deform, self.by_index = deform, by_index

    def __len__(self):
        return 8

    def __getitem__(self, index):
        drawn = self.deform.draw(SIZE, generator=seeded(index)) if self.by_index else None
        return self.deform(image(1), drawn=drawn)


class Naive(Dataset):
    """What goes wrong when a generator is merely copied into the workers."""

    def __init__(self):
        self.generator = seeded()

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return torch.rand(1, generator=self.generator)


def epochs(dataset, workers=2, count=1):

    loader = DataLoader(dataset, batch_size=2, num_workers=workers, generator=seeded())
    return [torch.cat(list(loader)) for _ in range(count)]


def distinct(batch):
    return len(torch.unique(batch.flatten(1), dim=0))


@FORKS
@pytest.mark.parametrize("generator", [None, 4])
def test_workers_draw_different_fields_reproducibly(generator):
    def run(count):
        deform = st.DeformationTransform(2.0, generator=None if generator is None else seeded(generator))
        deform.check(SIZE)
        return torch.cat(epochs(Deformed(deform), count=count))

    first = run(2)
    assert distinct(first) == 16  # between workers, within them, and from epoch to epoch
    assert torch.equal(run(1), first[:8])
    assert distinct(epochs(Naive())[0]) == 4  # what this guards against


@FORKS
def test_fields_drawn_by_index_do_not_depend_on_the_number_of_workers():
    deform = st.DeformationTransform(2.0, generator=seeded())
    deform.check(SIZE)
    zero, one, two = (epochs(Deformed(deform, by_index=True), workers)[0] for workers in (0, 1, 2))
    assert torch.equal(zero, one)
    assert torch.equal(zero, two)
    assert distinct(zero) == 8


class Labelled(Dataset):
    def __init__(self, deform):
        self.deform = deform
        self.data = st.images.load("fashion", count=16, size=(16, 16)).float()

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        return self.deform(self.data[index]), index % 2


def losses(seed, workers=2):
    torch.manual_seed(seed)
    deform = st.DeformationTransform(st.Share((0.0, 0.05)))
    deform.check((16, 16))
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, stride=2), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4 * 49, 2)
    )
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    found = []
    for x, label in DataLoader(Labelled(deform), batch_size=4, shuffle=True, num_workers=workers):
        loss = torch.nn.functional.cross_entropy(net(x), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    return found


@FORKS
def test_a_network_trains_reproducibly_from_two_workers():
    first = losses(0)
    assert losses(0) == first
    assert len(set(first)) == 4
    assert losses(0, workers=0) != first  # other seeds for the fields, the same network and order of images
