"""Tests that the bill of materials is valid CycloneDX, complete, and the same for the same lock."""

from __future__ import annotations

import json

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tools.image_lock import read_pins
from tools.supply_chain.bill import JARS, bill_of_materials
from tools.supply_chain.licences import ROOT, Policy, shipped_packages


def test_the_bill_lists_every_package_and_jar_with_hashes_and_validates() -> None:
    packages = shipped_packages()
    written = bill_of_materials("0.1.0", packages, Policy.read())
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(written) is None
    document = json.loads(written)
    components = {component["bom-ref"]: component for component in document["components"]}
    pinned = {f"pkg:pypi/{package.name}@{package.version}" for package in packages}
    jars = json.loads(JARS.read_text("utf-8"))["jars"]
    assert pinned <= components.keys()
    assert len(components) == len(pinned) + len({jar["coordinate"] for jar in jars})
    pins = {pin.name: pin for pin in read_pins((ROOT / "requirements.lock").read_text("utf-8"))}
    assert pins.keys() >= {package.name for package in packages}
    av = next(component for ref, component in components.items() if ref.startswith("pkg:pypi/av@"))
    assert all(entry["value"] in pins["av"].text for entry in av["properties"] if entry["name"].endswith("sha256"))
    assert any(entry["name"] == "penstock:licence-action" for entry in av["properties"])
    assert all(component.get("licenses") for ref, component in components.items() if "pkg:pypi/torch@" in ref)


def test_the_same_lock_gives_the_same_bill() -> None:
    packages = shipped_packages()
    first, second = (bill_of_materials("0.1.0", packages, Policy.read()) for _ in range(2))
    assert first == second
    assert "timestamp" not in json.loads(first)["metadata"]
