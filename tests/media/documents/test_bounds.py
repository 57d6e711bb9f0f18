"""Documents that are damaged, locked or made to exhaust a reader: each has an outcome in bounded memory and time."""

from __future__ import annotations

import io
import re
import resource
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from reportlab.pdfgen.canvas import Canvas

from penstock.errors import BadInputError, Reason
from penstock.media.documents.types import DocumentType
from tests.media.documents.made import lines, pdf, read, words
from tests.media.documents.test_books_and_mail import CONTAINER, PACKAGE, epub, message
from tests.media.documents.test_office import rewritten, word_document, workbook

PDF, DOCX, XLSX, EPUB, EMAIL = (
    DocumentType.PDF, DocumentType.DOCX, DocumentType.XLSX, DocumentType.EPUB, DocumentType.EMAIL,
)  # fmt: skip


@contextmanager
def bounded(cpu_s: float = 30.0) -> Iterator[None]:
    """Asserts that children took less than this CPU time, and that none held more than 1.5 GiB."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    peaks_kib, ended = [0], threading.Event()
    watcher = threading.Thread(target=note_peaks, args=(peaks_kib, ended))
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert used_s < cpu_s
    assert max(peaks_kib) < 1.5 * 1024 * 1024


def note_peaks(peaks_kib: list[int], ended: threading.Event) -> None:
    """Notes the peak memory of the parsers until the end. That of `getrusage` has the memory of this process in it."""
    while not ended.wait(0.02):
        for child in psutil.Process().children():
            with suppress(psutil.Error, OSError):
                if "penstock.media.documents.child" in child.cmdline():
                    status = Path(f"/proc/{child.pid}/status").read_text()
                    peaks_kib.extend(map(int, re.findall(r"VmHWM:\s+(\d+) kB", status)))


def refusal(data: bytes, kind: DocumentType, **limits: float) -> tuple[Reason, str]:
    with bounded(), pytest.raises(BadInputError) as refused:
        read(data, kind, **limits)
    return refused.value.reason, str(refused.value)


def raw_pdf(*objects: str, root: int = 1) -> bytes:
    """A PDF of these objects, numbered from 1, with a right table of references."""
    out, offsets = b"%PDF-1.7\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode("latin-1")
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return out + f"trailer\n<< /Size {len(objects) + 1} /Root {root} 0 R >>\nstartxref\n{start}\n%%EOF\n".encode()


def stream(content: str, more: str = "") -> str:
    return f"<< /Length {len(content)} {more} >>\nstream\n{content}\nendstream"


FONT = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"


# --- locked and damaged ----------------------------------------------------------------------------------------------


def test_a_pdf_with_a_password_is_unsupported() -> None:
    reason, text = refusal(pdf(lines("secret"), encrypt="owl"), PDF)
    assert (reason, "encrypted" in text) == (Reason.UNSUPPORTED, True)


@pytest.mark.parametrize("mark", [b"startxref", b"xref\n"])
def test_a_pdf_with_a_broken_table_of_references_is_repaired(mark: bytes) -> None:
    data = pdf(lines("The heron stands still."), lines("It flies."))
    pages = read(data.replace(mark, b"#" * len(mark)), PDF).pages
    assert [words(page) for page in pages] == ["The heron stands still.", "It flies."]


@pytest.mark.parametrize("kept", [100, 600])
def test_a_pdf_of_which_the_pages_are_lost_is_corrupt(kept: int) -> None:
    reason, _ = refusal(pdf(lines("x"))[:kept], PDF)
    assert reason is Reason.CORRUPT


@pytest.mark.parametrize(("make", "kind"), [(word_document, DOCX), (workbook, XLSX), (epub, EPUB)])
def test_a_truncated_archive_is_corrupt(make: Callable[[], bytes], kind: DocumentType) -> None:
    reason, text = refusal(make()[:-200], kind)
    assert (reason, "truncated or damaged" in text) == (Reason.CORRUPT, True)


def test_noise_is_corrupt_for_every_parser() -> None:
    noise = bytes(range(256)) * 40
    for kind in (PDF, DOCX, DocumentType.PPTX, XLSX, EPUB):
        assert refusal(noise, kind)[0] is Reason.CORRUPT


def test_an_encrypted_book_is_unsupported() -> None:
    method = '<encryption xmlns="x"><EncryptedData><EncryptionMethod Algorithm="aes"/></EncryptedData></encryption>'
    assert refusal(epub(**{"META-INF/encryption.xml": method}), EPUB)[0] is Reason.UNSUPPORTED


# --- bombs -----------------------------------------------------------------------------------------------------------


def zeros(count: int) -> Callable[[str, bytes], bytes]:
    return lambda name, data: data + b" " * count if name == "word/document.xml" else data


def test_a_flat_zip_bomb_is_refused_by_its_directory() -> None:
    reason, text = refusal(rewritten(word_document(), zeros(64 << 20)), DOCX)
    assert (reason, "zip bomb" in text) == (Reason.TOO_LARGE, True)
    reason, text = refusal(rewritten(word_document(), zeros(9 << 20)), DOCX, max_unpacked_mib=8)
    assert (reason, "max_unpacked_mib" in text) == (Reason.TOO_LARGE, True)


def test_a_bomb_that_understates_its_size_is_not_unpacked_further() -> None:
    data = bytearray(rewritten(word_document(), zeros(64 << 20)))
    for mark, at in ((b"PK\1\2", 24), (b"PK\3\4", 22)):
        begin = 0
        while (begin := data.find(mark, begin)) >= 0:
            if int.from_bytes(data[begin + at : begin + at + 4], "little") > 1 << 20:
                data[begin + at : begin + at + 4] = (1000).to_bytes(4, "little")
            begin += 4
    assert refusal(bytes(data), DOCX)[0] is Reason.CORRUPT


def test_a_nested_zip_bomb_is_never_unpacked() -> None:
    bomb = b"\0" * (32 << 20)
    for _ in range(3):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for number in range(4):
                archive.writestr(f"{number}.zip", bomb)
        bomb = out.getvalue()
    with bounded(10):
        pages = read(epub(**{"OEBPS/bomb.zip": bomb}), EPUB)
        assert pages.page_count == 2
        mail = message()
        mail.add_attachment(bomb, maintype="application", subtype="zip", filename="bomb.zip")
        assert words(read(mail.as_bytes(), EMAIL).pages[0]).endswith("Attachment: bomb.zip (application/zip)")


def laughs() -> str:
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    return f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY l0 "ha">{entities}]>'


def test_a_billion_laughs_are_refused() -> None:
    def change(name: str, data: bytes) -> bytes:
        body = data.partition(b"?>")[2].replace(b"<w:t>", b"<w:t>&l9;")
        return laughs().encode() + body if name == "word/document.xml" else data

    reason, text = refusal(rewritten(word_document(), change), DOCX)
    assert (reason, "declares a document type" in text) == (Reason.CORRUPT, True)
    reason, text = refusal(epub(**{"META-INF/container.xml": laughs() + CONTAINER}), EPUB)
    assert (reason, "EntitiesForbidden" in text) == (Reason.CORRUPT, True)


def test_external_entities_are_never_read() -> None:
    entity = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY secret SYSTEM "file:///etc/passwd">]>'
    package = PACKAGE.replace("On herons", "&secret;")
    assert refusal(epub(**{"OEBPS/book.opf": entity + package}), EPUB)[0] is Reason.CORRUPT


def test_ten_thousand_pages_are_read_up_to_the_limit() -> None:
    draw = [lines(f"Page {number}") for number in range(1, 10_001)]
    data = pdf(*draw)
    with bounded(60):
        pages = read(data, PDF, first=1_999, count=50)
    assert (pages.page_count, pages.is_last) == (2_000, True)
    assert [words(page) for page in pages.pages] == ["Page 1999", "Page 2000"]
    assert pages.notes == ("pages after 2,000 of 10,000 were not read (documents.max_pages)",)


def test_a_page_as_large_as_a_field_is_drawn_in_bounded_pixels() -> None:
    def field(canvas: Canvas) -> None:
        canvas.setPageSize((100_000, 100_000))
        canvas.setFont("Helvetica", 9_000)
        canvas.drawString(1_000, 50_000, "Heron")

    def strip(canvas: Canvas) -> None:
        canvas.setPageSize((100_000, 3))

    with bounded(10):
        pages = read(pdf(field, strip), PDF).pages
    assert [page.image.shape for page in pages if page.image is not None] == [(1_024, 1_024, 3), (1, 1_024, 3)]
    assert words(pages[0]) == "Heron"


def test_a_tree_of_pages_that_contains_itself_ends() -> None:
    data = raw_pdf(
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Count 1000000000 /Kids [3 0 R 2 0 R] >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 100 100] >>",
    )
    with bounded(20):
        assert read(data, PDF, count=3).page_count <= 2_000


def test_a_deep_tree_of_pages_ends() -> None:
    depth = 5_000
    nodes = [f"<< /Type /Pages /Count 1 /Kids [{number + 3} 0 R] >>" for number in range(depth)]
    data = raw_pdf("<< /Type /Catalog /Pages 2 0 R >>", *nodes, "<< /Type /Page /MediaBox [0 0 100 100] >>")
    assert refusal(data, PDF)[0] in (Reason.CORRUPT, Reason.CRASHES_WORKER)


def forms(count: int, draws: int) -> bytes:
    """A page with a form that draws the next one several times, and so on."""
    names = [
        stream("/X Do " * draws, f"/Type /XObject /Subtype /Form /BBox [0 0 100 100] /Resources << /XObject << /X "
               f"{number + 6} 0 R >> >>")
        for number in range(count)
    ]  # fmt: skip
    return raw_pdf(
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Count 2 /Kids [3 0 R 4 0 R] >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 100 100] /Contents 5 0 R /Resources "
        "<< /XObject << /X 6 0 R >> >> >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 100 100] >>",
        stream("/X Do"),
        *names,
        stream("0 0 1 1 re f", "/Type /XObject /Subtype /Form /BBox [0 0 100 100]"),
    )


def test_a_page_that_takes_for_ever_is_damaged_and_the_next_is_read() -> None:
    with bounded(30):
        pages = read(forms(20, 20), PDF, parse_timeout_s=4).pages
    assert "took too much CPU time" in pages[0].damage or "memory" in pages[0].damage or "crashed" in pages[0].damage
    assert (pages[1].number, pages[1].damage, pages[1].image is None) == (2, "", False)


def test_pages_with_much_on_them_come_in_several_calls() -> None:
    pages = read(pdf(*(lines(f"Page {number}") for number in range(1, 9))), PDF, page_px=4_096)
    assert 1 < len(pages.pages) < 8
    assert (pages.is_last, pages.next_page) == (False, len(pages.pages) + 1)
    rest = read(pdf(*(lines(f"Page {number}") for number in range(1, 9))), PDF, first=pages.next_page, page_px=4_096)
    assert words(rest.pages[0]) == f"Page {pages.next_page}"


def test_a_form_that_draws_itself_ends() -> None:
    data = forms(1, 1).replace(b"/X 7 0 R", b"/X 6 0 R")
    with bounded(10):
        assert len(read(data, PDF).pages) == 2


def test_more_memory_than_allowed_is_too_large() -> None:
    def change(name: str, data: bytes) -> bytes:
        return data.replace(b"<w:p>", b"<w:p/>" * 2_000_000 + b"<w:p>", 1) if name == "word/document.xml" else data

    reason, text = refusal(rewritten(word_document(), change), DOCX, max_memory_mib=128)
    assert reason is Reason.TOO_LARGE
    assert "max_memory_mib" in text or "zip bomb" in text


def test_messages_within_messages_end() -> None:
    nested = b"Content-Type: multipart/mixed; boundary=%d\n\n--%d\n"
    data = b"From: a@example.org\nDate: today\n" + b"".join(nested % (number, number) for number in range(5_000))
    assert refusal(data, EMAIL)[0] is Reason.CORRUPT


def test_no_child_outlives_a_call() -> None:
    before = {child.pid for child in psutil.Process().children()}
    refusal(b"%PDF-1.4", PDF)
    assert {child.pid for child in psutil.Process().children()} <= before
