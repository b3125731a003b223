"""f-divergences between two Gaussians that share their covariance: how large, and how strongly each pulls.

For P = N(mu_1, s^2 I) and Q = N(mu_2, s^2 I) every f-divergence is a function of one number, the squared distance of the means:

    M = || mu_1 - mu_2 ||^2 / s^2,    D_f(M) = E f(r),    r = exp(sqrt(M) z - M/2),  z ~ N(0, 1)

so to descend D_f is to descend M itself, sample by sample, with the weight w(M) = D_f'(M) / D_f'(0). That weight, and not D_f, is
what a loss is made of: it has the same gradient up to a constant and cannot overflow. All f agree on where the minimum is; they
differ in whom they listen to on the way. Pure functions of tensors, in float32 or wider whatever comes in.

Source: arXiv 2509.21167 unlearns by any f-divergence, in closed form for KL (which is the squared error), Jeffreys, squared
Hellinger, Pearson's chi^2 and the alpha family, else by the variational bound (1606.00709, table 2). The forms of
Jensen-Shannon, total variation and of any f through one integral, and the form by weights, are ours.
"""

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from expunge.errors import ExpungeError
from expunge.names import suggest

Distances = Float[Tensor, "*shape"]
Function = Callable[[Tensor], Tensor]

LOG_WEIGHTS = (-20.0, math.log(20.0))
"""Weights are kept within these. It is the weight that is clamped: a clamp on M inside a loss would end the gradient for good."""

MOST = 80.0
"""The largest exponent that a value is computed for; exp of it is finite in float32."""


def _wide(m: Tensor) -> Tensor:
    return m.to(torch.promote_types(m.dtype, torch.float32)).clamp(max=1e12)


@dataclass(frozen=True)
class Divergence:
    """One divergence between Gaussians of equal covariance, as a function of M."""

    of: Function
    """D_f(M)."""
    log_slope: Function
    """log of D_f'(M) / D_f'(0), not clamped."""
    flat: bool = False
    """Whether w is 1 everywhere, so that the loss is the plain squared error."""

    def value(self, m: Distances) -> Distances:
        """D_f(M)."""
        return self.of(_wide(m))

    def log_weight(self, m: Distances) -> Distances:
        """log w(M), within `LOG_WEIGHTS`."""
        return self.log_slope(_wide(m)).clamp(*LOG_WEIGHTS)

    @torch.no_grad()
    def weight(self, m: Distances) -> Distances:
        """w(M), the factor of the squared error's gradient; a constant to autograd."""
        return self.log_weight(m).exp()

    @property
    def start(self) -> float:
        """The median M to begin at where nothing else is asked for: 2 for those that damp, 0.5 for those that amplify.

        Damping weights are felt at M of about 1 and leave nothing beyond 8, amplifying ones explode. Ours.
        """
        return 0.5 if self.log_slope(torch.ones(())) > 0 else 2.0


def _middle(m: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes y = sqrt(M) u and weights so that sum(weights * g(y)) = E_u g(sqrt(M) u), u ~ N(0, 1), for smooth g.

    The trapezoidal rule, whose error on such an integrand falls faster than any power of the step: past 1e-7 here. The step
    follows the narrower of g and the Gaussian; Gauss-Hermite nodes cannot, and miss g from M = 100 on.
    """
    k = torch.arange(-160, 161, device=m.device, dtype=m.dtype)
    root = m.clamp(min=1e-12).sqrt()[..., None]
    step = 0.25 * (2 / root).clamp(max=1)
    u = k * step
    return root * u, step / math.sqrt(2 * math.pi) * torch.exp(-u.square() / 2)


def _js(m: Tensor) -> Tensor:
    """log 2 - e^{-M/8} E_u[ e^{y/2} log(1 + e^{-y}) ]."""
    y, density = _middle(m)
    return math.log(2) - (-m / 8).exp() * (density * (y / 2).exp() * F.softplus(-y)).sum(-1)


def _js_log_slope(m: Tensor) -> Tensor:
    """-M/8 + log E_u[ sech(y/2) ], so that it damps more than squared Hellinger at every M."""
    y, density = _middle(m)
    return -m / 8 + (density / torch.cosh(y / 2)).sum(-1).log()


KL = Divergence(lambda m: m / 2, torch.zeros_like, flat=True)

DIVERGENCES: dict[str, Divergence] = {
    "kl": KL,
    "reverse-kl": KL,
    "jeffreys": Divergence(lambda m: m, torch.zeros_like, flat=True),
    "hellinger": Divergence(lambda m: -torch.expm1(-m / 8), lambda m: -m / 8),
    "js": Divergence(_js, _js_log_slope),
    "tv": Divergence(lambda m: torch.erf((m / 8).sqrt()), lambda m: -m / 8 - torch.log(2 * math.pi * (m + 1e-8)) / 2),
    "chi2": Divergence(lambda m: torch.expm1(m.clamp(max=MOST)), lambda m: m),
}
"""KL of either direction is the squared error, and so is their sum, Jeffreys. Squared Hellinger and Jensen-Shannon damp what is far,
total variation pulls all alike and lets go of what is far (relative to KL, for D'(0) is infinite), chi^2 amplifies what is far."""


def alpha(a: float) -> Divergence:
    """The alpha family (Cressie-Read): f(r) = (r^a - 1 - a (r - 1)) / (a (a - 1)), so D = (e^{a (a - 1) M / 2} - 1) / (a (a - 1)).

    0 < a < 1 damps, most at 1/2 (four times squared Hellinger); a > 1 or a < 0 amplifies (2 and -1 are chi^2 halved); 0 and 1 are
    KL. a and 1 - a are the same between Gaussians of equal covariance.
    """
    c = a * (a - 1) / 2
    return Divergence(lambda m: torch.expm1((c * m).clamp(max=MOST)) / (2 * c), lambda m: c * m) if c else KL


def renyi(a: float) -> Divergence:
    """Renyi's divergence of order a > 0: a M / 2, the squared error once more. Not an f-divergence itself, but log of one."""
    if not a > 0:
        raise ExpungeError(f"Renyi's order {a} is not above 0.", rule="order-not-positive", value=a, hint="Try renyi=0.5.")
    return Divergence(lambda m: a * m / 2, torch.zeros_like, flat=True)


FAMILIES: dict[str, Callable[[float], Divergence]] = {"alpha": alpha, "renyi": renyi}
"""Divergences with a parameter, named like `alpha=0.3`."""


TABLED = (1e-4, 200.0)
"""M within which the weights of a user's f are tabled. Below, they are constant; above, log w goes on straight in log M."""


def of_function(f: Function) -> Divergence:
    """The divergence of any convex f(r) with f(1) = 0, which takes and gives float64 tensors; no derivative of it is needed.

    By differentiating the density of log r ~ N(-M/2, M) instead of f,

        D_f'(M) = E[ f(r) ((u^2 - 1) / 2M - 1/8) ],    log r = sqrt(M) u

    tabled once over a logarithmic grid of M and interpolated linearly in (log M, log w). Corners of f (total variation's) do no harm;
    there D_f'(0) is infinite and w counts from the smallest M of the table, a constant factor that Adam does not see.

    Raises:
        ExpungeError: f(1) is not 0, f is not convex, or its divergence from M = 4 on is not a finite number.
    """
    _check(f)
    grid, log_slopes = _table(f)

    def log_slope(m: Tensor) -> Tensor:
        x, table = grid.to(m), log_slopes.to(m)
        place = m.clamp(min=TABLED[0]).log()
        after = torch.searchsorted(x, place.contiguous()).clamp(1, len(x) - 1)
        share = (place - x[after - 1]) / (x[after] - x[after - 1])
        return torch.lerp(table[after - 1], table[after], share)

    def of(m: Tensor) -> Tensor:
        r, density, _ = _nodes(m.double())
        return (density * _seen(f, r, density)).sum(-1).to(m)

    return Divergence(of, log_slope)


def _check(f: Function) -> None:
    r = torch.linspace(0.05, 20, 400, dtype=torch.float64)
    at_one, values = f(torch.ones(1, dtype=torch.float64)), f(r)
    if values.shape != r.shape:
        raise ExpungeError(
            f"The function f returned values of shape {list(values.shape)} for r of shape {list(r.shape)}.",
            rule="f-not-elementwise",
            value=list(values.shape),
            hint="Try a function that returns one value for each r.",
        )
    if not abs(at_one.item()) < 1e-9:
        raise ExpungeError(
            f"The function f has f(1) = {at_one.item():.6g}. A divergence needs f(1) = 0.",
            rule="f-not-zero-at-one",
            value=at_one.item(),
            hint="Try f(r) - f(1).",
        )
    if not (values.diff().diff() >= -1e-9 * values.abs().max()).all():
        raise ExpungeError(
            "The function f is not convex, or not finite, for r from 0.05 to 20.",
            rule="f-not-convex",
            value=f,
            hint="Try -f if f is concave.",
        )


def _nodes(m: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """r, the weight of each in E, and the score d/dM log p(log r), on nodes centred where r = 1, for each M."""
    root = m.clamp(min=1e-12).sqrt()[..., None]
    reach = 9 + 3 * root
    u = torch.linspace(-1, 1, 3001, dtype=m.dtype, device=m.device) * reach
    density = torch.exp(-(u + root / 2).square() / 2) * (reach / 1500 / math.sqrt(2 * math.pi))
    return (root * u).exp(), density, (u.square() - 1) / (2 * root.square()) - 1 / 8


def _seen(f: Function, r: Tensor, density: Tensor) -> Tensor:
    """f(r) where it counts: where the density is 0 in floating point, r may be infinite."""
    return torch.where(density > 0, f(torch.where(density > 0, r, 1.0)), 0.0)


@torch.no_grad()
def _table(f: Function) -> tuple[Tensor, Tensor]:
    """log M and log w, cut where cancellation or overflow leaves no digits (|log w| is far beyond its clamp there)."""
    m = torch.logspace(math.log10(TABLED[0]), math.log10(TABLED[1]), 512, dtype=torch.float64)
    r, density, score = _nodes(m)
    terms = density * score * _seen(f, r, density)
    slopes, size = terms.sum(-1), terms.abs().sum(-1)
    sound = (slopes > 1e-11 * size) & slopes.isfinite()
    kept = int(sound.int().cumprod(0).sum())
    if not kept or m[kept - 1] < 4:
        highest = m[min(kept, len(m) - 1)].item()
        raise ExpungeError(
            f"The divergence of this f does not grow with M from M = {highest:.3g} on, or is not finite there.",
            rule="divergence-not-growing",
            value=highest,
            hint="Try a convex f that grows no faster than a low power of r.",
        )
    return m[:kept].log(), (slopes[:kept] / slopes[0]).log()


@lru_cache
def find_divergence(name: str) -> Divergence:
    """A divergence by name: one of `DIVERGENCES`, of a family ("alpha=0.3"), or of a function f(r) ("package.module:function").

    Raises:
        ExpungeError: none of these.
    """
    if name in DIVERGENCES:
        return DIVERGENCES[name]
    family, _, parameter = name.partition("=")
    if family in FAMILIES:
        try:
            order = float(parameter)
        except ValueError:
            order = math.nan
        if not math.isfinite(order):
            raise ExpungeError(
                f"{name!r} does not name the number that a divergence of the {family} family needs.",
                rule="divergence-without-number",
                value=name,
                hint=f"Try {family}=0.3.",
            )
        return FAMILIES[family](order)
    module, colon, attribute = name.partition(":")
    if not colon:
        known = [*DIVERGENCES, *(f"{f}=NUMBER" for f in FAMILIES), "package.module:function"]
        raise ExpungeError(f"{name!r} is not a divergence.", rule="unknown-divergence", value=name, hint=suggest(name, known))
    try:
        f = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ExpungeError(
            f"The function {name!r} cannot be imported: {error}.",
            rule="not-importable",
            value=name,
            hint="Try package.module:function, with the package on PYTHONPATH.",
        ) from error
    return of_function(f)


@dataclass(frozen=True)
class Bound:
    """D_f(P || Q) >= E_P[ g(v) ] - E_Q[ f*(g(v)) ] for any function v, with equality at g(v) = f'(p/q).

    v, what a discriminator says, is clamped to [-10, 10]. Both parts are written out in v, so that neither overflows.
    """

    gain: Function
    """g."""
    cost: Function
    """f* of g."""

    def on_p(self, v: Distances) -> Distances:
        return self.gain(_wide(v).clamp(-10, 10))

    def on_q(self, v: Distances) -> Distances:
        return self.cost(_wide(v).clamp(-10, 10))


BOUNDS: dict[str, Bound] = {
    "kl": Bound(lambda v: v, lambda v: torch.exp(v - 1)),
    "reverse-kl": Bound(lambda v: -torch.exp(-v), lambda v: v - 1),
    "hellinger": Bound(lambda v: -torch.expm1(-v) / 2, lambda v: torch.expm1(v) / 2),
    "js": Bound(lambda v: (math.log(2) - F.softplus(-v)) / 2, lambda v: (F.softplus(v) - math.log(2)) / 2),
    "tv": Bound(lambda v: torch.tanh(v) / 2, lambda v: torch.tanh(v) / 2),
    "chi2": Bound(lambda v: v, lambda v: v.square() / 4 + v),
}
"""Those of `DIVERGENCES` with a conjugate: each bound's supremum is the `value` of the same name (squared Hellinger and Jensen-Shannon
are half of what the source's table has)."""
