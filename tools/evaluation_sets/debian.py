"""Descriptions of Debian's packages: the synopsis, in English and in translations, is the query, the rest the text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from tools.evaluation_sets.layout import SetDraft, normalise, ordered_by_hash
from tools.evaluation_sets.packages import MissingPackageError, Packages, read_stanzas

_DOCUMENTS = 6_000
_MIN_CHARS, _MAX_CHARS = 200, 1_200
_SAME_START_CHARS = 80
# Packages of a family differ in a word: libraries, language packs, plug-ins. They are left out.
_SUFFIX = re.compile(r"-(dev|dbg|doc|data|common|l10n|dbgsym|java|perl|dkms|udeb)$")
_PREFIX = re.compile(
    r"^(lib|golang-|node-|r-cran|r-bioc|ruby-|python3?-|haskell|librust-|libghc|fonts-|elpa-|hunspell|aspell|task-"
    r"|texlive-|php-|linux-|dict-|kodi-|myspell|hyphen|libreoffice-|gcc-|gnat|g\+\+|gfortran|gobjc|gdc|cpp|binutils"
    r"|postgresql-|asterisk-|fcitx|ibus|uim)"
)


def build(packages: Packages, folder: Path) -> None:
    """Builds the set from the descriptions that apt fetches."""
    files = packages.descriptions()
    if "en" not in files:
        raise MissingPackageError("apt has fetched no English descriptions; is this a Debian?")
    descriptions, package_of = _english(files["en"])
    chosen = _choose(descriptions)
    draft = SetDraft(folder)
    for name in chosen:
        draft.add_document(name, name, title="", text=descriptions[name][1])
    for name in chosen:
        draft.add_query(f"en:{name}", descriptions[name][0], lang="en", kind="synopsis", relevant=[name])
    for language, file in files.items():
        if language != "en":
            _add_translations(draft, language, file, package_of, {name: descriptions[name][0] for name in chosen})
    draft.write(source="Debian's package descriptions and their translations", licence="as the packages'")


def _english(file: Path) -> tuple[dict[str, tuple[str, str]], dict[str, str]]:
    """Returns synopsis and text of each package, and the package of each description's hash."""
    descriptions: dict[str, tuple[str, str]] = {}
    package_of: dict[str, str] = {}
    for row in read_stanzas(file):
        synopsis, _, rest = row.get("Description-en", "").partition("\n")
        text = re.sub(r"\s+", " ", re.sub(r"(?m)^\.$", " ", rest)).strip()
        if len(text) >= _MIN_CHARS and row["Package"] not in descriptions:
            descriptions[row["Package"]] = synopsis, text[:_MAX_CHARS]
            package_of[row["Description-md5"]] = row["Package"]
    return descriptions, package_of


def _choose(descriptions: Mapping[str, tuple[str, str]]) -> list[str]:
    """Returns packages that differ in synopsis and in the start of their text."""
    seen: set[str] = set()
    chosen: list[str] = []
    for name in ordered_by_hash(descriptions):
        synopsis, text = descriptions[name]
        keys = {text[:_SAME_START_CHARS], normalise(synopsis)}
        if _SUFFIX.search(name) or _PREFIX.search(name) or keys & seen:
            continue
        seen |= keys
        chosen.append(name)
        if len(chosen) == _DOCUMENTS:
            break
    return chosen


def _add_translations(
    draft: SetDraft, language: str, file: Path, package_of: Mapping[str, str], synopses: Mapping[str, str]
) -> None:
    added: set[str] = set()
    for row in read_stanzas(file):
        name = package_of.get(row.get("Description-md5", ""), "")
        translated = row.get(f"Description-{language}", "").partition("\n")[0]
        if name not in synopses or name in added or not translated or "<trans>" in translated:
            continue
        if normalise(translated) != normalise(synopses[name]):  # not left in English
            added.add(name)
            draft.add_query(f"{language}:{name}", translated, lang=language, kind="synopsis", relevant=[name])
