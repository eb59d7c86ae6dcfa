"""The instruments of the device tests: what they must catch, and what they must let pass."""

import pytest
import torch
from places import PLACES
from second_device import ELSEWHERE, SecondDevice

SECOND, _ = PLACES


def numbers():
    return (torch.arange(1.0, 4.0, dtype=torch.float64),)


def rng():
    return torch.Generator().manual_seed(0)


BROKEN = {
    "a tensor without device": lambda x: x * torch.ones(3, dtype=x.dtype),
    "a result without device": lambda x: torch.tensor([float(x.sum())]),
    "numpy": lambda x: torch.from_numpy(x.numpy() * 2).to(x.device),
    "a generator of the CPU": lambda x: torch.rand(3, generator=rng(), device=x.device),
    "an index elsewhere": lambda x: torch.ones(3, dtype=x.dtype, device="cpu")[x > 1],
    "concatenation": lambda x: torch.cat([x, torch.zeros(1, dtype=x.dtype, device="cpu")]),
    "a product": lambda x: torch.eye(3, dtype=x.dtype, device="cpu") @ x,
    "written in place": lambda x: torch.zeros(3, dtype=x.dtype, device="cpu").add_(x),
}
SOUND = {
    "numbers": lambda x: x * 2 + torch.tensor(3.0, dtype=x.dtype, device="cpu"),
    "indices": lambda x: x[torch.tensor([2, 0], device="cpu")],
    "moved": lambda x: x + torch.arange(3, dtype=x.dtype, device="cpu").to(x.device),
    "built": lambda x: x + torch.tensor([1.0, 2.0, 3.0], device=x.device) + x.new_tensor([1.0, 2.0, 3.0]),
    "read": lambda x: (x.tolist(), float(x.sum()), x.cpu().numpy().tolist(), bool((x > 0).all())),
    "drawn and moved": lambda x: torch.rand(3, generator=rng(), device="cpu").to(x.device),
    "factories": lambda x: torch.arange(3, device=x.device) + torch.zeros_like(x) + x.new_ones(3),
    "views in place": lambda x: x.clone().view(3, 1)[1:].mul_(2),
    "out": lambda x: torch.mul(x, x, out=torch.empty_like(x)),
    "gradient": lambda x: torch.autograd.grad((x.requires_grad_() ** 3).sum(), x),
    "forward mode": lambda x: torch.func.jvp(lambda y: y.sin() * 2, (x,), (torch.ones_like(x),)),
    "lists as indices": lambda x: (x[[2, 0]], x.clone().index_put_((torch.tensor([1], device="cpu"),), x[:1])),
    "strides in memory": lambda x: x.expand(2, 3).T.contiguous().data_ptr() != x.data_ptr(),
    "linear algebra": lambda x: torch.linalg.eigvalsh(torch.outer(x, x) + torch.diag(x)),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_a_second_device_catches_what_a_gpu_refuses(broken):
    with pytest.raises((AssertionError, RuntimeError, TypeError)):
        SECOND.check(broken, numbers)


@pytest.mark.parametrize("sound", SOUND.values(), ids=SOUND.keys())
def test_what_is_right_passes_everywhere(sound, place):
    place.check(sound, numbers)


def test_a_wrong_number_is_caught(place):
    with pytest.raises(AssertionError, match="off by"):
        place.check(lambda x: x + 1e-6 * (x.device.type != "cpu"), numbers)


def test_the_second_device_is_gone_outside():
    with SecondDevice():
        assert torch.ones(2, device=ELSEWHERE).tolist() == [1.0, 1.0]
    with pytest.raises(NotImplementedError):
        torch.ones(2, device=ELSEWHERE).tolist()
