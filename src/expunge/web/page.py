"""The studio's page: compare a run with its base model, read what its audits found, prepare the next run."""

from collections.abc import Callable
from importlib import resources

from jinja2 import Environment
from nicegui import ui

from expunge.attacks import ATTACKS
from expunge.runs.run import Run
from expunge.web.compare_panel import ComparePanel
from expunge.web.comparison import Comparison
from expunge.web.elements import area, text
from expunge.web.findings import COLUMNS, finding_rows
from expunge.web.request_panel import RequestPanel

TABLE = """
<table><thead><tr>{% for name in columns.values() %}<th scope="col">{{ name }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in rows %}<tr>{% for key, name in columns.items() %}<td data-name="{{ name }}">{{ row[key] }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table>
"""


def studio_page(run: Run, comparison: Comparison) -> Callable[[], None]:
    """What makes the page for a visitor.

    Raises:
        ExpungeError: the card or an audit of the run is broken.
    """
    subject, card = run.concept(), run.card
    rows, style = finding_rows(run.folder), resources.files("expunge.web").joinpath("studio.css").read_text(encoding="utf-8")
    title = f"“{subject.target}” removed from {card['model']['name']} with {card['method']}"

    def build() -> None:
        ui.add_css(style)
        text("h1", title)
        text("p", f"Run {run.id}, in {run.folder}.")
        text("h2", "Compare")
        text("p", "Both models start from the same noise, so every difference between the columns is an effect of the run.")
        ComparePanel(comparison, subject)
        text("h2", "Attacks")
        if rows:
            text("p", "Share of images in which the judge sees the concept, with 95 % intervals.")
            with area("findings"):
                ui.html(Environment(autoescape=True).from_string(TABLE).render(columns=COLUMNS, rows=rows), sanitize=False)
        else:
            text("p", f"No audit was made. `expunge audit {run.folder}` attacks the run.")
        text("h2", "Prepare a run")
        text("p", "The form makes a command to copy. The studio never runs it.")
        RequestPanel(subject.parts[0], card["model"]["name"], list(ATTACKS))

    return build
