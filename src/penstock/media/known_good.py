"""The smallest media of each modality that every healthy worker accepts.

They show whether a worker, rather than an event, is at fault.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

from penstock.records import Modality

# Written by `python -m tools.reference_models.known_good`: a few words, and the same beside two images.
AUDIO = Path(__file__).with_name("known_good.ogg")
VIDEO = Path(__file__).with_name("known_good.mp4")


def _pdf_of(text: bytes) -> bytes:
    """Returns a PDF of one page with a line of text in ASCII."""
    drawn = b"BT /F1 24 Tf 20 100 Td (%s) Tj ET" % text
    objects = (
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] /Contents 4 0 R "
        b"/Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawn), drawn),
    )
    document, offsets = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(document))
        document += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    trailer = b"trailer\n<< /Size 5 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % len(document)
    return document + b"xref\n0 5\n0000000000 65535 f \n" + table + trailer


_SMALL: Mapping[Modality, bytes] = {
    Modality.TEXT: b"Water is wet.",
    # A PNG of one grey pixel.
    Modality.IMAGE: base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
    ),
    Modality.DOCUMENT: _pdf_of(b"Water is wet."),
}


def sample(modality: Modality) -> bytes:
    """Returns the media of a modality."""
    if modality in _SMALL:
        return _SMALL[modality]
    return (AUDIO if modality is Modality.AUDIO else VIDEO).read_bytes()
