"""Reads what installed packages state about their licences, and compares it with the policy. No network."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from license_expression import LicenseExpression, get_spdx_licensing

from tools.image_lock import Pin, read_pins, required_by

ROOT = Path(__file__).parents[2]
POLICY = Path(__file__).with_name("policy.toml")

_NAME = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)")
# Libraries under the GPL that wheels of otherwise permissive packages are known to carry.
_GPL_LIBRARIES = re.compile(
    r"(?:^|/)(lib(?:x264|x265|xvidcore|espeak-ng|fdk-aac|readline|gsl|vidstab|rubberband|cdio|dvdread))[-.\w]*\.(?:so|dylib|dll)"
)
_ALIASES = {
    "apache": "Apache-2.0",
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "3-clause bsd license": "BSD-3-Clause",
    "bsd 2-clause license": "BSD-2-Clause",
    "isc license": "ISC",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mit license (mit)": "MIT",
    "the mit license (mit)": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "gplv2": "GPL-2.0-only",
    "psfl": "PSF-2.0",
    "python software foundation license": "PSF-2.0",
    "the unlicense (unlicense)": "Unlicense",
}
_spdx = get_spdx_licensing()


@dataclass(frozen=True, slots=True)
class Policy:
    """The licences that packages may have.

    Attributes:
        allowed: identifiers of SPDX.
        stated: the licence of packages that state it in words or not at all.
        named: packages under other licences, by name or pattern, with `licence`, `why`, `do` and `bundled`.
    """

    allowed: frozenset[str]
    stated: Mapping[str, str]
    named: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, path: Path = POLICY) -> Policy:
        """Reads the policy from its file."""
        document = tomllib.loads(path.read_text("utf-8"))
        return cls(frozenset(document["allowed"]), document["stated"], document["named"])

    def name_of(self, package: str) -> str | None:
        """Returns the name or pattern under which a package is named; None if it is not."""
        return next((name for name in self.named if fnmatch(package, name)), None)

    def licence_of(self, package: str, metadata: str) -> str:
        """Returns the licence of a package: as named, as stated by hand, or as its metadata state it."""
        if (name := self.name_of(package)) is not None:
            return str(self.named[name]["licence"])
        return self.stated.get(package, metadata)


@dataclass(frozen=True, slots=True)
class Package:
    """A package of the lock.

    Attributes:
        name: normalised.
        version: that is pinned.
        hashes: SHA-256 of its files.
        licence: what its metadata state, as an expression of SPDX where they are clear; empty if they state none.
        bundled: libraries under the GPL among its files.
        installed: whether its metadata could be read on this machine.
    """

    name: str
    version: str
    hashes: tuple[str, ...]
    licence: str = ""
    bundled: frozenset[str] = field(default_factory=frozenset)
    installed: bool = False


def shipped_packages(root: Path = ROOT) -> list[Package]:
    """Returns the packages of an installation with the extras `embedded` and `tracing`, without tests and lint."""
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    requirements = [*project["dependencies"], *extras["embedded"], *extras["tracing"]]
    roots = {re.split(r"[^A-Za-z0-9._-]", requirement)[0] for requirement in requirements}
    pins = read_pins((root / "requirements.lock").read_text("utf-8"))
    names = required_by(pins, roots)
    return [_package(pin) for pin in pins if pin.name in names]


def findings(packages: Iterable[Package], policy: Policy) -> Iterator[str]:
    """Yields what does not fit the policy: a licence that is not allowed or not stated, and entries out of date."""
    packages = list(packages)
    for package in packages:
        name = policy.name_of(package.name)
        bundled = frozenset(policy.named[name].get("bundled", ())) if name is not None else frozenset()
        if package.bundled - bundled:
            yield f"{package.name} {package.version} has {', '.join(sorted(package.bundled - bundled))}, under the GPL"
        if name is not None or not (package.installed or package.name in policy.stated):
            continue  # of another platform: its metadata are not here
        licence = policy.licence_of(package.name, package.licence)
        if not licence:
            yield f"{package.name} {package.version} states no licence: read its files, and add it to [stated]"
        elif not is_allowed(licence, policy.allowed):
            yield f"{package.name} {package.version} is under {licence}: not allowed, and not in [named]"
    present = [package.name for package in packages]
    for name in policy.named:
        if not any(fnmatch(package, name) for package in present):
            yield f"[named.{name}] names no package of the lock any more"
    for name in sorted(set(policy.stated) - set(present)):
        yield f"[stated] {name} is no package of the lock any more"


def is_allowed(licence: str, allowed: Collection[str]) -> bool:
    """Returns whether an expression of SPDX can be met by allowed licences alone."""
    try:
        return _is_met(_spdx.parse(licence, validate=True), allowed)
    except Exception:  # words that are no expression
        return False


def _is_met(parsed: LicenseExpression, allowed: Collection[str]) -> bool:
    operator = getattr(parsed, "operator", "").strip()
    if operator == "OR":
        return any(_is_met(part, allowed) for part in parsed.args)
    if operator == "AND":
        return all(_is_met(part, allowed) for part in parsed.args)
    # `X WITH exception` grants more than X does.
    return str(getattr(parsed, "license_symbol", parsed)) in allowed


def _package(pin: Pin) -> Package:
    pinned = _NAME.match(pin.text)
    if pinned is None:
        raise ValueError(f"{pin.name} is not pinned in requirements.lock")
    hashes = tuple(re.findall(r"--hash=sha256:([0-9a-f]{64})", pin.text))
    try:
        distribution = importlib.metadata.distribution(pinned[1])
    except importlib.metadata.PackageNotFoundError:
        return Package(pin.name, pinned[2], hashes)
    files = (str(file) for file in distribution.files or ())
    bundled = frozenset(match[1] for file in files if (match := _GPL_LIBRARIES.search(file)))
    return Package(pin.name, pinned[2], hashes, _stated_licence(distribution), bundled, installed=True)


def _stated_licence(distribution: importlib.metadata.Distribution) -> str:
    """Returns the expression of a package's metadata, else what its field or classifiers say if that is one licence."""
    metadata = distribution.metadata
    if "License-Expression" in metadata:
        return metadata["License-Expression"]
    text = metadata["License"].strip() if "License" in metadata else ""
    if is_expression(stated := _ALIASES.get(text.lower(), text)):
        return stated
    classifiers = {
        classifier.split(" :: ")[-1].lower()
        for classifier in metadata.get_all("Classifier") or ()
        if classifier.startswith("License ::")
    }
    known = {_ALIASES[classifier] for classifier in classifiers if classifier in _ALIASES}
    return known.pop() if len(known) == 1 and len(classifiers) == 1 else ""


def is_expression(text: str) -> bool:
    """Returns whether a text is an expression of known licences of SPDX."""
    try:
        return bool(text) and _spdx.parse(text, validate=True) is not None
    except Exception:
        return False
