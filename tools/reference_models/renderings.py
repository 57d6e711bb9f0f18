"""Renders the everyday concepts that the reference models learn, and writes them into one archive.

    python -m tools.reference_models.renderings [--font F] [--annotations F] [--out ZIP]

Input is a colour-emoji font with bitmap strikes and CLDR's English annotations, both from Debian. Output is a zip of
one transparent WebP a concept and `concepts.json`, which names them. The same inputs give the same bytes (with one
version of Pillow): entries are sorted, stored, and carry a fixed date.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image, ImageDraw, ImageFont

from penstock.errors import UsageError
from penstock.samples.images import ARCHIVE_PATH, CONCEPTS_ENTRY, RENDERING_PX, Concept

DEBIAN_FONT_PATH = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
DEBIAN_ANNOTATIONS_PATH = Path("/usr/share/unicode/cldr/common/annotations/en.xml")

# The only strike that Noto Color Emoji holds; FreeType refuses any other size of a bitmap font.
STRIKE_PX = 109
# A glyph of that strike is 136 × 128; the canvas leaves room for its bearings.
CANVAS_PX = 176
# WebP at this quality is about 5 KB an image, 4.4 MB for all, with no artefact visible at 4 × zoom. Methods above 4
# take a hundred times longer (0.2 s an image) and save 1 %.
WEBP_QUALITY, WEBP_METHOD = 88, 4
# Zip's own epoch: an archive made twice is the same bytes.
FIXED_DATE = (1980, 1, 1, 0, 0, 0)
MAX_ARCHIVE_BYTES = 6_000_000

# Things that can be photographed, one code point each. Left out: people and faces, flags, hearts, signs and symbols,
# clocks, skin tones, and everything joined of several code points.
SUBJECTS: dict[str, str] = {
    "animals": (
        "🐵🐒🦍🦧🐶🐕🦮🐩🐺🦊🦝🐱🐈🦁🐯🐅🐆🐴🐎🦄🦓🦌🦬🐮🐂🐃🐄🐷🐖🐗🐽🐏🐑🐐🐪🐫🦙🦒🐘🦣🦏🦛🐭🐁🐀"
        "🐹🐰🐇🐿🦫🦔🦇🐻🐨🐼🦥🦦🦨🦘🦡🐾🦃🐔🐓🐣🐤🐥🐦🐧🕊🦅🦆🦢🦉🦤🪶🦩🦚🦜🐸🐊🐢🦎🐍🐲🐉🦕🦖🐳🐋"
        "🐬🦭🐟🐠🐡🦈🐙🐚🐌🦋🐛🐜🐝🪲🐞🦗🪳🕷🕸🦂🦟🪰🪱🦠"
    ),
    "plants": ("💐🌸🏵🌹🥀🌺🌻🌼🌷🌱🪴🌲🌳🌴🌵🌾🌿☘🍀🍁🍂🍃"),
    "food": (
        "🍇🍈🍉🍊🍋🍌🍍🥭🍎🍏🍐🍑🍒🍓🫐🥝🍅🫒🥥🥑🍆🥔🥕🌽🌶🫑🥒🥬🥦🧄🧅🍄🥜🌰🍞🥐🥖🫓🥨🥯🥞🧇🧀🍖🍗"
        "🥩🥓🍔🍟🍕🌭🥪🌮🌯🫔🥙🧆🥚🍳🥘🍲🫕🥣🥗🍿🧈🧂🥫🍱🍘🍙🍚🍛🍜🍝🍠🍢🍣🍤🍥🥮🍡🥟🥠🥡🦀🦞🦐🦑🦪"
        "🍦🍧🍨🍩🍪🎂🍰🧁🥧🍫🍬🍭🍮🍯"
    ),
    "drink and kitchen": ("🍼🥛☕🫖🍵🍶🍾🍷🍸🍹🍺🍻🥂🥃🥤🧋🧃🧉🧊🥢🍽🍴🥄🔪🏺"),
    "places": (
        "🌍🌎🌏🗺🧭🏔⛰🌋🗻🏕🏖🏜🏝🏞🏟🏛🏗🧱🪨🪵🛖🏘🏚🏠🏡🏢🏣🏤🏥🏦🏨🏪🏫🏬🏭🏯🏰💒🗼🗽⛪🕌🛕🕍⛩🕋⛲⛺🌁🌃🏙🌄🌅🌆🌇🌉🎠🎡🎢💈🎪"
    ),
    "travel": (
        "🚂🚃🚄🚅🚆🚇🚈🚉🚊🚝🚞🚋🚌🚍🚎🚐🚑🚒🚓🚔🚕🚖🚗🚘🚙🛻🚚🚛🚜🏎🏍🛵🦽🦼🛺🚲🛴🛹🛼🚏🛣🛤🛢⛽🚨"
        "🚥🚦🚧⚓⛵🛶🚤🛳⛴🛥🚢✈🛩🛫🛬🪂💺🚁🚟🚠🚡🛰🚀🛸🛎🧳⌛⏳⌚"
    ),
    "sky and weather": ("🌑🌒🌓🌔🌕🌖🌗🌘🌙🌡☀🪐⭐🌟🌠🌌☁⛅⛈🌤🌥🌦🌧🌨🌩🌪🌫🌀🌈🌂☂☔⛱⚡❄☃⛄☄🔥💧🌊"),
    "celebrations": ("🎃🎄🎆🎇🧨✨🎈🎉🎊🎋🎍🎏🎐🎑🧧🎀🎁🎗🎟🎫🎖🏆🏅🥇🥈🥉"),
    "sport and play": (
        "⚽⚾🥎🏀🏐🏈🏉🎾🥏🎳🏏🏑🏒🥍🏓🏸🥊🥋🥅⛳⛸🎣🤿🎽🎿🛷🥌🎯🪀🪁🎱🔮🪄🧿🎮🕹🎰🎲🧩🧸🪅🪆♟🀄🎴🖼🎨🧵🪡🧶🪢"
    ),
    "clothes": ("👓🕶🥽🥼🦺👔👕👖🧣🧤🧥🧦👗👘🥻🩱🩲🩳👙👚👛👜👝🛍🎒🩴👞👟🥾🥿👠👡🩰👢👑👒🎩🎓🧢🪖⛑📿💄💍💎"),
    "music and machines": (
        "📣📯🔔🎼🎙🎚🎛🎤🎧📻🎷🪗🎸🎹🎺🎻🪕🥁🪘📱📲☎📞📟📠🔋🔌💻🖥🖨⌨🖱🖲💽💾💿📀🧮🎥🎞📽🎬📺📷📸📹📼🔍🔎🕯💡🔦🏮🪔"
    ),
    "books, money and office": (
        "📔📕📖📗📘📙📚📓📒📃📜📄📰🗞📑🔖🏷💰🪙💴💵💶💷💸💳🧾✉📤📥📦📫📪📬📭📮🗳✏✒🖋🖊🖌🖍📝💼📁"
        "📂🗂📅📆🗒🗓📇📈📉📊📋📌📍📎🖇📏📐✂🗃🗄🗑"
    ),
    "tools and science": ("🔒🔓🔏🔐🔑🗝🔨🪓⛏⚒🛠🗡⚔🔫🪃🏹🛡🪚🔧🪛🔩⚙🗜⚖🦯🔗⛓🪝🧰🧲🪜⚗🧪🧫🧬🔬🔭📡💉🩸💊🩹🩺"),
    "household": ("🚪🪞🪟🛏🛋🪑🚽🪠🚿🛁🪤🪒🧴🧷🧹🧺🧻🪣🧼🪥🧽🧯🛒🚬⚰🪦⚱"),
    "more things": ("🩻🩼🪩🪫🪷🪸🪹🪺🫗🫘🫙🫧🛝🛞🛟🧠🫀🫁🦷🦴💣💌"),
}


@dataclass(frozen=True)
class Rendering:
    """A concept and its image: RGBA, RENDERING_PX square, transparent around the concept."""

    concept: Concept
    image: Image.Image


def read_annotations(path: Path) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Reads CLDR's English annotations: character → (name, keywords other than the name).

    Raises UsageError when the file is absent.
    """
    if not path.is_file():
        raise UsageError(f"no annotations at {path}: install Debian's unicode-cldr-core, or pass --annotations")
    names: dict[str, str] = {}
    keywords: dict[str, list[str]] = {}
    for annotation in ElementTree.parse(path).iter("annotation"):
        character, text = annotation.get("cp", ""), annotation.text or ""
        if annotation.get("type") == "tts":
            names[character] = text.strip()
        else:
            keywords[character] = [keyword.strip() for keyword in text.split("|")]
    return {
        character: (name, tuple(word for word in keywords.get(character, []) if word.lower() != name.lower()))
        for character, name in names.items()
    }


def concept_of(character: str, name: str, keywords: tuple[str, ...]) -> Concept:
    """Names a concept; its id is the name in lower case, with hyphens for all but letters and digits."""
    plain = name.lower().replace("’", "").replace("ñ", "n")
    return Concept(
        id=re.sub(r"[^a-z0-9]+", "-", plain).strip("-"),
        name=name,
        keywords=keywords,
        codepoint=f"U+{ord(character):04X}",
    )


def load_font(path: Path) -> ImageFont.FreeTypeFont:
    """Opens the colour font at its one strike. Raises UsageError when the file is absent."""
    if not path.is_file():
        raise UsageError(f"no font at {path}: install Debian's fonts-noto-color-emoji, or pass --font")
    return ImageFont.truetype(str(path), size=STRIKE_PX)


def draw(character: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """Draws one glyph, cropped to what is visible, centred, fitted to RGBA RENDERING_PX × RENDERING_PX.

    Raises UsageError when the font has no such glyph.
    """
    canvas = Image.new("RGBA", (CANVAS_PX, CANVAS_PX), (0, 0, 0, 0))
    ImageDraw.Draw(canvas).text((16, 16), character, font=font, embedded_color=True)
    box = canvas.getbbox()
    if box is None:
        raise UsageError(f"the font draws nothing for U+{ord(character):04X}: install a newer fonts-noto-color-emoji")
    glyph = canvas.crop(box)
    longest = max(glyph.size)
    square = Image.new("RGBA", (longest, longest), (0, 0, 0, 0))
    square.paste(glyph, ((longest - glyph.width) // 2, (longest - glyph.height) // 2))
    return square.resize((RENDERING_PX, RENDERING_PX), Image.Resampling.LANCZOS)


def render_all(font_path: Path, annotations_path: Path) -> list[Rendering]:
    """Renders every concept of SUBJECTS, in the order of their ids."""
    annotations, font = read_annotations(annotations_path), load_font(font_path)
    renderings = []
    for character in "".join(SUBJECTS.values()):
        if character not in annotations:
            raise UsageError(f"no annotation of U+{ord(character):04X}: install a newer unicode-cldr-core")
        name, keywords = annotations[character]
        renderings.append(Rendering(concept_of(character, name, keywords), draw(character, font)))
    return sorted(renderings, key=lambda rendering: rendering.concept.id)


def write_archive(renderings: Iterable[Rendering], path: Path) -> int:
    """Writes the archive and returns its size in bytes."""
    renderings = list(renderings)
    concepts = [
        {
            "id": r.concept.id,
            "name": r.concept.name,
            "keywords": r.concept.keywords,
            "codepoint": r.concept.codepoint,
        }
        for r in renderings
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        text = json.dumps(concepts, ensure_ascii=False, indent=1)
        archive.writestr(zipfile.ZipInfo(CONCEPTS_ENTRY, FIXED_DATE), text, zipfile.ZIP_DEFLATED)
        for rendering in renderings:
            encoded = io.BytesIO()
            rendering.image.save(encoded, "WEBP", quality=WEBP_QUALITY, method=WEBP_METHOD)
            entry = zipfile.ZipInfo(f"{rendering.concept.id}.webp", FIXED_DATE)
            archive.writestr(entry, encoded.getvalue(), zipfile.ZIP_STORED)
    return path.stat().st_size


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code, with one line on stderr when a source is missing."""
    parser = argparse.ArgumentParser(description="Render the reference concepts into the archive that ships.")
    parser.add_argument("--font", type=Path, default=DEBIAN_FONT_PATH)
    parser.add_argument("--annotations", type=Path, default=DEBIAN_ANNOTATIONS_PATH)
    parser.add_argument("--out", type=Path, default=ARCHIVE_PATH)
    arguments = parser.parse_args(argv)
    try:
        renderings = render_all(arguments.font, arguments.annotations)
    except UsageError as exc:
        print(f"renderings: {exc}", file=sys.stderr)
        return exc.exit_code
    size_bytes = write_archive(renderings, arguments.out)
    print(f"{len(renderings)} renderings, {size_bytes / 1e6:.2f} MB, written to {arguments.out}")
    if size_bytes > MAX_ARCHIVE_BYTES:
        print(f"renderings: the archive is over {MAX_ARCHIVE_BYTES / 1e6:.0f} MB", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
