"""The pictures of docs/playing.md: `PYTHONPATH=src:tests .venv/bin/python tests/serving/screenshots.py [RUN]`.

They show real frames of the run beside its dream.
"""

import sys
from pathlib import Path

from noiseladder.recipes.play import playground_of
from serving.browser import DESK, PHONE, browser
from serving.served import served

FIGURES = Path(__file__).parents[2] / "docs" / "figures"


def main(run: str | None) -> None:
    """Write play.png and play-phone.png."""
    with served(playground_of(run)) as page, browser() as running:
        for name, size, phone in (("play.png", DESK, False), ("play-phone.png", PHONE, True)):
            context = running.new_context(
                viewport=size, has_touch=phone, is_mobile=phone, color_scheme="light" if phone else "dark"
            )
            tab = context.new_page()
            tab.goto(page.url)
            tab.wait_for_function("() => document.getElementById('number').textContent !== '–'")
            tab.keyboard.press("p" if phone or tab.locator("#beside").is_hidden() else "c")
            tab.wait_for_timeout(1200)
            tab.screenshot(path=str(FIGURES / name))
            print(f"wrote {FIGURES / name}")
            context.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
