"""Opens pages in headless Chromium, and finds what a reader could not read: overflow, overlap and cut-off text."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
WIDTHS = (390, 1280)

FAULTS = """
() => {
  const faults = [], boxes = [], width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > width) faults.push("the page is wider than the window");
  const scrolls = node => {
    for (; node && node !== document.body; node = node.parentElement)
      if (["auto", "scroll"].includes(getComputedStyle(node).overflowX)) return true;
    return false;
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; node = walker.nextNode();) {
    const parent = node.parentElement, text = node.textContent.trim();
    if (!text || !parent.checkVisibility() || ["STYLE", "SCRIPT"].includes(parent.tagName)) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const box of range.getClientRects()) {
      if (!box.width || !box.height) continue;
      if (!scrolls(parent) && (box.left < -1 || box.right > width + 1)) faults.push("cut off: " + text);
      boxes.push({ text, left: box.left, right: box.right, top: box.top + 2, bottom: box.bottom - 2 });
    }
    const style = getComputedStyle(parent);
    if (style.overflowX === "hidden" && parent.scrollWidth > parent.clientWidth + 1) faults.push("hidden: " + text);
    const svg = parent.closest("svg");
    if (svg) {
      const outer = svg.getBoundingClientRect(), box = parent.getBoundingClientRect();
      if (box.left < outer.left - 1 || box.right > outer.right + 1) faults.push("outside its drawing: " + text);
    }
  }
  boxes.sort((one, other) => one.top - other.top);
  boxes.forEach((one, i) => {
    for (let j = i + 1; j < boxes.length && boxes[j].top < one.bottom; j++) {
      const other = boxes[j];
      const across = Math.min(one.right, other.right) - Math.max(one.left, other.left);
      const down = Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top);
      if (across > 1 && down > 1) faults.push(`overlap: ${one.text} | ${other.text}`);
    }
  });
  return [...new Set(faults)];
}
"""


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless Chromium of this machine; the test is skipped if there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"no Chromium: none of {', '.join(NAMES)} is on PATH (apt-get install chromium-headless-shell)")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def faults(browser: Any, path: Path) -> list[str]:
    """What can't be read on a page at each of `WIDTHS`, and what its browser complains of."""
    found: list[str] = []

    def complain(message: Any) -> None:
        found.append(message.text)

    for width in WIDTHS:
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.on("console", complain)
        page.goto(path.as_uri())
        found += [f"{width} px: {fault}" for fault in page.evaluate(FAULTS)]
        page.close()
    return found
