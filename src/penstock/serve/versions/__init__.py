"""Query planes for each version of the index that may be served, and the switch in front of them."""

from penstock.serve.versions.source import VersionSource
from penstock.serve.versions.switch import VersionSwitch, build_versions_app

__all__ = ["VersionSource", "VersionSwitch", "build_versions_app"]
