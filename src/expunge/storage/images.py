"""Image files in a folder."""

from pathlib import Path

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
"""Endings of the files that are images."""


def list_images(folder: Path) -> list[Path]:
    """The image files under a folder, in the order of their names."""
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in ENDINGS and file.is_file())
