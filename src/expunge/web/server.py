"""Serves one page of NiceGUI on an address that the caller names. The page loads nothing from elsewhere, and may not."""

import ipaddress
import socket
from collections.abc import Callable
from typing import Any

from expunge.errors import ExpungeError

LOOPBACK = "127.0.0.1"

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
)
"""What the browser lets the page load: files of this server. Vue compiles its templates in the browser, hence 'unsafe-eval'."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on an address; 0 is any free port.

    Raises:
        ExpungeError: rule "address-in-use", the address cannot be used.
    """
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ExpungeError(
            f"The studio cannot listen on {host}, port {port} ({error.strerror or error}).",
            rule="address-in-use",
            value=f"{host}:{port}",
            hint="Try another --port, or --port 0 for any free one.",
        ) from error


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def new_server(build: Callable[[], None], title: str, host: str) -> Any:
    """A server of one page. `run(sockets=[...])` serves until it is interrupted.

    On a loopback address it answers requests to this machine's names alone, so that no page of another site can reach it by a name of
    its own that points here.

    Args:
        build: Makes the page's elements, once for each visitor.
        title: Of the browser's tab.
        host: The address that it listens on.
    """
    import uvicorn
    from fastapi import FastAPI, Request, Response
    from fastapi.middleware.trustedhost import TrustedHostMiddleware
    from nicegui import ui

    app = FastAPI(openapi_url=None)

    @app.middleware("http")
    async def restrict(request: Request, call_next: Callable) -> Response:
        response = await call_next(request)
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    if is_loopback(host) and ":" not in host:  # the middleware cannot read IPv6 addresses
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["localhost", LOOPBACK, host])
    ui.run_with(app, root=build, title=title, dark=None, tailwind=False, show_welcome_message=False)
    return uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on"))
