"""Looks at a page as people do: on a desktop, on a phone in the dark, by keyboard alone, and by
the rules of axe-core.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image

SERIOUS = ("serious", "critical")
# The paths of the test's own folder are shown as a user's would be.
SHOW = """([from, to]) => {
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const text = walk.currentNode;
    if (text.data.includes(from)) text.data = text.data.replaceAll(from, to);
  }
  for (const field of document.querySelectorAll("input")) {
    if (field.value.includes(from)) field.value = field.value.replaceAll(from, to);
  }
}"""
# What the keyboard must reach: of radio buttons of one name, one.
REACHABLE = """() => {
  const names = new Set(), found = [];
  const all = "a[href], button, input, select, textarea, summary, iframe, [tabindex='0']";
  for (const one of document.querySelectorAll(all)) {
    if (one.disabled || one.type === "hidden" || !one.checkVisibility()) continue;
    if (one.type === "radio") {
      if (names.has(one.name)) continue;
      names.add(one.name);
    }
    found.push(one);
  }
  window.reachable = found;
  return found.length;
}"""
FOCUSED = """() => {
  const one = document.activeElement;
  if (one === document.body) return null;
  const same = (a) => a === one || (a.type === "radio" && a.name === one.name);
  const style = getComputedStyle(one);
  // in a frame it is a thing of the frame's own page that has the focus
  const ring = one.tagName === "IFRAME" ||
    (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0);
  return { at: window.reachable.findIndex(same), ring, html: one.outerHTML.slice(0, 120) };
}"""


class Eye:
    """A page of the browser, and the faults that were seen on it."""

    DESKTOP = {"width": 1200, "height": 900}
    PHONE = {"width": 390, "height": 844}

    def __init__(self, page: Any, seen: Path, axe: str | None, top: str) -> None:
        self.page, self.seen, self.axe, self.top = page, seen, axe, top
        self.looked: list[str] = []
        self.wide: list[str] = []
        self.faults: list[str] = []
        self.lost: list[str] = []
        self.errors: list[str] = []
        self._listen()

    def _listen(self) -> None:
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._console)

    def reopen(self, address: str) -> None:
        """Closes the page, and opens that address in a new one of the same browser."""
        context = self.page.context
        self.page.close()
        self.page = context.new_page()
        self._listen()
        self.page.goto(address)

    def _console(self, message: Any) -> None:
        # the browser says so of each answer that is no 200, and those are asked for
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.errors.append(message.text)

    def look(self, name: str) -> None:
        """Screenshots and faults of the page as it is now."""
        page = self.page
        for size, way, scheme in (
            (self.PHONE, "phone", "dark"),
            (self.DESKTOP, "desktop", "light"),
        ):
            page.set_viewport_size(size)
            page.emulate_media(color_scheme=scheme)
            page.wait_for_load_state()
            self.looked.append(f"{name} {way}")
            width = page.evaluate("document.documentElement.scrollWidth")
            if width > size["width"]:
                self.wide.append(f"{name}: {width} pixels on a {way} of {size['width']}")
            if self.axe:
                self.faults += [f"{name}, {way}: {one}" for one in self.ask_axe()]
            self._shoot(f"{name}-{way}")
        self.lost += [f"{name}: {one}" for one in self.tab_through()]

    def _shoot(self, name: str) -> None:
        """A screenshot; one that the browser of a busy machine never finishes is taken again."""
        for last in (False, True):
            try:
                self.page.screenshot(path=self.seen / f"{name}.png", full_page=True, timeout=60_000)
                return
            except Exception as error:
                if last or "Timeout" not in str(error):
                    raise

    def ask_axe(self) -> list[str]:
        """Serious faults of the page by the rules of axe-core, in words."""
        for last in (False, False, True):
            try:
                self.page.evaluate(self.axe)
                found = self.page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
                break
            except Exception as error:  # the page went on to another on its own
                if last or "navigation" not in str(error):
                    raise
                self.page.wait_for_load_state()
        return [
            f"{one['id']}: {one['nodes'][0]['html'][:120]}"
            for one in found["violations"]
            if one["impact"] in SERIOUS
        ]

    def wait(self, selector: str) -> None:
        """Until it is there; what the page warns of instead ends the test."""
        page = self.page
        either = page.locator(selector).or_(page.locator("[role=alert]"))
        either.first.wait_for()
        assert page.locator(selector).count(), page.inner_text("[role=alert]")

    def show(self, name: str, at: str = "h1") -> None:
        """A small picture for docs/: the page from there on as a user sees it, in 64 colours."""
        page = self.page
        page.set_viewport_size({"width": 1000, "height": 800})
        page.evaluate(SHOW, [self.top, "~/sfumato-studio"])
        page.locator(at).first.evaluate("(one) => one.scrollIntoView()")
        page.wait_for_timeout(500)  # frames paint later
        image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        image.quantize(64, dither=Image.Dither.NONE).save(
            self.seen / f"studio-{name}.png", optimize=True
        )
        page.set_viewport_size(self.DESKTOP)

    def tab_through(self) -> list[str]:
        """What the tab key does not reach, and what shows no ring when it is there."""
        page = self.page
        number = page.evaluate(REACHABLE)
        page.evaluate("document.activeElement.blur()")
        met, faults, nowhere = set(), [], 0
        for _ in range(number + 200):
            page.keyboard.press("Tab")
            now = page.evaluate(FOCUSED)
            if now is None:
                page.wait_for_timeout(100)  # into a frame the focus goes by another process
                now = page.evaluate(FOCUSED)
            nowhere = 0 if now else nowhere + 1
            if nowhere == 2 or len(met) == number:
                break
            if now is not None:
                met.add(now["at"])
                if not now["ring"]:
                    faults.append(f"no ring: {now['html']}")
        lost = page.evaluate(
            "(met) => window.reachable.filter((_, i) => !met.includes(i))"
            ".map((one) => one.outerHTML.slice(0, 120))",
            sorted(met),
        )
        return faults + [f"not reached: {one}" for one in lost]

    def tab_to(self, selector: str) -> None:
        """Presses the tab key until it is there."""
        there = f"(document.activeElement.matches({selector!r}))"
        for _ in range(100):
            self.page.keyboard.press("Tab")
            if self.page.evaluate(there):
                return
        raise AssertionError(f"the tab key never came to {selector}")

    def press(self, words: str) -> None:
        """Goes to the button with these words by the tab key, and presses enter."""
        there = "(words) => document.activeElement.textContent.includes(words)"
        for _ in range(100):
            self.page.keyboard.press("Tab")
            if self.page.evaluate("document.activeElement.tagName") == "BUTTON":
                if self.page.evaluate(there, words):
                    self.page.keyboard.press("Enter")
                    return
        raise AssertionError(f"the tab key never came to {words}")
