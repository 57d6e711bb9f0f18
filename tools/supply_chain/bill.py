"""Writes the software bill of materials in CycloneDX 1.6: the packages of the lock, and the jars of the embedded Kafka.

It is the same for the same lock: it carries no time, and its serial number is derived from what it lists.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from tools.supply_chain.licences import ROOT, Package, Policy

JARS = ROOT / "src/penstock/embedded/kafka.lock.json"
_NAMESPACE = uuid.UUID("5b1b4e0e-6a5f-5d3e-9d0c-1f6f0a9f7c11")  # of serial numbers; any constant will do


def bill_of_materials(version: str, packages: Iterable[Package], policy: Policy, jars: Path = JARS) -> str:
    """Returns the document, as JSON."""
    root = Component(
        type=ComponentType.APPLICATION,
        name="penstock",
        version=version,
        bom_ref="penstock",
        purl=PackageURL("pypi", name="penstock", version=version),
        licenses=[LicenseFactory().make_from_string("Apache-2.0")],
    )
    components = [*(_of_package(package, policy) for package in packages), *_jars(jars)]
    bom = Bom(components=components)
    bom.metadata.component = root
    bom.metadata.timestamp = None  # type: ignore[assignment]  # the same lock gives the same document
    bom.register_dependency(root, components)
    bom.serial_number = uuid.uuid5(_NAMESPACE, "\n".join(sorted(str(component.bom_ref) for component in components)))
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    document["metadata"].pop("timestamp", None)
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _of_package(package: Package, policy: Policy) -> Component:
    licence = policy.licence_of(package.name, package.licence)
    name = policy.name_of(package.name)
    purl = PackageURL("pypi", name=package.name, version=package.version)
    return Component(
        type=ComponentType.LIBRARY,
        name=package.name,
        version=package.version,
        bom_ref=str(purl),
        purl=purl,
        licenses=[LicenseFactory().make_from_string(licence)] if licence else [],
        # One package has a file for each platform: CycloneDX knows one hash of a kind, so the others are properties.
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=package.hashes[0])] if len(package.hashes) == 1 else [],
        properties=[
            *(Property(name="penstock:file-sha256", value=sha256) for sha256 in package.hashes),
            *([] if name is None else [Property(name="penstock:licence-action", value=policy.named[name]["do"])]),
        ],
    )


def _jars(path: Path) -> Iterator[Component]:
    for jar in json.loads(path.read_text("utf-8"))["jars"]:
        group, name, version = jar["coordinate"].split(":")[:3]
        purl = PackageURL("maven", namespace=group, name=name, version=version)
        yield Component(
            type=ComponentType.LIBRARY,
            group=group,
            name=name,
            version=version,
            bom_ref=f"{purl}#{jar['coordinate']}",
            purl=purl,
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=jar["sha256"])],
        )
