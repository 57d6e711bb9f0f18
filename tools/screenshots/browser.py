"""Opens Debian's Chromium for a block."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from penstock.errors import UsageError

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM: Final = "chromium"

# The sandbox needs rights that containers lack, and shared memory is small there. Media start as after a click, which
# Chromium knows of anyhow; they are muted, as no test machine has a loudspeaker.
_ARGUMENTS: Final = ("--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--mute-audio", "--hide-scrollbars")


@contextmanager
def open_browser(arguments: Sequence[str] = ()) -> Iterator[Browser]:
    """Yields a Chromium without a window, and ends it.

    Raises:
        UsageError: there is no Chromium on the PATH, or the package playwright is not installed.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as exc:
        raise UsageError("the package playwright is not installed: pip install playwright") from exc
    path = shutil.which(CHROMIUM)
    if path is None:
        raise UsageError(f"{CHROMIUM} is not on the PATH: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=Path(path), args=[*_ARGUMENTS, *arguments])
        try:
            yield browser
        finally:
            browser.close()
