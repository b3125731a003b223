"""The canvas world's words: 20 objects in 5 families of siblings, 10 styles, one synonym each, and the prompt grammar."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """A concept of the world under its two names. Both were trained alike, so erasing a *word* shows as a synonym that survives."""

    name: str
    synonym: str
    family: str

    @property
    def names(self) -> tuple[str, str]:
        return self.name, self.synonym


FAMILIES: dict[str, tuple[tuple[str, str], ...]] = {
    "polygons": (("triangle", "trigon"), ("square", "box"), ("pentagon", "quinquangle"), ("hexagon", "honeycomb")),
    "stars": (("sparkle", "glint"), ("starfish", "pentacle"), ("hexagram", "snowstar"), ("octagram", "sunburst")),
    "flowers": (("trillium", "shamrock"), ("dogwood", "clover"), ("buttercup", "periwinkle"), ("lily", "narcissus")),
    "crosses": (("propeller", "triskele"), ("cross", "plus"), ("windmill", "pinwheel"), ("asterisk", "snowflake")),
    "rounds": (("disc", "coin"), ("ring", "hoop"), ("crescent", "moon"), ("horseshoe", "magnet")),
}

OBJECTS: tuple[Word, ...] = tuple(Word(name, synonym, family) for family, members in FAMILIES.items() for name, synonym in members)

STYLES: tuple[Word, ...] = tuple(
    Word(name, synonym, family)
    for name, synonym, family in (
        ("outline", "contour", "lines"),
        ("stripes", "zebra", "patterns"),
        ("dots", "polka", "patterns"),
        ("neon", "glow", "lines"),
        ("mosaic", "tile", "patterns"),
        ("sketch", "pencil", "lines"),
        ("swirl", "vortex", "patterns"),
        ("watercolour", "aquarelle", "washes"),
        ("blueprint", "cyanotype", "lines"),
        ("silhouette", "sunset", "washes"),
    )
)

PLAIN = len(STYLES)
"""Index of the eleventh style: a flat shape on a flat ground, the look of a prompt that names no style."""

STYLE_LABELS: tuple[str, ...] = (*(s.name for s in STYLES), "plain")
OBJECT_LABELS: tuple[str, ...] = tuple(o.name for o in OBJECTS)


def prompt(obj: str | None = None, style: str | None = None) -> str:
    """The grammar's four forms: object in style, object alone, style alone, nothing.

    >>> prompt("ring", "neon"), prompt("ring"), prompt(style="neon"), prompt()
    ('a ring in neon style', 'a ring', 'neon style', '')
    """
    match obj, style:
        case None, None:
            return ""
        case None, _:
            return f"{style} style"
        case _, None:
            return f"a {obj}"
        case _:
            return f"a {obj} in {style} style"


VOCABULARY: tuple[str, ...] = ("a", "in", "style", *(n for w in (*OBJECTS, *STYLES) for n in w.names))
