"""Sources that try to run something in the page, or to change what it shows."""

from __future__ import annotations

from typing import Any

HOSTILE_TENANT = "hostile"
RUNS = "window.__ran=1"
MARKUP = (
    f"<img src=x onerror='{RUNS}'>",
    f"<script>{RUNS}</script>",
    f'"><svg onload="{RUNS}">',
    f"javascript:{RUNS}//",
    f"</bdi></span><iframe srcdoc='<script>parent.{RUNS}</script>'></iframe>",
    "{{constructor.constructor('window.__ran=1')()}}",
    f"<style>@import 'javascript:{RUNS}';*{{display:none}}</style>",
    "\u202egnp.exe",  # right-to-left override: must not turn round what follows it
    f"<a href='javascript:{RUNS}'>press here</a> [1] [2]",
    f"&lt;script&gt;{RUNS}&lt;/script&gt;",
)


def hostile_rows() -> list[dict[str, Any]]:
    """Returns lines as `penstock produce` reads them: markup in each of their fields."""
    return [
        {
            "key": f"{number}/{markup}",
            "title": f"{markup} harmless title {number}",
            "text": f"A harmless word before {markup} and another harmless word after it.",
            "attributes": {"note": markup, f"name {number}": "value"},
        }
        for number, markup in enumerate(MARKUP)
    ]
