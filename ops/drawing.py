"""Draws dashboards with data of a Prometheus, by Grafana's own components in Chromium."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from PIL import Image

from ops.node import BUILD, program, run_in_page, sources_changed
from ops.prometheus import Prometheus, Span, series_name, with_variables

_ROW_HEIGHT: Final = 38  # as in page/src/page.tsx
_ABOVE: Final = 90  # the title and the page's edges
_WIDTH: Final = 1640


def draw(dashboards: Sequence[Path], prometheus: Prometheus, span: Span, folder: Path) -> Sequence[Path]:
    """Returns the images of dashboards, written into a folder as PNG.

    Errors:
        MissingProgramError: Node or Chromium is missing.
        httpx.HTTPError: the Prometheus cannot be reached, or refuses a query.
        subprocess.CalledProcessError: the page cannot be built, or Chromium fails.
    """
    chromium = program("chromium", "chromium-browser", "google-chrome")
    boards = {path.stem: board_with_data(json.loads(path.read_text("utf-8")), prometheus, span) for path in dashboards}
    folder.mkdir(parents=True, exist_ok=True)
    page = _built_page()
    return [_image(chromium, page, board, folder / f"{name}.png") for name, board in boards.items()]


def board_with_data(dashboard: dict[str, Any], prometheus: Prometheus, span: Span) -> dict[str, Any]:
    """Returns what the page draws: a dashboard's panels with their series."""
    return {
        "title": dashboard["title"],
        "from": span.start,
        "to": span.end,
        "panels": [_panel_with_data(panel, prometheus, span) for panel in dashboard["panels"]],
    }


def _panel_with_data(panel: dict[str, Any], prometheus: Prometheus, span: Span) -> dict[str, Any]:
    shown = {name: panel.get(name) for name in ("title", "type", "gridPos")}
    shown |= {"options": panel.get("options", {}), "fieldConfig": panel.get("fieldConfig", {"defaults": {}})}
    return shown | {
        "series": [
            {
                "name": series_name(target.get("legendFormat", ""), series.labels),
                "times": series.times,
                "values": series.values,
            }
            for target in panel.get("targets", ())
            for series in prometheus.series(with_variables(target["expr"]), span)
        ]
    }


def _built_page() -> Path:
    """Returns the folder of the page, built at the first call and when its sources changed."""
    index = BUILD / "dist/index.html"
    if not index.exists() or index.stat().st_mtime < sources_changed():
        run_in_page("vite", "build", "--logLevel", "error")
    return index.parent


def _image(chromium: str, page: Path, board: dict[str, Any], path: Path) -> Path:
    """Returns the path of a board's image, 256 colours, a few dozen KB."""
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"]) * _ROW_HEIGHT + _ABOVE
    with tempfile.TemporaryDirectory() as name, _served(page, board, Path(name)) as url:
        raw = Path(name) / "raw.png"
        options = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=8000")
        size = f"--window-size={_WIDTH},{height}"
        command = [chromium, *options, size, f"--user-data-dir={name}/profile", f"--screenshot={raw}", url]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        with Image.open(raw) as drawn:
            drawn.convert("RGB").quantize(256).save(path, optimize=True)
    return path


@contextmanager
def _served(page: Path, board: dict[str, Any], folder: Path) -> Iterator[str]:
    """Serves the page with a board on loopback: browsers load no modules from files."""
    site = shutil.copytree(page, folder / "site")
    (site / "board.js").write_text(f"var board = {json.dumps(board)};", "utf-8")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/index.html"
    finally:
        server.shutdown()
        server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    """Serves files and logs nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing."""
