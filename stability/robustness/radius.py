r"""``robustness_radius``: how large a deformation cannot change a label, and how large one does."""

from collections.abc import Sequence

import torch
from torch import Tensor

from stability.bounds.rung import Rung, certifying
from stability.deformations.checks import check_generator
from stability.grid import band_limit
from stability.ladders.every_field import EveryField, check_covered
from stability.representations.base import Representation
from stability.robustness.decision import Head, decide
from stability.robustness.result import RobustnessRadii
from stability.robustness.sizes import BELOW_ONE, SMALLEST, Rungs, certified_sizes
from stability.search.chances import CHANCES
from stability.search.checks import check_count, check_given, check_images_of_search, check_norm
from stability.search.curve import SIZES, check_sizes
from stability.search.smallest import Flip, Smallest, smallest_deformation
from stability.search.starts import Start
from stability.search.worst import KEPT, STARTS, STEPS
from stability.warps.band_limited import BandLimitedWarp
from stability.warps.base import Warp

NOTHING = 1e-12
"""Share of an image below which what is left of it is round-off."""
EXACT = BandLimitedWarp()


def robustness_radius(
    representation: Representation,
    head: Head,
    images: Tensor,
    labels: Tensor | None = None,
    *,
    displacement_norm: float,
    jacobian_norm: float,
    generator: torch.Generator | None = None,
    rungs: Rungs | None = None,
    warp: Warp = EXACT,
    sizes: Sequence[float] = SIZES,
    starts: Sequence[Start] = STARTS,
    kept: int = KEPT,
    steps: int = STEPS,
    chances: int = CHANCES,
) -> RobustnessRadii:
    r"""certified <= min { t : some field of C(t a, t b) changes the label } <= found.

    From below: the largest t with bound(t a, t b) < min_j (f_y - f_j)(x) / ||f_y - f_j||, the smallest of the bounds
    of scope "every field" of the ladder. From above: ``st.smallest_deformation``. Twice from below: by all bounds
    (``certified``; those on the torus do not count what the grid adds, which depends on the field), and by the one that
    holds for the network as it is sampled (``as_sampled``).

    Args:
        representation: with an architecture; with features for an affine head.
        head: ``torch.nn.Linear`` on the flattened features, a ``Classifier``, ``AffineHead``, or the ``Predictor`` of
            the representation.
        images: x, ``(B, C, *size)``, none of them 0; their part at the Nyquist frequency is left out.
        labels: true classes, ``(B,)`` int64: wrongly classified images have the radii 0. None: the predicted ones.
        displacement_norm: a > 0 in pixels at t = 1, the largest size that is searched.
        jacobian_norm: b at t = 1, in (0, 1).
        generator: of the search's starts; None: no search, ``found`` is NaN.
        rungs: other bounds, as functions of a and b; None: ``EveryField(representation, images)``.
        warp: L_tau of the search; the exact one, which the certificates speak of.
        sizes: t at which is searched, increasing, at most 1.
        starts: of the search.
        kept: of the starts.
        steps: of every ascent, at most.
        chances: second ones of starts that end behind, at most.

    Returns:
        Radii, one per image, in units of (a, b) and in pixels.

    Raises:
        ValueError: for images that are 0 or not finite, heads that do not fit, representations without bounds, or rungs
            that may not certify.

    Reference: Bietti & Mairal 2019, section 4; the proof is in docs/certified.md.

    >>> from stability import Architecture, CKN, images
    >>> from stability.robustness.decision import AffineHead
    >>> x = images.load("fashion", count=4, size=(12, 12))
    >>> rng = torch.Generator().manual_seed(0)
    >>> ckn = CKN.fit(Architecture.dyadic(depth=1), x, filters=(8,), generator=rng)
    >>> templates = ckn(x).flatten(1)  # the nearest of four images
    >>> head = AffineHead(templates, -0.5 * templates.square().sum(1))
    >>> radii = robustness_radius(ckn, head, x, displacement_norm=1.0, jacobian_norm=0.5)
    >>> bool((radii.as_sampled > 0).all() and (radii.certified >= radii.as_sampled).all()), radii.share_zero
    (True, 0.0)
    """
    given = check_images_of_search(images)
    images = band_limit(given, given.ndim - 2)
    gone = images.flatten(1).norm(dim=1) <= NOTHING * given.flatten(1).norm(dim=1)
    if bool(gone.any()):
        at = int(gone.nonzero()[0])
        raise ValueError(
            f"images must have more than their highest frequency, got image {at} that is 0 without it; leave it out"
        )
    for name, value in (("displacement_norm", displacement_norm), ("jacobian_norm", jacobian_norm)):
        if isinstance(value, Tensor) and value.numel() != 1:
            raise ValueError(f"{name} must be one number for all images, got {value!r}; radii are sizes along one ray")
    a = check_norm("displacement_norm", displacement_norm, images)
    b = check_norm("jacobian_norm", jacobian_norm, images)
    if not bool((b < 1).all()):
        raise ValueError(
            f"jacobian_norm must be below 1 for u - tau(u) to be invertible, got {jacobian_norm!r}; use 0.5"
        )
    check_count("kept", kept, KEPT)
    check_count("steps", steps, STEPS)
    check_count("chances", chances, CHANCES, least=0)
    if float(check_sizes(sizes)[-1]) > 1:
        raise ValueError(f"sizes must be at most 1, got {tuple(sizes)}; ask for larger norms instead")
    check_given("starts", starts, Start, "Linearised(20)")
    if rungs is not None and not callable(rungs):
        raise ValueError(f"rungs must map two norms to rungs, got {rungs!r}; leave it out for all proved ones")
    if generator is not None:
        check_generator(generator)
    if labels is not None and not isinstance(labels, Tensor):
        raise ValueError(f"labels must be a tensor of int64 numbers, got {labels!r}; use dataset(...).labels")
    if labels is not None and (labels.dtype != torch.int64 or labels.shape != images.shape[:1]):
        raise ValueError(
            f"labels must be one int64 number for each of {len(images)} images, got {labels.dtype} of shape "
            f"{tuple(labels.shape)}; use dataset(...).labels"
        )
    if rungs is None:
        check_covered(representation)
    decision = decide(representation, head, images)
    if labels is not None and not bool(torch.isin(labels, decision.classes.to(labels)).all()):
        raise ValueError(
            f"labels must be among the classes of the head, {decision.classes.tolist()}, got "
            f"{labels.unique().tolist()}; use dataset(...).labels"
        )
    true = decision.predicted if labels is None else labels.to(decision.predicted.device)
    right = decision.predicted == true
    distance = torch.where(right, decision.distance, 0.0) / images.flatten(1).norm(dim=1)
    left_out: dict[str, str] = {}
    every: Rungs
    if rungs is None:
        own = EveryField(representation, images)
        every, left_out = _proved(own, a, b)
        as_sampled = certified_sizes(own.as_sampled, distance, displacement_norm=a, jacobian_norm=b)
    else:
        every, whole = rungs, [rung.name for rung in _at_start(rungs, a, b) if not _unevaluated(rung)]
        as_sampled = certified_sizes(_named(rungs, whole), distance, displacement_norm=a, jacobian_norm=b)
    certified = certified_sizes(every, distance, displacement_norm=a, jacobian_norm=b)
    found = None
    searched = right & (decision.distance > 0)
    if generator is not None and bool(searched.any()):
        found = smallest_deformation(
            representation,
            images[searched],
            Flip(decision.head, decision.predicted[searched]),
            displacement_norm=a[searched],
            jacobian_norm=b[searched],
            generator=generator,
            warp=warp,
            sizes=sizes,
            starts=starts,
            kept=kept,
            steps=steps,
            chances=chances,
            partial=True,
        )
    return RobustnessRadii(
        predicted=decision.predicted,
        right=right,
        distance=distance,
        certified=certified.size,
        by=certified.by,
        status=certified.status,
        as_sampled=as_sampled.size,
        status_as_sampled=as_sampled.status,
        found=_found(found, searched, generator is not None),
        displacement_norm=a,
        jacobian_norm=b,
        largest_size=float(sizes[-1]),
        left_out=left_out,
        smallest=found,
    )


def _found(found: Smallest | None, searched: Tensor, asked: bool) -> Tensor:
    """0 where the label is wrong or the margin lost without any deformation; NaN if nothing was searched."""
    sizes = torch.full(searched.shape, torch.nan, dtype=torch.float64, device=searched.device)
    if asked:
        sizes[~searched] = 0.0
        if found is not None:
            sizes[searched] = found.size
    return sizes


def _at_start(rungs: Rungs, a: Tensor, b: Tensor) -> Sequence[Rung]:
    """The rungs at the smallest size."""
    share = SMALLEST * BELOW_ONE / b
    return rungs(share * a, share * b)


def _proved(rungs: Rungs, a: Tensor, b: Tensor) -> tuple[Rungs, dict[str, str]]:
    """The rungs that may certify, and why the others may not."""
    kept, left_out = [], {}
    for rung in _at_start(rungs, a, b):
        try:
            kept.append(certifying(rung).name)
        except ValueError as reason:
            left_out[rung.name] = str(reason)
    return _named(rungs, kept), left_out


def _unevaluated(rung: Rung) -> bool:
    """Whether something that the grid adds is not known: the rung speaks of functions on the torus."""
    return any(bool(torch.isnan(amount).any()) for amount in rung.allowances.values())


def _named(rungs: Rungs, names: Sequence[str]) -> Rungs:
    def chosen(a: Tensor, b: Tensor) -> Sequence[Rung]:
        return [rung for rung in rungs(a, b) if rung.name in names]

    return chosen
