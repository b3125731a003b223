"""The studio in a real browser: load, type, generate, compare, prepare a command."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
from audit.invented import audit, done
from web.browser import SANDBOX, system_browser

from expunge.runs.unlearn import unlearn
from expunge.web.comparison import Comparison
from expunge.web.page import studio_page
from expunge.web.server import LOOPBACK, listen, new_server

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    """The address of a studio about a small run with an audit."""
    session, folder = tiny.session(), tmp_path_factory.mktemp("runs") / "neon"
    run = unlearn(session.model, tiny.concept(), "mim-mu", training=tiny.TRAINING, out=folder, progress=session.progress)
    (folder / "audit").mkdir()
    audit(folder / "audit", *done("<i>relearn</i>", [0, 12, 16], [16, 16, 16])).write()
    with listen(LOOPBACK, 0) as bound:
        server = new_server(studio_page(run, Comparison.open(run, session)), "studio", LOOPBACK)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        yield f"http://{LOOPBACK}:{bound.getsockname()[1]}"
        server.should_exit = True
        thread.join(20)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        try:
            found = driver.chromium.launch(executable_path=system_browser(), args=[SANDBOX])
        except playwright.Error as error:
            pytest.skip(f"no Chromium can be started; `python tests/web/browser.py` installs one: {str(error).splitlines()[0]}")
        yield found
        found.close()


def sources(page, column: int) -> list[str]:
    return page.locator(".panel").nth(column).locator("img").evaluate_all("images => images.map(i => i.src)")


def test_a_visit(address: str, browser, tmp_path: Path):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(15_000)
    asked, problems = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(address)

    def generate(say: str) -> tuple[list[str], list[str]]:
        page.get_by_role("status").filter(has_text=say).wait_for()
        return sources(page, 0), sources(page, 1)

    page.get_by_role("button", name="a dogwood in neon style").click()
    prompt = page.get_by_label("Prompt", exact=True)
    playwright.expect(prompt).to_have_value("a dogwood in neon style")
    prompt.fill("a ring in neon style")
    page.get_by_label("Images", exact=True).fill("3")
    page.get_by_role("button", name="Generate").click()
    base, unlearned = generate("strength 1.00")
    assert len(set(base)) == len(set(unlearned)) == 3
    assert not set(base) & set(unlearned)
    assert page.locator(".panel img").first.evaluate("image => image.naturalWidth") == 32
    assert page.locator(".panel img").first.get_attribute("alt") == "Base model, seed 0: a ring in neon style"

    page.locator(".q-slider").click(position={"x": 0, "y": 8})
    assert generate("strength 0.00") == (base, base)

    table = page.locator(".findings")
    assert "<i>relearn</i>" in table.inner_text()
    assert "100.0" in table.inner_text()
    page.get_by_label("Base model", exact=True).fill("canvas")
    page.get_by_label("Concept to remove").fill("noen")
    page.get_by_role("button", name="Prepare the command").click()
    page.get_by_role("alert").filter(has_text="Try 'neon'").wait_for()
    page.get_by_label("Concept to remove").fill("neon")
    page.get_by_role("button", name="Prepare the command").click()
    page.get_by_text("expunge unlearn mim-mu --model canvas --target neon --synonym glow", exact=True).wait_for()

    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert len(page.screenshot(path=tmp_path / f"{width}.png", full_page=True)) > 10_000
    page.close()
    assert problems == []
    assert [url for url in asked if not url.startswith((f"{address}/", "data:"))] == []


def test_a_prompt_that_cannot_be_read_is_named(address: str, browser):
    page = browser.new_page()
    page.goto(address)
    page.get_by_label("Prompt", exact=True).fill("xylophone")
    page.keyboard.press("Enter")
    page.get_by_role("alert").filter(has_text="xylophone").wait_for()
    assert sources(page, 0) == []
    page.close()


def test_only_this_machines_names_are_answered(address: str):
    import httpx

    assert httpx.get(address).status_code == 200
    assert "default-src 'self'" in httpx.get(address).headers["content-security-policy"]
    assert httpx.get(address, headers={"host": "elsewhere.example"}).status_code == 400
