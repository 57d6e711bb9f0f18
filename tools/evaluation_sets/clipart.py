"""Clip art with its title and keywords: Debian's Open Clip Art, in the public domain."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tools.evaluation_sets.layout import SetDraft, normalise, square_on_white
from tools.evaluation_sets.packages import Packages

_DRAWINGS, _RENDERINGS = "openclipart-svg", "openclipart-png"
_FOLDERS = frozenset({
    "animals", "food", "people", "transportation", "tools", "office", "recreation", "plants", "buildings", "education",
    "electronics", "decorations", "science", "containers", "unsorted",
})  # fmt: skip
_LEFT_OUT = frozenset({"cards", "roadsigns"})
_TITLE = re.compile(r"<dc:title>([^<]*)</dc:title>")
_KEYWORD = re.compile(r"<rdf:li>([^<]+)</rdf:li>")
_PLAIN_TITLE = re.compile(r"[a-z][a-z ,'()-]{2,60}")
_PLAIN_KEYWORD = re.compile(r"[a-z][a-z -]{2,30}")
_LONGEST_PX, _QUALITY = 224, 85
# A title that more drawings share is that of a collection.
_MAX_SAME_TITLE = 6


@dataclass(frozen=True)
class _Drawing:
    """A drawing that is also rendered: its path below the package's folder, title and keywords."""

    path: Path
    title: str
    keywords: tuple[str, ...]
    rendering: Path


def build(packages: Packages, folder: Path) -> None:
    """Builds the set."""
    share = Path("usr/share/openclipart")
    drawings = _drawings(packages.debian(_DRAWINGS) / share / "svg", packages.debian(_RENDERINGS) / share / "png")
    shared = Counter(drawing.title for drawing in drawings)
    draft = SetDraft(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    texts: dict[tuple[str, str, str], list[tuple[str, str]]] = defaultdict(list)
    Image.MAX_IMAGE_PIXELS = None  # a few renderings have 169 megapixels
    for drawing in drawings:
        if shared[drawing.title] > _MAX_SAME_TITLE:
            continue
        document = "ca-" + hashlib.blake2b(str(drawing.path).encode(), digest_size=5).hexdigest()
        image = f"images/{document}.jpg"
        try:
            square_on_white(Image.open(drawing.rendering), _LONGEST_PX).save(folder / image, quality=_QUALITY)
        except (OSError, ValueError):  # a few renderings are empty
            continue
        caption = ", ".join([drawing.title, *drawing.keywords])
        draft.add_document(document, drawing.title, title=drawing.title, text=caption, image=image, style="drawn")
        texts["en", "name", drawing.title].append((document, drawing.title))
        texts["en", "caption", caption].append((document, caption))
    draft.add_queries(texts)
    draft.write(source=f"Debian {_DRAWINGS} and {_RENDERINGS}", licence="public domain")


def _drawings(svg: Path, png: Path) -> list[_Drawing]:
    drawings = []
    for file in sorted(svg.rglob("*.svg")):
        path = file.relative_to(svg)
        rendering = png / path.with_suffix(".png")
        if path.parts[0] not in _FOLDERS or _LEFT_OUT.intersection(path.parts) or not rendering.is_file():
            continue
        content = file.read_text(encoding="utf-8", errors="replace")
        match = _TITLE.search(content)
        title = _plain(match[1]) if match else ""
        words = dict.fromkeys(normalise(word) for word in _KEYWORD.findall(content))
        keywords = tuple(word for word in words if _PLAIN_KEYWORD.fullmatch(word))
        if _PLAIN_TITLE.fullmatch(title) and keywords:
            drawings.append(_Drawing(path, title, keywords, rendering))
    return drawings


def _plain(title: str) -> str:
    """Returns a title without numbers, author and file type."""
    words = normalise(re.sub(r"[_-]+", " ", title))
    return re.sub(r"\b\d+\b|\bby .*$|\.svg$", "", words).strip()
