"""The page in a real browser: what a person does there, by mouse, by keyboard, on a phone and in the dark."""

import contextlib
import io
import json
import re
import shutil
import socket
import threading
import time
import zipfile

import pytest
from PIL import Image

pytest.importorskip("gradio")
playwright = pytest.importorskip("playwright.sync_api")

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no Chromium here")]
PATIENCE = 120_000
"""Milliseconds for what takes a fraction of a second on an idle machine."""
PROMPT = "two yellow stars"


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    from noise_search.studio.desk import Desk

    found = Desk(tmp_path_factory.mktemp("studio") / "runs")
    yield found
    found.close()


@pytest.fixture(scope="module")
def address(desk):
    """Where the page is served."""
    import uvicorn

    from noise_search.studio.serve import application

    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = uvicorn.Config(application(desk), host="127.0.0.1", port=port, log_level="critical", lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server ended"
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = server.force_exit = True
    thread.join(30)


@pytest.fixture(scope="module")
def browser():
    alone = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"  # whatever else is asked for isn't there
    with playwright.sync_playwright() as driver:
        plain = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", alone]
        found = driver.chromium.launch(executable_path=BROWSER, args=plain, timeout=PATIENCE)
        yield found
        found.close()


@pytest.fixture
def tab(browser, address):
    """A way to open tabs, which fail where the page has an error or asks another host for anything."""
    wrong, contexts = [], []

    def note(request):
        if not request.url.startswith((address, "data:", "blob:")):
            wrong.append(request.url)

    def opened(path="", **options):
        given = {"viewport": {"width": 1280, "height": 900}, "permissions": ["clipboard-read", "clipboard-write"]}
        contexts.append(browser.new_context(**{**given, **options}))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE)
        page.on("request", note)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(address + path, wait_until="domcontentloaded")
        page.get_by_label("Prompt").wait_for()
        return page

    yield opened
    for one in contexts:
        one.close()
    assert not wrong


def choose(page, label, value):
    page.get_by_label(label).fill(value)
    page.get_by_label(label).press("Enter")
    page.get_by_label(label).evaluate("one => one.blur()")
    is_gone(page, "[role=option]")


def number(page, label, value):
    field = page.get_by_label(f"number input for {label}")
    field.fill(str(value))
    field.press("Tab")


def search(page, prompt=PROMPT, images=4):
    page.get_by_label("Prompt").fill(prompt)
    number(page, "Budget", images)
    page.locator("#start").click()
    page.locator("#status h2", has_text=prompt).wait_for()


def finished(page):
    """Wait for the end, and count the pictures."""
    page.locator(".ns-ended, .ns-stopped").wait_for()
    return page.locator(".ns-card").count()


def pick(page, *which):
    for at in which:
        one = page.locator(".ns-pick").nth(at)
        for _ in range(3):  # a click on a busy machine may meet a card that is being drawn anew
            one.click()
            with contextlib.suppress(AssertionError):
                playwright.expect(one).to_have_attribute("aria-pressed", "true", timeout=PATIENCE / 6)
                break
    page.locator(".ns-pick[aria-pressed=true]").nth(len(which) - 1).wait_for()


def is_gone(page, what):
    playwright.expect(page.locator(what)).to_have_count(0, timeout=PATIENCE)


def test_type_start_watch_pick_vary_download_and_reload(tab):
    page = tab()
    page.get_by_label("Prompt").fill(PROMPT)
    choose(page, "Algorithm", "halving")
    page.locator("#cost", has_text="320 NFE, halving: ").wait_for()
    choose(page, "Algorithm", "random")
    number(page, "Budget", 5)
    page.locator("#cost", has_text="100 NFE, random: up to 5 candidates of 20 steps").wait_for()  # before the start
    assert page.locator("#stop").is_disabled()
    page.locator("#start").click()
    page.locator(".ns-card").first.wait_for()
    page.locator(".ns-curve polyline").wait_for()
    assert finished(page) == 5
    scores = [float(one) for one in page.locator(".ns-card b").all_text_contents()]
    assert scores == sorted(scores, reverse=True), "best first"
    page.locator(".ns-judge", has_text=re.compile("oracle [✓✗]")).nth(4).wait_for()
    alts = [one.get_attribute("alt") for one in page.locator(".ns-grid img").all()]
    assert all(re.fullmatch(rf"{PROMPT}, number \d, score [\d.-]+, seed \d", one) for one in alts)
    assert page.locator(".ns-curve").get_attribute("aria-label").startswith("score against NFE")

    with page.expect_download() as download:
        page.get_by_label("download number 1").click()
    with Image.open(download.value.path()) as image:
        assert "noise_search" in image.text and image.size == (64, 64)
    page.locator(".ns-card").first.get_by_role("button", name="Details").click()
    page.locator(".ns-details:focus").wait_for()
    seed = re.search(r"seed (\d)", alts[0])[1]
    page.get_by_role("button", name=f"Copy seed {seed}").click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == seed
    page.get_by_role("button", name="Copy recipe").click()
    page.get_by_role("button", name="Copied").nth(1).wait_for()
    assert json.loads(page.evaluate("navigator.clipboard.readText()"))[0]["seed"] == int(seed)
    page.get_by_role("button", name="Replay").click()
    page.locator(".ns-details dd", has_text="Made again for 20 NFE").wait_for()
    page.get_by_role("button", name="Close").click()
    is_gone(page, ".ns-details")

    pick(page, 0, 1)
    number(page, "How many", 2)
    page.get_by_role("button", name="More like these").click()
    page.locator(".ns-card").nth(6).wait_for()
    page.locator(".ns-ended").wait_for()
    assert page.get_by_text("round 2").count() == 1 and page.locator("[aria-pressed=true]").count() == 0

    page.reload(wait_until="domcontentloaded")
    page.locator(".ns-card").nth(6).wait_for()
    assert page.get_by_label("Prompt").input_value() == PROMPT, "the run is still there"
    assert page.get_by_label("number input for Budget").input_value() == "5"
    run = page.locator("[data-run]").get_attribute("data-run")
    page.goto(page.url.partition("?")[0], wait_until="domcontentloaded")
    page.get_by_role("button", name="Runs on this machine").click()
    with page.expect_download() as download:
        page.get_by_label(f"export board {run}").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert len({one.partition("/")[0] for one in archive.namelist()}) == 2, "both rounds"
        assert f"{run}/studio.json" in archive.namelist()
    page.get_by_role("button", name=re.compile(f"^{run} {PROMPT}")).click()
    page.locator(".ns-card").nth(6).wait_for()


@pytest.fixture(scope="module")
def board(desk):
    """The address of a board with four pictures."""
    from noise_search.studio.asked import Asked

    name = desk.start(Asked.of(prompt=PROMPT, algorithm="random", candidates=4, seed=10))
    desk.wait(name)
    return f"?run={name}"


def test_votes_and_pairs_put_pictures_in_order(tab, board):
    page = tab(board)
    page.locator(".ns-card").nth(3).wait_for()
    page.get_by_role("button", name="More like these").click()
    page.get_by_role("alert").filter(has_text="pick a picture, or give one a thumb up").wait_for()
    last = page.locator(".ns-card").last.get_attribute("data-picture")
    page.locator(".ns-card").last.get_by_label("thumb up").click()
    page.locator(f".ns-card:first-child[data-picture='{last}'] .ns-up[aria-pressed=true]").wait_for()
    page.locator(".ns-card").nth(1).get_by_label("thumb down").click()
    page.locator(".ns-card:last-child .ns-down[aria-pressed=true]").wait_for()
    page.get_by_role("button", name="Pick none").wait_for()
    pick(page, 1, 2)
    asked = {page.locator(".ns-card").nth(at).get_attribute("data-picture") for at in (1, 2)}
    page.get_by_role("button", name="Compare in pairs").click()
    page.get_by_text("2 questions left").wait_for()
    assert not re.search("score|seed", page.locator(".ns-ask").inner_html()), "nothing tells which is thought better"

    def sides():
        return [one.get_attribute("src") for one in page.locator(".ns-side img").all()]

    before = sides()
    assert {one.removeprefix("/picture/").removesuffix(".png") for one in before} == asked
    page.get_by_role("button", name="A is better").click()
    page.get_by_text("1 question left").wait_for()
    assert sides() == before[::-1], "in the other order"
    page.get_by_role("button", name="B is better").click()
    is_gone(page, ".ns-ask")
    better = before[0].removeprefix("/picture/").removesuffix(".png")
    page.locator(f".ns-card:nth-child(2)[data-picture='{better}']").wait_for()

    page.get_by_role("button", name="Pick none").click()
    is_gone(page, ".ns-pick[aria-pressed=true]")
    pick(page, 0)
    number(page, "How many", 2)
    page.get_by_role("button", name="Different from these").click()
    page.locator(".ns-pick[aria-pressed=true]").nth(1).wait_for()
    assert page.locator(".ns-pick").first.get_attribute("aria-pressed") == "false", "others than the one given"

    page.get_by_role("button", name="Pick none").click()
    is_gone(page, ".ns-pick[aria-pressed=true]")
    choose(page, "Go on from the picked pictures", "Branch on the way")
    number(page, "Branches leave at", 0.75)
    number(page, "How many", 1)
    page.get_by_role("button", name="More like these").click()  # of what has a thumb up
    page.locator(".ns-card", has_text="variation").wait_for()
    page.locator(".ns-ended").wait_for()


def test_two_tabs_take_turns_and_stopping_keeps_the_best_and_goes_on(tab):
    first, second = tab(), tab()
    search(first, "a red circle", images=16)
    first.locator(".ns-card").first.wait_for()
    search(second, "a blue square", images=1)
    second.get_by_text("waiting for its turn").wait_for()
    first.locator("#stop").click()
    stopped = finished(first)
    assert 0 < stopped < 16 and first.locator(".ns-stopped").count() == 1
    assert finished(second) == 1 and first.url != second.url
    best = first.locator(".ns-card").first.get_attribute("data-picture")
    first.get_by_role("button", name="Go on with it").click()
    first.locator(".ns-running, .ns-ended").wait_for()
    assert finished(first) == 16 and first.locator(f"[data-picture='{best}']").count() == 1


def test_bad_input_is_a_line_at_its_field_and_a_person_scores(tab):
    page = tab(viewport={"width": 1280, "height": 600}, color_scheme="dark")
    page.locator("#start").click()
    said = page.get_by_role("alert").filter(has_text="say what the image should show")
    playwright.expect(said).to_be_in_viewport(timeout=PATIENCE)
    playwright.expect(said).to_have_css("color", "rgb(252, 165, 165)")
    choose(page, "Model", "shapes-flw")
    page.get_by_role("alert").filter(has_text="did you mean 'shapes-flow'?").wait_for()
    choose(page, "Model", "shapes-flow")
    is_gone(page, "[role=alert]:has-text('did you mean')")
    page.get_by_role("button", name="More settings").click()
    page.get_by_label("Steps", exact=True).fill("0")
    page.get_by_role("alert").filter(has_text="steps is '0'; expected a number from 1 to 1000").wait_for()
    page.get_by_label("Steps", exact=True).fill("10")
    page.locator("#cost", has_text="of 10 steps").wait_for()
    choose(page, "Who scores", "me: I rate every picture")
    prompt = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    search(page, prompt, images=2)
    assert page.locator("#status h2").inner_text() == prompt, "a prompt is only text"
    assert page.locator("#status img, #status script, [role=alert]").count() == 0
    for count, mark in ((1, 3), (2, 8)):
        page.get_by_alt_text(f"the picture to rate, number {count}").wait_for()
        page.get_by_role("button", name=f"{mark} of 10", exact=True).click()
    assert finished(page) == 2
    assert [float(one) for one in page.locator(".ns-card b").all_text_contents()] == [8, 3]


def test_the_keyboard_alone_is_enough(tab):
    page = tab()

    def tab_to(what, key="Tab"):
        for _ in range(60):
            if page.evaluate("what => document.activeElement.matches(what)", what):
                return
            page.keyboard.press(key)
        pytest.fail(f"{what} isn't reached by {key}")

    tab_to("textarea")
    page.keyboard.type("a green heart")
    tab_to("input[aria-label^='number input for Budget']")
    page.keyboard.press("Control+a")
    page.keyboard.type("2")
    tab_to("#start")
    page.keyboard.press("Enter")
    page.locator(".ns-card").nth(1).wait_for()
    page.locator(".ns-ended").wait_for()
    tab_to(".ns-pick")
    page.keyboard.press("Space")
    page.wait_for_function("document.activeElement.matches('.ns-pick[aria-pressed=true]')")  # focus stays where it was
    tab_to(".ns-up")
    page.keyboard.press("Space")
    page.wait_for_function("document.activeElement.matches('.ns-up[aria-pressed=true]')")
    tab_to("[data-do=show]")
    page.keyboard.press("Enter")
    page.locator(".ns-details:focus").wait_for()
    tab_to("[data-do=hide]")
    page.keyboard.press("Enter")
    page.wait_for_function("document.activeElement.matches('[data-do=show]')")
    tab_to("input[aria-label^='number input for How many']", "Shift+Tab")
    page.keyboard.press("Control+a")
    page.keyboard.type("1")
    tab_to("#more")
    page.keyboard.press("Enter")
    page.locator(".ns-card").nth(2).wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_of_it_in_light_and_dark(tab, board, scheme):
    page = tab(board, viewport={"width": 390, "height": 844}, color_scheme=scheme)
    page.locator(".ns-card").nth(3).wait_for()
    pick(page, 0, 1)
    page.locator(".ns-card").first.get_by_role("button", name="Details").click()
    page.locator(".ns-details:focus").wait_for()
    page.get_by_role("button", name="Compare in pairs").click()
    page.locator(".ns-ask").wait_for()
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing hangs over the edge"
    page.set_viewport_size({"width": 390, "height": 844})
    left, right = (page.locator(".ns-card").nth(at).bounding_box() for at in (0, 1))
    assert left["y"] == right["y"] and left["width"] >= 150, "two beside each other"
    ground = Image.open(io.BytesIO(page.screenshot())).convert("L").getpixel((2, 400))
    assert (ground < 80) == (scheme == "dark")
    page.get_by_role("button", name="Enough").click()
    is_gone(page, ".ns-ask")
