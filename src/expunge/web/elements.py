"""Elements that the parts of the page share."""

from nicegui import ui

from expunge.reports.pages.template import with_code


def area(classes: str) -> ui.element:
    """An empty box whose layout the style sheet gives."""
    return ui.element("div").classes(classes)


def text(tag: str, words: str) -> ui.html:
    """A heading or a paragraph, escaped; `commands` are set as code."""
    return ui.html(with_code(words), tag=tag, sanitize=False)
