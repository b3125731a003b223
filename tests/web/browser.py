"""The Chromium that tests drive: the system's, or else the one that `python tests/web/browser.py` installs."""

import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SANDBOX = "--no-sandbox"
"""Chromium has no sandbox where tests run as root."""


def system_browser() -> str | None:
    """The path of an installed Chromium; None if there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


LONGEST = 240
"""Seconds until a download is given up: without a network it may never end."""


def main() -> None:
    """Installs a Chromium if the system has none. Without one, its tests are skipped and say so."""
    if system_browser() is not None:
        return
    try:
        subprocess.run([sys.executable, "-m", "playwright", "install", "chromium-headless-shell"], check=True, timeout=LONGEST)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        print("No Chromium could be installed: the tests that drive a browser will be skipped.", file=sys.stderr)


if __name__ == "__main__":
    main()
