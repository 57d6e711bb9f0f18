"""The concepts that the reference image tower was trained on, drawn by others: Twitter's emoji on white."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from penstock.samples.images import load_concepts
from tools.evaluation_sets.layout import SetDraft, normalise, square_on_white
from tools.evaluation_sets.packages import Packages

_PACKAGE = ("emoji-datasource-twitter", "16.0.0")
_LONGEST_PX, _QUALITY = 256, 92


def build(packages: Packages, folder: Path) -> None:
    """Builds the set."""
    package = packages.npm(*_PACKAGE)
    emoji = json.loads((package / "emoji.json").read_text(encoding="utf-8"))
    by_name: dict[str, dict[str, str]] = {}
    for row in emoji:
        by_name.setdefault(normalise(row["name"] or ""), row)
        by_name.setdefault(normalise(row["short_name"].replace("_", " ").replace("-", " ")), row)
    draft = SetDraft(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for number, concept in enumerate(load_concepts()):
        match = by_name.get(normalise(concept.name))
        if match is None or not match["has_img_twitter"]:
            continue
        document = f"em-{number}"
        image = f"images/{document}.jpg"
        drawing = Image.open(package / "img/twitter/64" / match["image"])
        square_on_white(drawing, _LONGEST_PX).save(folder / image, quality=_QUALITY)
        draft.add_document(
            document, concept.name, title=concept.name, text=concept.description, image=image, style="drawn"
        )
        draft.add_query(f"q{number}", concept.name, lang="en", kind="name", relevant=[document])
    draft.write(source=f"npm {' '.join(_PACKAGE)}", licence="CC-BY-4.0 (artwork)")
