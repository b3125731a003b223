"""The words of the canvas: 20 objects in 5 families of siblings, 10 styles, one synonym for each, and the prompt templates."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """A concept of the canvas with its two names. Both were trained equally, so erasing one name alone leaves the other."""

    name: str
    synonym: str
    family: str

    @property
    def names(self) -> tuple[str, str]:
        """The main name and the synonym."""
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
"""Index of the eleventh style, a flat shape on a flat background. Prompts without a style give it."""

STYLE_LABELS: tuple[str, ...] = (*(s.name for s in STYLES), "plain")
OBJECT_LABELS: tuple[str, ...] = tuple(o.name for o in OBJECTS)


def prompt(obj: str | None = None, style: str | None = None) -> str:
    """Fill one of the four prompt templates: an object in a style, an object, a style, or the empty prompt.

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
