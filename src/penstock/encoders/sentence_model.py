"""The models behind `SentenceEncoder`: a plain BERT in NumPy or in torch, or whatever sentence-transformers loads.

To import, the second takes 1.6 s of CPU time and 335 MB (torch itself), the third 6.7 s and 590 MB.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from penstock.encoders.model_shapes import read_bert_shape
from penstock.encoders.precision import Precision
from penstock.records import Float32

if TYPE_CHECKING:
    from penstock.encoders.bert_model import BertModel

_MODULES = ("Transformer", "Pooling", "Normalize")


class SentenceModel(Protocol):
    """Converts texts to vectors. Raises whatever its library raises."""

    def vectors(self, texts: Sequence[str]) -> Float32:
        """Returns float32[len(texts), dim], not normalised."""

    def token_vectors(self, texts: Sequence[str], prompt: str) -> list[Float32]:
        """Returns float32[tokens, dim] of each text, without special tokens and those of its prompt."""

    def count_pieces(self, texts: Sequence[str]) -> list[int]:
        """Returns the pieces of each text, without special ones."""


class PieceReader:
    """Cuts texts into the pieces of a BERT, with the tokenizer beside its weights.

    Args:
        folder: as sentence-transformers saves a model.
        max_tokens: of a text, special ones included; the rest is cut off.
    """

    def __init__(self, folder: Path, max_tokens: int) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._begin, self._end = self._tokenizer.encode("").ids
        self._max_pieces = max_tokens - 2

    def count(self, texts: Sequence[str]) -> list[int]:
        """Returns the pieces of each text, without special ones."""
        return [len(pieces) for pieces in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the numbers of each text's pieces, cut to the model's length, between those that begin and end it."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [[self._begin, *encoding.ids[: self._max_pieces], self._end] for encoding in encodings]

    def pieces_before(self, prompt: str) -> int:
        """Returns the number of pieces before the text that follows a prompt."""
        return 1 + (self.count([prompt])[0] if prompt else 0)


class ArraySentences:
    """A BERT in NumPy whose tokens' mean is the vector of a text.

    Args:
        folder: as sentence-transformers saves a model.
        weights: its file of weights, in safetensors.
        max_tokens: of a text, special ones included; the rest is cut off.
    """

    def __init__(self, folder: Path, weights: Path, max_tokens: int) -> None:
        from penstock.encoders.array_bert import ArrayBert
        from penstock.encoders.mapped_weights import map_weights

        self._pieces = PieceReader(folder, max_tokens)
        self._model = ArrayBert(map_weights(weights), read_bert_shape(folder))

    def vectors(self, texts: Sequence[str]) -> Float32:
        """Returns the means of the tokens' vectors."""
        return np.stack([tokens.mean(axis=0) for tokens in self._model.tokens(self._pieces.ids(texts))])

    def token_vectors(self, texts: Sequence[str], prompt: str) -> list[Float32]:
        """See `SentenceModel.token_vectors`."""
        before = self._pieces.pieces_before(prompt)
        return [tokens[before:-1] for tokens in self._model.tokens(self._pieces.ids(texts))]

    def count_pieces(self, texts: Sequence[str]) -> list[int]:
        """See `SentenceModel.count_pieces`."""
        return self._pieces.count(texts)


class PlainBert:
    """A BERT in torch whose tokens' mean is the vector of a text.

    Args:
        folder: as sentence-transformers saves a model.
        weights: its file of weights, in safetensors.
        max_tokens: of a text, special ones included; the rest is cut off.
        precision: of the weights and of the values between them.
        device: of torch.
    """

    def __init__(self, folder: Path, weights: Path, max_tokens: int, precision: Precision, device: str) -> None:
        import torch
        from safetensors.torch import load_file

        from penstock.encoders.bert_model import BertModel

        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        self._pieces = PieceReader(folder, max_tokens)
        self._model: BertModel = BertModel(load_file(weights), read_bert_shape(folder)).to(device, dtype)

    def vectors(self, texts: Sequence[str]) -> Float32:
        """Returns the means of the tokens' vectors."""
        import torch

        with torch.inference_mode():
            tokens, is_token = self._model(self._pieces.ids(texts))
            weights = is_token.unsqueeze(-1).float()
            means = (tokens.float() * weights).sum(dim=1) / weights.sum(dim=1)
        vectors: Float32 = means.cpu().numpy()
        return vectors

    def in_int8(self) -> PlainBert:
        """Returns the same model with the weights of its layers in int8, for CPUs: what that costs is measured."""
        import copy

        import torch
        from torch.ao.quantization import quantize_dynamic

        smaller = copy.copy(self)
        smaller._model = quantize_dynamic(  # type: ignore[no-untyped-call]
            self._model, {torch.nn.Linear}, dtype=torch.qint8
        )
        return smaller

    def token_vectors(self, texts: Sequence[str], prompt: str) -> list[Float32]:
        """See `SentenceModel.token_vectors`."""
        import torch

        batch = self._pieces.ids(texts)
        before = self._pieces.pieces_before(prompt)
        with torch.inference_mode():
            tokens = self._model(batch)[0].float().cpu().numpy()
        return [vectors[before : len(ids) - 1] for vectors, ids in zip(tokens, batch, strict=True)]

    def count_pieces(self, texts: Sequence[str]) -> list[int]:
        """See `SentenceModel.count_pieces`."""
        return self._pieces.count(texts)


class TransformersSentences:
    """A model of sentence-transformers. Args as `PlainBert`."""

    def __init__(self, folder: Path, max_tokens: int, precision: Precision, device: str) -> None:
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging as transformers_logging

        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # of reading a local file; downloads have hub's own
        self._model = SentenceTransformer(
            str(folder), device=device, local_files_only=True, model_kwargs={"dtype": dtype}
        ).eval()
        self._model.max_seq_length = max_tokens

    def vectors(self, texts: Sequence[str]) -> Float32:
        """See `SentenceModel.vectors`."""
        inputs = list(texts)
        encoded = self._model.encode(inputs, batch_size=len(inputs), show_progress_bar=False, convert_to_tensor=True)
        vectors: Float32 = encoded.float().cpu().numpy()
        return vectors

    def token_vectors(self, texts: Sequence[str], prompt: str) -> list[Float32]:
        """See `SentenceModel.token_vectors`."""
        inputs = list(texts)
        encoded = self._model.encode(
            inputs, batch_size=len(inputs), show_progress_bar=False, output_value="token_embeddings"
        )
        tokenized = self._model.tokenizer(
            inputs, truncation=True, max_length=self._model.max_seq_length, return_special_tokens_mask=True
        )
        in_prompt = self.count_pieces([prompt])[0] if prompt else 0
        return [
            tokens.float().cpu().numpy()[np.flatnonzero(np.asarray(special) == 0)[in_prompt:]]
            for tokens, special in zip(encoded, tokenized["special_tokens_mask"], strict=True)
        ]

    def count_pieces(self, texts: Sequence[str]) -> list[int]:
        """See `SentenceModel.count_pieces`."""
        return [len(pieces) for pieces in self._model.tokenizer(list(texts), add_special_tokens=False)["input_ids"]]


def is_plain_bert(folder: Path, weights: Path) -> bool:
    """Returns whether a folder holds what `PlainBert` computes as sentence-transformers does: only then it is used."""
    try:
        modules, config = _read(folder / "modules.json"), _read(folder / "config.json")
        kinds = [module["type"].rpartition(".")[2] for module in modules]
        pooling, text = _read(folder / modules[1]["path"] / "config.json"), _read(folder / "sentence_bert_config.json")
        prompts = folder / "config_sentence_transformers.json"
        has_prompt = prompts.is_file() and _read(prompts).get("default_prompt_name") is not None
    except (OSError, ValueError, KeyError, IndexError, AttributeError, TypeError):  # another layout, or a damaged file
        return False
    ways = {name for name, is_used in pooling.items() if name.startswith("pooling_mode_") and is_used is True}
    return (
        tuple(kinds) in (_MODULES[:2], _MODULES)
        and modules[0].get("path") == ""
        and ways == {"pooling_mode_mean_tokens"}
        and config.get("model_type") == "bert"
        and config.get("hidden_act") == "gelu"
        and config.get("position_embedding_type", "absolute") == "absolute"
        and not text.get("do_lower_case", False)
        and not has_prompt
        and (folder / "tokenizer.json").is_file()
        and weights.suffix == ".safetensors"
    )


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
