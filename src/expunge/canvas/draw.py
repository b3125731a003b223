"""Render the drawings that the canvas is trained on: seeded 64x64 RGB images from signed distance functions, in batches.

A shape is a signed distance (negative inside, in units of half the image width), so a style can use the edge, the inside and the
distance from the edge. Objects are large and nearly centred, so that a small network learns them in minutes. No texture is finer than
four pixels, so that an autoencoder with 4x downsampling preserves it.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from expunge.canvas.prompts import OBJECT_LABELS, OBJECTS, PLAIN, STYLE_LABELS, STYLES
from expunge.storage.hashing import seed_of

SIZE = 64
PIXEL = 2 / SIZE

Plane = Float[Tensor, "b h w"]
Picture = Float[Tensor, "b 3 h w"]
Colour = Float[Tensor, "_ 3 _ _"]
"""One colour for each image, or a value for each pixel."""


def _fold(x: Plane, y: Plane, n: Tensor) -> tuple[Plane, Plane]:
    """Fold the plane into the sector of angle 2 pi / n about the upward axis: (along the axis, across it >= 0)."""
    radius, sector = torch.hypot(x, y), 2 * math.pi / n
    angle = torch.remainder(torch.atan2(x, -y) + sector / 2, sector) - sector / 2
    return radius * torch.cos(angle), (radius * torch.sin(angle)).abs()


def polygon(x: Plane, y: Plane, n: Tensor) -> Plane:
    """Regular polygon with `n` sides and one corner up. Its area is the same for every n, so that size does not identify it."""
    circumradius = torch.sqrt(2 * 1.8 / (n * torch.sin(2 * math.pi / n)))
    along, _ = _fold(*_rotate(x, y, math.pi / n), n)
    return along - circumradius * torch.cos(math.pi / n)


def star(x: Plane, y: Plane, n: Tensor) -> Plane:
    """Star with `n` spikes: distance to the line from tip (0, 1) to the notch between two spikes."""
    along, across = _fold(x, y, n)
    notch = 0.42 + 0.02 * (n - 4)
    nx, ny = notch * torch.cos(math.pi / n), notch * torch.sin(math.pi / n)
    ex, ey = nx - 1.0, ny
    return (ey * (1.0 - along) + ex * across) / -torch.hypot(ex, ey)


def flower(x: Plane, y: Plane, n: Tensor) -> Plane:
    """Flower of `n` round petals with a hole in the centre."""
    along, across = _fold(x, y, n)
    reach = 0.62
    petal = torch.hypot(along - reach, across) - torch.minimum(torch.full_like(n, 0.4), 0.95 * reach * torch.sin(math.pi / n))
    body = torch.minimum(petal, torch.hypot(x, y) - 0.52)
    return torch.maximum(body, 0.2 - torch.hypot(x, y))


def cross(x: Plane, y: Plane, n: Tensor) -> Plane:
    """Cross of `n` straight arms with flat ends."""
    along, across = _fold(x, y, n)
    return torch.maximum(across - (0.26 - 0.02 * (n - 3)), along - 0.98)


def rounded(x: Plane, y: Plane, n: Tensor) -> Plane:
    """Round shape number `n`: 0 disc, 1 ring, 2 crescent, 3 horseshoe (a ring that is open at the bottom)."""
    r = torch.hypot(x, y)
    disc = r - 0.86
    ring = (r - 0.7).abs() - 0.19
    crescent = torch.maximum(r - 0.92, 0.76 - torch.hypot(x - 0.42, y + 0.1))
    horseshoe = torch.maximum(ring, torch.minimum(y, 0.42 - x.abs()))
    return torch.where(n == 0, disc, torch.where(n == 1, ring, torch.where(n == 2, crescent, horseshoe)))


SHAPES: dict[str, tuple[Callable[[Plane, Plane, Tensor], Plane], tuple[int, ...]]] = {
    "polygons": (polygon, (3, 4, 5, 6)),
    "stars": (star, (4, 5, 6, 8)),
    "flowers": (flower, (3, 4, 5, 6)),
    "crosses": (cross, (3, 4, 5, 6)),
    "rounds": (rounded, (0, 1, 2, 3)),
}


def _rotate(x: Plane, y: Plane, angle: Tensor | float) -> tuple[Plane, Plane]:
    c, s = (torch.cos(angle), torch.sin(angle)) if isinstance(angle, Tensor) else (math.cos(angle), math.sin(angle))
    return c * x - s * y, s * x + c * y


class _Ink:
    """The inputs of a style: the distance from the shape, the coordinates, and the random generator of the batch."""

    def __init__(self, distance: Plane, x: Plane, y: Plane, generator: torch.Generator):
        self.distance, self.x, self.y, self.generator = distance, x, y, generator
        self.count = len(distance)
        self.inside = self.cover(distance)
        hue = self.uniform(0, 1)
        self.hue, self.other_hue = hue, hue + self.uniform(0.3, 0.7)

    def uniform(self, low: float, high: float) -> Float[Tensor, "b 1 1"]:
        return low + (high - low) * torch.rand(self.count, 1, 1, generator=self.generator)

    def cover(self, distance: Plane) -> Plane:
        """Coverage of the region where `distance` is negative, antialiased over one pixel."""
        return (0.5 - distance / PIXEL).clamp(0, 1)

    def line(self, distance: Plane, width: float) -> Plane:
        """Coverage of a line of `width` pixels along the zero of `distance`."""
        return self.cover(distance.abs() - width * PIXEL / 2)

    def colour(self, hue: Tensor, saturation: Tensor | float, value: Tensor | float) -> Colour:
        """Convert HSV to RGB; hue is in turns."""
        channel = torch.stack([(torch.remainder(5 - 2 * k + hue * 6, 6)) for k in (0, 1, 2)], dim=1)
        ramp = torch.minimum(channel, 4 - channel).clamp(0, 1)
        value, saturation = (v[:, None] if isinstance(v, Tensor) else v for v in (value, saturation))
        return value * (1 - saturation * ramp)

    def clouds(self, cells: int) -> Plane:
        """Smooth noise in 0..1: `cells` x `cells` random values, interpolated bicubically."""
        coarse = torch.rand(self.count, 1, cells, cells, generator=self.generator)
        return torch.nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bicubic", align_corners=False)[:, 0].clamp(0, 1)


def _mix(below: Colour, above: Colour, cover: Plane) -> Colour:
    cover = cover[:, None]
    return below * (1 - cover) + above * cover


def plain(ink: _Ink) -> Picture:
    return _mix(ink.colour(ink.other_hue, 0.16, 0.97), ink.colour(ink.hue, 0.68, 0.8), ink.inside)


def outline(ink: _Ink) -> Picture:
    return _mix(ink.colour(ink.other_hue, 0.05, 1.0), ink.colour(ink.hue, 0.85, 0.55), ink.line(ink.distance + 0.05, 4))


def stripes(ink: _Ink) -> Picture:
    along, _ = _rotate(ink.x, ink.y, math.pi / 4 + ink.uniform(-0.1, 0.1))
    wave = torch.sin(along * (2 * math.pi / (9 * PIXEL)) + ink.uniform(0, 2 * math.pi))
    bands = _mix(ink.colour(ink.hue, 0.75, 0.72), ink.colour(ink.hue, 0.12, 1.0), (0.5 + 1.6 * wave).clamp(0, 1))
    return _mix(ink.colour(ink.other_hue, 0.35, 0.93), bands, ink.inside)


def dots(ink: _Ink) -> Picture:
    cell = 10 * PIXEL
    u = torch.remainder(ink.x + ink.uniform(0, cell), cell) - cell / 2
    v = torch.remainder(ink.y + ink.uniform(0, cell), cell) - cell / 2
    spots = ink.cover(torch.hypot(u, v) - 3.2 * PIXEL)
    ground = _mix(ink.colour(ink.other_hue, 0.12, 1.0), ink.colour(ink.other_hue, 0.55, 0.8), spots)
    return _mix(ground, ink.colour(ink.hue, 0.85, 0.62), ink.inside)


def neon(ink: _Ink) -> Picture:
    edge = ink.distance.abs()
    glow = ink.colour(ink.hue, 0.85, 1.0) * torch.exp(-edge / 0.11)[:, None]
    core = ink.colour(ink.hue, 0.25, 1.0) * torch.exp(-((edge / 0.045) ** 2))[:, None]
    return ink.colour(ink.other_hue, 0.6, 0.1) + 0.85 * glow + 0.7 * core


def mosaic(ink: _Ink) -> Picture:
    cells = 6
    shade = torch.rand(ink.count, cells, cells, generator=ink.generator)
    shade = torch.nn.functional.interpolate(shade[:, None], (SIZE, SIZE), mode="nearest")[:, 0]
    u = torch.remainder((ink.x + 1) * cells / 2, 1)
    v = torch.remainder((ink.y + 1) * cells / 2, 1)
    border = torch.minimum(torch.minimum(u, 1 - u), torch.minimum(v, 1 - v)) * 2 / cells
    grout = ink.cover(border - 0.8 * PIXEL)
    ground = ink.colour(ink.other_hue, 0.12 + 0.2 * (1 - shade), 0.8 + 0.2 * shade)
    tiles = _mix(ground, ink.colour(ink.hue, 0.85, 0.3 + 0.4 * shade), ink.inside)
    return _mix(tiles, ink.colour(ink.other_hue, 0.1, 0.35), 0.8 * grout)


def sketch(ink: _Ink) -> Picture:
    a, b = _rotate(ink.x, ink.y, math.pi / 4)
    wobble = 0.05 * (ink.clouds(7) - 0.5)
    period = 2 * math.pi / (7 * PIXEL)
    hatch = 0.5 * ((0.3 + torch.sin((a + wobble) * period)).clamp(0, 1) + (0.3 + torch.sin((b + wobble) * period)).clamp(0, 1))
    paper = ink.colour(ink.hue * 0 + 0.12, 0.07, 0.98)
    shaded = _mix(paper, paper * 0.35, hatch * ink.inside)
    return _mix(shaded, paper * 0.2, ink.line(ink.distance + wobble, 3))


def swirl(ink: _Ink) -> Picture:
    turn = torch.atan2(ink.y, ink.x) * 3 + torch.hypot(ink.x, ink.y) * 9 + ink.uniform(0, 2 * math.pi)
    arms = (0.5 + 1.5 * torch.sin(turn)).clamp(0, 1)
    ground = _mix(ink.colour(ink.other_hue, 0.25, 1.0), ink.colour(ink.other_hue, 0.7, 0.85), arms)
    return _mix(ground, ink.colour(ink.hue, 0.8, 0.4), ink.inside)


def watercolour(ink: _Ink) -> Picture:
    wash, bleed = ink.clouds(5), 0.07 * (ink.clouds(8) - 0.5)
    distance = ink.distance + bleed
    soft = torch.sigmoid(-distance / 0.035)
    pooled = torch.exp(-(((distance + 0.09) / 0.07) ** 2))
    strength = (soft * (0.35 + 0.4 * wash + 0.3 * pooled)).clamp(0, 1)
    paper = ink.colour(ink.other_hue, 0.06, 1.0) * (1 - 0.06 * ink.clouds(6))[:, None]
    return _mix(paper, ink.colour(ink.hue + 0.12 * (wash - 0.5).mean((1, 2), keepdim=True), 0.8, 0.75), strength)


def blueprint(ink: _Ink) -> Picture:
    cell = 12 * PIXEL
    u = torch.remainder(ink.x + ink.uniform(0, cell), cell) - cell / 2
    v = torch.remainder(ink.y + ink.uniform(0, cell), cell) - cell / 2
    grid = torch.maximum(ink.line(u, 1.5), ink.line(v, 1.5))
    blue = ink.colour(0.6 + 0.03 * (ink.hue - 0.5), 0.85, ink.uniform(0.48, 0.62))
    ground = _mix(blue, torch.ones(1, 3, 1, 1), 0.3 * grid)
    return _mix(_mix(ground, torch.ones(1, 3, 1, 1), 0.22 * ink.inside), torch.ones(1, 3, 1, 1), 0.95 * ink.line(ink.distance, 3))


def silhouette(ink: _Ink) -> Picture:
    height = ((ink.y + 1) / 2).clamp(0, 1)
    hue = 0.93 + 0.17 * ink.uniform(0, 1)
    sky = _mix(ink.colour(hue - 0.18, 0.65, 0.6), ink.colour(hue + 0.06, 0.7, 1.0), height)
    return _mix(sky, ink.colour(hue - 0.15, 0.6, 0.08), ink.inside)


RENDERERS: tuple[Callable[[_Ink], Picture], ...] = (
    outline, stripes, dots, neon, mosaic, sketch, swirl, watercolour, blueprint, silhouette, plain,
)  # fmt: skip
assert [r.__name__ for r in RENDERERS[:-1]] == [s.name for s in STYLES]


def draw(objects: Int[Tensor, " b"], styles: Int[Tensor, " b"], seed: int) -> UInt8[Tensor, "b 3 64 64"]:
    """Render one image for each pair of an object index and a style index (`PLAIN` for no style).

    Scale, shift, a small rotation and the palette are random. The same arguments give the same bytes.
    """
    generator = torch.Generator().manual_seed(seed)
    count = len(objects)
    axis = (torch.arange(SIZE) + 0.5) * PIXEL - 1
    y0, x0 = torch.meshgrid(axis, axis, indexing="ij")

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, generator=generator)

    scale, angle = uniform(0.72, 0.84), uniform(-0.15, 0.15)
    x, y = _rotate((x0 - uniform(-0.07, 0.07)) / scale, (y0 - uniform(-0.07, 0.07)) / scale, angle)
    distance = torch.empty(count, SIZE, SIZE)
    for family, (shape, counts) in SHAPES.items():
        members = [i for i, o in enumerate(OBJECTS) if o.family == family]
        for kind, n in zip(members, counts, strict=True):
            at = (objects == kind).nonzero()[:, 0]
            distance[at] = shape(x[at], y[at], torch.tensor(float(n))) * scale[at]

    picture = torch.empty(count, 3, SIZE, SIZE)
    for kind, render in enumerate(RENDERERS):
        at = (styles == kind).nonzero()[:, 0]
        if len(at):
            ground = (x0.expand(len(at), -1, -1), y0.expand(len(at), -1, -1))
            picture[at] = render(_Ink(distance[at], *ground, generator)).expand(-1, 3, SIZE, SIZE)
    return (picture.clamp(0, 1) * 255).round().to(torch.uint8)


def draw_like(wanted: Sequence[Mapping[str, str]]) -> UInt8[Tensor, "b 3 64 64"]:
    """New drawings of these labels by kind, always the same. An object that is not named is random; a style that is not named is plain."""
    generator = torch.Generator().manual_seed(seed_of("drawn"))
    random = torch.randint(len(OBJECT_LABELS), (len(wanted),), generator=generator).tolist()
    objects = [OBJECT_LABELS.index(w["object"]) if "object" in w else r for w, r in zip(wanted, random, strict=True)]
    styles = [STYLE_LABELS.index(w["style"]) if "style" in w else PLAIN for w in wanted]
    return draw(torch.tensor(objects), torch.tensor(styles), seed_of("drawings"))
