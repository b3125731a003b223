"""Reads a page as a browser would: its tags, attributes and text."""

import re
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "link", "img", "br", "hr", "input", "base", "source"}


class Markup(HTMLParser):
    """`Markup.of(html)`: what stands in a page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        """Tag, name, value."""
        self.texts: list[str] = []
        self.unclosed: list[str] = []

    @classmethod
    def of(cls, html: str | Path) -> "Markup":
        page = cls()
        page.feed(html.read_text(encoding="utf-8") if isinstance(html, Path) else html)
        page.close()
        return page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.unclosed.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.unclosed, f"</{tag}> closes nothing"
        assert self.unclosed.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        """All text with spaces and line breaks made single; narrow and no-break spaces stay."""
        return re.sub(r"[ \n]+", " ", " ".join(self.texts)).strip()

    def values(self, tag: str, name: str) -> list[str]:
        return [value for t, n, value in self.attributes if (t, n) == (tag, name)]

    @property
    def dangers(self) -> list[str]:
        """Whatever runs code or reaches beyond the page."""
        running = [t for t in self.tags if t in ("script", "iframe", "object", "embed", "link", "base", "form")]
        handlers = [f"{t} {n}" for t, n, _ in self.attributes if n.startswith("on")]
        addresses = ("src", "href", "xlink:href", "srcset", "action", "data", "poster")
        outside = [f"{t} {n}={v}" for t, n, v in self.attributes if n in addresses and not v.startswith(("data:image/", "#"))]
        style = " ".join([*self.texts, *(v for _, n, v in self.attributes if n == "style")])
        return running + handlers + outside + [word for word in ("@import", "url(h", "url(/", "url('h", 'url("h') if word in style]
