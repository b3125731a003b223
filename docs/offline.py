"""A hook of MkDocs: the theme's script for pages that are opened from a folder comes from the folder, not from the network."""

from typing import Any

ELSEWHERE = "https://unpkg.com/iframe-worker/shim"


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """A page that loads `assets/worker.js`, by a path from where the page lies."""
    return output.replace(ELSEWHERE, f"{'../' * page.url.count('/')}assets/worker.js")
