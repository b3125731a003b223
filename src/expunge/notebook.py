"""How results show themselves in a notebook: small tables and images as HTML that loads nothing. Every text is escaped."""

import base64
import io
import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

EDGE = 128
"""The longer edge of an image, in pixels. Larger ones are reduced, since a notebook's file holds them."""

LEFT = ' style="text-align:left"'
"""Notebooks align the cells of a table to the right."""


def html_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table with a title. Without names of columns it has no head."""
    head = "".join(f"<th{LEFT}>{escape(name)}</th>" for name in columns)
    lines = ["".join(f"<td{LEFT}>{escape(str(cell))}</td>" for cell in row) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in ([head] if columns else []) + lines)
    return f"<div><strong>{escape(title)}</strong><table>{body}</table></div>"


def html_images(title: str, rows: Iterable[tuple[str, Sequence[tuple[str, Path | None]]]]) -> str:
    """Images in groups, each group with a line above it and each image with a text for those who do not see it."""
    groups = []
    for line, images in rows:
        embedded = [(escape(alt), data_uri(file)) for alt, file in images]
        shown = " ".join(f'<img src="{uri}" alt="{alt}" title="{alt}" style="display:inline">' for alt, uri in embedded if uri)
        groups.append(f'<div style="display:inline-block;margin:0 14px 10px 0"><div>{escape(line)}</div>{shown}</div>')
    return f"<div><div><strong>{escape(title)}</strong></div>{''.join(groups)}</div>"


def data_uri(file: Path | None) -> str:
    """An image file as a data address, at most `EDGE` pixels wide and high; empty if there is no file, or if it holds no image."""
    from PIL import Image

    if file is None:
        return ""
    try:
        with Image.open(file) as image:
            small = image.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return ""
    small.thumbnail((EDGE, EDGE))
    out = io.BytesIO()
    small.save(out, "WEBP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}"


def with_interval(value: Any, low: Any, high: Any, is_share: bool = True) -> str:
    """A number with its interval; a dash without a number.

    >>> with_interval(0.5, 0.25, 0.75), with_interval(1.5, 1.0, 2.0, is_share=False), with_interval(None, None, None)
    ('50% [25%, 75%]', '1.5 [1, 2]', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    shown = [f"{number:.0%}" if is_share else f"{number:.3g}" for number in (value, low, high)]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]"
