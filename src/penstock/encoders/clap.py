"""The encoders `sound.audio` and `sound.text`: the towers of a CLAP model, as transformers builds and loads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.signal import resample_poly

from penstock.encoders.base import Fingerprint
from penstock.encoders.batch_runner import checked_texts
from penstock.encoders.batched_encoder import EncoderOptions, ModelEncoder
from penstock.encoders.profiles import SOUND_AUDIO, SOUND_TEXT, SoundSpec
from penstock.encoders.weights import RandomWeights, locate
from penstock.errors import ConfigError
from penstock.records import EncoderInput, Float32

_RATE_HZ = 16_000  # of all decoded audio; what a model may read above 8 kHz is not there
_PROBE_TEXT = "a dog barks"


class ClapAudioEncoder(ModelEncoder):
    """Encodes windows of audio. Resamples them to the model's rate.

    Args:
        spec: the model, as the profile has it.
        fingerprint: recorded by collections.
        options: how it runs.

    Raises:
        ConfigError, UnavailableError: the weights are not available, or differ from the profile.
    """

    def __init__(self, spec: SoundSpec, fingerprint: Fingerprint, options: EncoderOptions) -> None:
        from transformers import AutoFeatureExtractor

        from penstock.encoders.torch_errors import load_error

        super().__init__(SOUND_AUDIO, spec, fingerprint, options)
        self._model = _build(spec, options)
        self._model.text_model = None  # the text tower is freed
        try:
            self._extract: Any = AutoFeatureExtractor.from_pretrained(_folder(spec), local_files_only=True)  # type: ignore[no-untyped-call]
        except Exception as exc:  # a damaged file makes the reader raise errors of its own
            raise load_error(exc, f"the preprocessing of {spec.name}") from exc
        self._check_dim()

    def _check_input(self, batch: EncoderInput) -> None:
        if len(batch.waveforms) != len(batch):
            raise ConfigError(
                f"the encoder {SOUND_AUDIO} takes {len(batch)} waveforms and got {len(batch.waveforms)}: decode "
                "workers and encoders must run the same profile"
            )

    def _forward(self, batch: EncoderInput, rows: Sequence[int]) -> Float32:
        return self._vectors([batch.waveforms[row] for row in rows])

    def _encode_known_good(self) -> Float32:
        return self._vectors([np.sin(np.arange(_RATE_HZ, dtype=np.float32) / 10)])

    def _vectors(self, waveforms: Sequence[Float32]) -> Float32:
        """Converts float32[n] each, mono at 16 kHz, to float32[len(waveforms), dim], not normalised."""
        import torch

        rate_hz = int(self._extract.sampling_rate)
        divisor = int(np.gcd(rate_hz, _RATE_HZ))
        resampled = [
            resample_poly(waveform, rate_hz // divisor, _RATE_HZ // divisor).astype(np.float32)
            for waveform in waveforms
        ]
        features = self._extract(resampled, sampling_rate=rate_hz, return_tensors="pt")
        # No window is longer than the model's; the extractor marks one at random all the same.
        features["is_longer"] = torch.zeros((len(waveforms), 1), dtype=torch.bool)
        return _vectors_of(self._model, self._model.get_audio_features, features)


class ClapTextEncoder(ModelEncoder):
    """Encodes texts about sounds.

    Args, raises: as `ClapAudioEncoder`.
    """

    def __init__(self, spec: SoundSpec, fingerprint: Fingerprint, options: EncoderOptions) -> None:
        from transformers import AutoTokenizer

        from penstock.encoders.torch_errors import load_error

        super().__init__(SOUND_TEXT, spec, fingerprint, options)
        self._model = _build(spec, options)
        self._model.audio_model = None  # the audio tower is freed
        try:
            self._tokenize: Any = AutoTokenizer.from_pretrained(_folder(spec), local_files_only=True)
        except Exception as exc:  # a damaged file makes the reader raise errors of its own
            raise load_error(exc, f"the tokenizer of {spec.name}") from exc
        # RoBERTa counts positions from its padding token on.
        self._max_tokens = int(self._model.config.text_config.max_position_embeddings) - 2
        self._check_dim()

    def _check_input(self, batch: EncoderInput) -> None:
        checked_texts(batch)

    def _forward(self, batch: EncoderInput, rows: Sequence[int]) -> Float32:
        return self._vectors([batch.texts[row] for row in rows])

    def _encode_known_good(self) -> Float32:
        return self._vectors([_PROBE_TEXT])

    def _vectors(self, texts: list[str]) -> Float32:
        """Converts texts to float32[len(texts), dim], not normalised."""
        tokens = self._tokenize(texts, padding=True, truncation=True, max_length=self._max_tokens, return_tensors="pt")
        return _vectors_of(self._model, self._model.get_text_features, tokens)


def _vectors_of(model: Any, get_features: Any, inputs: Any) -> Float32:
    import torch

    on_device = {
        name: value.to(model.device, model.dtype) if value.is_floating_point() else value.to(model.device)
        for name, value in inputs.items()
    }
    with torch.inference_mode():
        result = get_features(**on_device)
    # Since transformers 5 the projected vectors are a field of the result.
    tensor = result if isinstance(result, torch.Tensor) else result.pooler_output
    vectors: Float32 = tensor.float().cpu().numpy()
    return vectors


def _folder(spec: SoundSpec) -> str:
    if isinstance(spec.source, RandomWeights):
        raise ConfigError(f"{spec.name}: sound models with random weights are not supported")
    return str(locate(spec.source, spec.name).folder)


def _build(spec: SoundSpec, options: EncoderOptions) -> Any:
    import torch
    from transformers import ClapModel
    from transformers.utils import logging as transformers_logging

    from penstock.encoders.torch_errors import load_error

    folder = _folder(spec)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[options.precision]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # of reading a local file
    try:
        model: Any = ClapModel.from_pretrained(folder, dtype=dtype, local_files_only=True)
    except Exception as exc:  # a damaged file makes each format's reader raise errors of its own
        raise load_error(exc, spec.name) from exc
    return model.to(options.device).eval()
