"""The page in a real browser, opened from the disk; no visit may write to the console or send a request."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from musicgen_cli.actions.gallery.page import GalleryTake, render
from musicgen_cli.store import Store
from tests.support.chromium import TIMEOUT_MS
from tests.support.gallery_takes import SECONDS, SOUNDS, build_gallery, put

Visit = Callable[..., Page]
expect.set_options(timeout=TIMEOUT_MS)


def take(page: Page, which: str) -> Locator:
    """Find a take by its prompt, and by its number if it is in a set."""
    return page.get_by_role("group", name=which)


def position(page: Page) -> float:
    """Return the position of the current take in seconds."""
    return float(page.get_by_role("slider", name="Position").get_attribute("aria-valuenow") or "nan")


def until(page: Page, expression: str) -> None:
    """Wait until an expression is true; the page's policy forbids the polling that Playwright would do in the page."""
    deadline = time.monotonic() + TIMEOUT_MS / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(20)


def wait_until_past(page: Page, seconds: float) -> None:
    """Wait until the current take has played this far."""
    until(page, f"Number(document.querySelector('[role=slider]')?.ariaValueNow) > {seconds}")


def prompts(page: Page) -> list[str]:
    """Return the prompts of the takes that are visible."""
    shown = page.locator(".take:visible")
    return [(label or "").partition(",")[0] for label in (one.get_attribute("aria-label") for one in shown.all())]


def test_a_click_plays_and_another_pauses(visit: Visit, gallery: Path) -> None:
    """The position advances, and the button is named by what it does next."""
    page = visit(gallery)
    page.get_by_role("button", name="Play low drone").click()
    wait_until_past(page, 0.3)

    expect(page.get_by_role("button", name="Pause low drone, seed 1")).to_be_visible()
    page.get_by_role("button", name="Pause low drone, seed 1").click()
    expect(page.get_by_role("button", name="Play low drone, seed 1")).to_be_visible()
    stopped = page.evaluate("deck.currentTime")
    assert stopped > 0.3
    assert page.evaluate("deck.paused")


def test_only_one_take_plays(visit: Visit, gallery: Path) -> None:
    """Another take starts at its beginning, and the first one stops."""
    page = visit(gallery)
    page.get_by_role("button", name="Play low drone").click()
    wait_until_past(page, 0.5)
    page.get_by_role("button", name="Play Élan vital").click()
    wait_until_past(page, 0)

    assert page.evaluate("spare.paused")
    assert page.locator(".take.playing").count() == 1
    assert page.evaluate("deck.currentSrc") == take(page, "Élan vital").locator(".file").evaluate("link => link.href")


def test_a_click_in_the_waveform_seeks(visit: Visit, gallery: Path) -> None:
    """Also in a take that wasn't playing."""
    page = visit(gallery)
    wave = take(page, "low drone").locator(".wave")
    box = wave.bounding_box()
    assert box is not None
    for share in (0.75, 0.25):
        wave.click(position={"x": box["width"] * share, "y": box["height"] / 2})
        until(page, "!deck.paused && deck.seekable.length > 0 && !deck.seeking")
        at = page.evaluate("deck.currentTime")
        assert SECONDS * share - 0.5 < at < SECONDS * share + 50, share


def test_a_b_keeps_the_position(visit: Visit, gallery: Path) -> None:
    """Switching to the other take and back continues at the position, playing or not; letters mark the two takes."""
    page = visit(gallery)
    page.get_by_role("button", name="Play calm piano, take 1").click()
    page.get_by_role("button", name="Play calm piano, take 3").click()
    take(page, "calm piano, take 3").locator(".wave").click()  # half of it
    wait_until_past(page, SECONDS / 2 + 0.2)
    switch = page.get_by_role("button", name="Switch to A, take 1, at the same position")
    before = page.evaluate("deck.currentTime")
    switch.click()

    assert page.evaluate("deck.currentTime") >= before - 0.05
    expect(take(page, "calm piano, take 1").locator(".play")).to_have_accessible_name(
        "Pause calm piano, take 1, seed 2"
    )
    expect(take(page, "calm piano, take 1").locator("b")).to_have_text("A")
    expect(take(page, "calm piano, take 3").locator("b")).to_have_text("B")
    page.keyboard.press("x")
    until(page, "!deck.seeking")
    assert before <= page.evaluate("deck.currentTime") < before + 50
    expect(page.get_by_role("button", name="Switch to A")).to_be_visible()
    page.get_by_role("button", name="Pause calm piano, take 3").click()
    stopped = page.evaluate("deck.currentTime")
    page.keyboard.press("x")
    until(page, "!deck.seeking")
    assert page.evaluate("[deck.currentTime, deck.paused]") == [pytest.approx(stopped, abs=0.05), True]


def test_the_keyboard_does_everything(visit: Visit, gallery: Path) -> None:
    """It plays, pauses, moves between takes, seeks and searches; a key in the search field is a letter."""
    page = visit(gallery)
    page.keyboard.press("j")
    expect(take(page, "Élan vital").locator(".play")).to_be_focused()
    page.keyboard.press("Space")
    wait_until_past(page, 0.1)
    page.keyboard.press("ArrowDown")
    expect(take(page, "calm piano, take 1").get_by_role("button", name="Pause")).to_be_focused()
    page.keyboard.press("k")
    expect(take(page, "Élan vital").get_by_role("button", name="Pause")).to_be_focused()
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Play Élan vital, seed 5")).to_be_focused()
    before = page.evaluate("deck.currentTime")
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("deck.currentTime") == pytest.approx(before + 3, abs=0.1)
    page.keyboard.press("Tab")
    expect(page.get_by_role("slider", name="Position")).to_be_focused()
    page.keyboard.press("Home")
    expect(page.get_by_role("slider", name="Position")).to_have_attribute("aria-valuetext", "0:00 of 2:00")
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("jx k")
    expect(page.get_by_role("searchbox")).to_have_value("jx k")
    assert page.evaluate("deck.paused")
    page.keyboard.press("Escape")
    assert len(prompts(page)) == 5


def test_search_and_tags_narrow_each_other(visit: Visit, gallery: Path) -> None:
    """The search ignores order, case and accents; takes must have all tags; a sentence says that nothing matches."""
    page = visit(gallery)
    assert prompts(page) == ["Élan vital", "calm piano", "calm piano", "calm piano", "low drone"]
    box = page.get_by_role("searchbox", name="Search prompts and tags")
    box.fill("VITAL elan")
    assert prompts(page) == ["Élan vital"]
    box.fill("")
    page.get_by_role("button", name="night").click()
    assert prompts(page) == ["calm piano", "calm piano", "calm piano", "low drone"]
    expect(page.locator("#count")).to_have_text("4 of 5 takes")
    page.get_by_role("button", name="keeper").click()
    assert prompts(page) == ["calm piano"]
    expect(page.get_by_role("button", name="keeper", pressed=True)).to_be_visible()
    box.fill("drone")
    assert prompts(page) == []
    expect(page.get_by_text("Nothing matches.")).to_be_visible()
    box.fill("keeper")
    assert prompts(page) == ["calm piano"]


def test_the_commands_can_be_copied(visit: Visit, gallery: Path) -> None:
    """Both the one that generates the take again and the one that tags it."""
    page = visit(gallery, permissions=["clipboard-read", "clipboard-write"])
    drone = take(page, "low drone")
    drone.get_by_text("Details").click()
    for name, command in {
        "Make it again": "musicgen generate 'low drone' --duration 20 --temperature 1 --seed 1 "
        "--url http://127.0.0.1:2006",
        "Tag it": f"musicgen tag {drone.get_attribute('id')} --add keeper",
    }.items():
        drone.get_by_role("button", name=f"Copy: {name}").click()
        expect(page.locator("#status")).to_have_text("Copied")
        assert page.evaluate("navigator.clipboard.readText()") == command


def test_a_star_copies_the_command_that_tags_a_take(visit: Visit, gallery: Path) -> None:
    """The details stay closed; a take that has the tag has a full star."""
    page = visit(gallery, permissions=["clipboard-read", "clipboard-write"])
    drone = take(page, "low drone")
    star = drone.get_by_role("button", name="Copy the tag command of low drone, seed 1")
    star.click()
    command = f"musicgen tag {drone.get_attribute('id')} --add keeper"

    expect(page.locator("#status")).to_have_text(f"Copied: {command}")
    assert page.evaluate("navigator.clipboard.readText()") == command
    assert page.evaluate("document.querySelector('details[open]')") is None
    assert [one.get_attribute("aria-label") for one in page.locator(".kept").all()] == [
        "Copy the tag command of calm piano, take 2, seed 3"
    ]


def test_details_of_one_take_leave_its_neighbour_as_it_is(visit: Visit, gallery: Path) -> None:
    """The take beside it, and the title of a single one, keep their places and their heights."""
    page = visit(gallery, viewport={"width": 1280, "height": 900})
    for opened, beside in (("calm piano, take 1", "calm piano, take 2"), ("low drone", None)):
        other = take(page, beside) if beside else page.get_by_role("heading", name=opened)
        parts = [other, *other.locator(".play, .star, .wave, .own").all()]
        before = [part.bounding_box() for part in parts]
        take(page, opened).get_by_text("Details").click()
        expect(take(page, opened).get_by_text("Make it again")).to_be_visible()
        assert [part.bounding_box() for part in parts] == before


def test_on_a_phone_details_is_one_line(visit: Visit, tmp_path: Path) -> None:
    """However long what stands before it is."""
    put(Store(tmp_path / "store"), "drone", tags=["a long tag with blanks", "another long tag with blanks"])
    page = visit(build_gallery(Store(tmp_path / "store"), tmp_path / "page"), viewport={"width": 320, "height": 640})
    more = page.get_by_text("Details")

    lines = "e => e.getBoundingClientRect().height / parseFloat(getComputedStyle(e).lineHeight)"
    assert more.evaluate(lines) < 1.5


def test_every_control_has_a_name_and_tab_reaches_it_in_order(visit: Visit, gallery: Path) -> None:
    """A screen reader reads the name, and the focus follows the order of the takes."""
    page = visit(gallery)
    page.get_by_role("button", name="Play calm piano, take 2").click()
    controls = page.locator("button:visible, a:visible, input:visible, summary:visible, [role=slider]")
    for control in controls.all():
        expect(control).to_have_accessible_name(re.compile(r"\S"))
    page.locator(".skip").focus()
    tops = []
    for _ in range(controls.count() - 1):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('main') !== null"):
            tops.append(page.evaluate("takes.indexOf(document.activeElement.closest('.take'))"))
    assert tops == sorted(tops)
    assert {*tops} == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(visit: Visit, gallery: Path, scheme: str) -> None:
    """In light and dark it has the contrast that WCAG 2 requires of small text, 4.5 to 1."""
    page = visit(gallery, color_scheme=scheme)
    colours = page.evaluate(
        """() => ["--ink", "--soft", "--accent", "--paper", "--card"].map(name => {
            const probe = document.body.appendChild(document.createElement("i"));
            probe.style.color = `var(${name})`;
            const [r, g, b] = getComputedStyle(probe).color.match(/[0-9.]+/g).map(Number);
            probe.remove();
            return [r, g, b].map(c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
                .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
        })"""
    )
    *front, paper, card = colours
    for back in (paper, card):
        for colour in front:
            assert (max(colour, back) + 0.05) / (min(colour, back) + 0.05) >= 4.5
    assert (paper < 0.1) == (scheme == "dark")


def test_a_phone_needs_no_horizontal_scrolling(visit: Visit, gallery: Path) -> None:
    """Not even with the details open and a take playing."""
    page = visit(gallery, viewport={"width": 320, "height": 640}, has_touch=True, is_mobile=True)
    page.get_by_role("button", name="Play calm piano, take 2").tap()
    take(page, "calm piano, take 2").get_by_text("Details").tap()
    wait_until_past(page, 0.1)

    assert page.evaluate("document.documentElement.scrollWidth") == 320
    assert (
        page.evaluate("Math.max(...[...document.querySelectorAll('main *')].map(e => e.getBoundingClientRect().right))")
        <= 320
    )


def test_with_reduced_motion_the_waveform_still_follows(visit: Visit, gallery: Path) -> None:
    """It advances with the time updates of the sound instead of each frame."""
    page = visit(gallery, reduced_motion="reduce")
    page.get_by_role("button", name="Play low drone").click()
    wait_until_past(page, 0.5)

    assert page.locator(".played").evaluate("e => parseFloat(e.style.getPropertyValue('--at'))") > 0.3


def test_embedded_sounds_play_from_the_page_alone(visit: Visit, tmp_path: Path) -> None:
    """The page is one file that can be sent to others."""
    store = Store(tmp_path / "store")
    put(store, "low drone")
    page_path = build_gallery(store, tmp_path / "gallery", embed=True).rename(tmp_path / "alone.html")
    page = visit(page_path)
    page.get_by_role("button", name="Play low drone").click()
    wait_until_past(page, 0.2)


def test_the_policy_forbids_requests_and_other_scripts(browser: Browser, gallery: Path) -> None:
    """Even a script that did run could send nothing, and no script but the page's own runs."""
    page = browser.new_context().new_page()
    page.goto(gallery.as_uri())
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        violated = page.evaluate(
            """async url => {
                const violated = [];
                document.addEventListener("securitypolicyviolation", event => violated.push(event.effectiveDirective));
                const done = element => new Promise(resolve => { element.onload = element.onerror = resolve; });
                await fetch(url).catch(() => {});
                const image = new Image(); image.src = url; await done(image);
                const audio = new Audio(url); await done(audio);
                const script = document.createElement("script");
                try { script.textContent = "document.title = 'owned'"; } catch {}
                script.append("document.title = 'owned'");
                try { document.body.append(script); } catch {}
                try { document.body.insertAdjacentHTML("beforeend", "<b>x</b>"); } catch {}
                document.body.setAttribute("style", "color: red");
                await new Promise(resolve => setTimeout(resolve));
                return violated;
            }""",
            url,
        )
        with pytest.raises(BlockingIOError):
            listening.accept()
    assert {
        "connect-src",
        "img-src",
        "media-src",
        "style-src-attr",
        "require-trusted-types-for",
    } <= {*violated}
    assert page.title() == "Takes"
    page.context.close()


def test_a_page_of_a_thousand_takes_works(visit: Visit, tmp_path: Path) -> None:
    """They can be searched, the last one plays, and the page is smaller than three megabytes."""
    one = put(Store(tmp_path / "store"), "hay", seed=4)
    takes = [
        replace(one, id=f"artifact_{i:012x}", prompt="needle" if i == 999 else f"hay {i}", variation_set_id=f"{i // 4}")
        for i in range(1000)
    ]
    (tmp_path / "x.wav").write_bytes(SOUNDS[4])
    path = tmp_path / "index.html"
    path.write_bytes(render([GalleryTake(take, "x.wav", [0.5, 1.0] * 48) for take in takes], embedded=False))
    assert path.stat().st_size < 3e6
    page = visit(path)

    assert page.locator(".take").count() == 1000
    assert page.locator(".card").count() == 250
    page.get_by_role("searchbox").fill("needle")
    assert prompts(page) == ["needle"]
    page.get_by_role("button", name="Play needle").click()
    wait_until_past(page, 0.1)


# Text that would leave its place in a page, an attribute, a script or a style if it were not escaped.
HOSTILE = [
    "<script>document.title = 'owned'</script>",
    "</script><script>document.title = 'owned'</script>",
    "</style></title></textarea></noscript><img src=x onerror=\"document.title='owned'\">",
    '" onfocus="document.title=\'owned\'" autofocus x="',
    "' onmouseover='document.title=1' style='position:fixed;inset:0",
    "<!-- --><svg onload=document.title=1>",
    "javascript:document.title=1",
    "&lt;b&gt; &amp;amp; &#60;script&#62;",
    "$style ${script} {prompt} %s \\u003cscript\\u003e",
    "]]><a href=//evil.example>x</a>",
]
SHOWN_AS_ESCAPES = {
    "a\x00b\x1b[31m\x9b": r"a\x00b\x1b[31m\x9b",
    "\u202egnp.exe\u2066": r"\u202egnp.exe\u2066",
    "lone \ud800 \udfff": r"lone \ud800 \udfff",
    "line\u2028end": "line end",
}


def test_hostile_text_is_shown_as_text(visit: Visit, tmp_path: Path) -> None:
    """So it is in headings, names, tags and commands; control characters and bidi controls are shown as escapes."""
    one = put(Store(tmp_path / "store"), "x")
    expected = {text: text for text in HOSTILE} | SHOWN_AS_ESCAPES
    takes = [
        replace(
            one, id=f"artifact_{i:012x}", prompt=text, tags=(text,), creator=text, created=text, license=text,
            variation_set_id=text, origin={"kind": text, "model": text, "engine": text, "device": text},
        )
        for i, text in enumerate(expected)
    ]  # fmt: skip
    (tmp_path / "x.wav").write_bytes(SOUNDS[1])
    path = tmp_path / "index.html"
    path.write_bytes(render([GalleryTake(take, "x.wav", [0.5] * 96) for take in takes], embedded=False))
    page = visit(path)

    assert page.locator("h2").all_text_contents() == [*expected.values()]
    for button in page.locator(".all").all():
        button.click()
    assert {*page.locator(".tags button").all_text_contents()} == {*expected.values()}
    for text in expected.values():
        assert page.evaluate("text => takes.some(take => take.ariaLabel === text + ', seed 1')", text)
    assert page.evaluate("document.querySelectorAll('script, style, img, title, [onfocus], [style]').length") == 3
    assert page.evaluate("[...document.links].every(link => link.protocol === 'file:')")
    page.get_by_role("searchbox").fill("</script><")
    assert page.locator(".take:visible").count() == 1
    for summary in page.locator("summary:visible").all():
        summary.click()
    command = page.locator("code:visible").first.text_content() or ""
    assert command.startswith("musicgen generate '</script><script>document.title = '\"'\"'owned'")
    page.locator(".play:visible").first.click()
    wait_until_past(page, 0.1)
    assert page.title() == "Takes"
