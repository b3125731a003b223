"""`expunge studio RUN`: a page in the browser, served on this machine, that compares a run with its base model."""

from typing import Annotated

import typer

from expunge.cli.options import BaseModel, Device, RenderBatch, RunFolder, find_run_folder

HOST = "Address to listen on. Any other than this machine's own lets everybody who can reach it use the page: there is no password."
PORT = "Port to listen on; 0 is any free one."


def studio(
    run: RunFolder,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help=HOST)] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help=PORT)] = 8710,
    model: BaseModel = None,
    device: Device = "auto",
    render_batch: RenderBatch = None,
) -> None:
    """Compare a run with its base model in the browser.

    The page generates images of both models from the same noise for any prompt, with a slider for the strength of the erasure; it lists
    what the run's audits found and prepares `expunge unlearn` commands. It loads nothing from the network. Ctrl+C ends it. Needs
    `pip install 'expunge[studio]'`.
    """
    from importlib.util import find_spec

    from expunge.cli.output import print_lines
    from expunge.errors import ExpungeError
    from expunge.runs.run import Run
    from expunge.web.server import is_loopback, listen

    if not find_spec("nicegui"):
        raise ExpungeError(
            "The studio needs a package that is not installed (nicegui).",
            rule="missing-package",
            value="nicegui",
            hint="Try pip install 'expunge[studio]'.",
        )
    finished = Run(find_run_folder(run))
    card = finished.card
    with listen(host, port) as address:
        from expunge.training.session import Session
        from expunge.web.comparison import Comparison
        from expunge.web.page import studio_page
        from expunge.web.server import new_server

        session = Session.open(model or card["model"]["name"], device=device, dtype=card["dtype"], render_batch=render_batch)
        server = new_server(studio_page(finished, Comparison.open(finished, session)), f"{card['method']} · expunge", host)
        if not is_loopback(host):
            print_lines("Everybody who can reach this address can use the page.")
        print_lines(f"studio  http://{host}:{address.getsockname()[1]}  (Ctrl+C ends it)")
        try:
            server.run(sockets=[address])
        except KeyboardInterrupt:
            print_lines("")
