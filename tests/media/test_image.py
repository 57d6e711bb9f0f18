"""Images decoded to pixels of the encoder's size."""

from __future__ import annotations

import io
import struct
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from penstock.config import ImageSettings
from penstock.encoders.base import ImageSpec
from penstock.errors import BadInputError, Reason
from penstock.media.image import crop_region, decode_image
from penstock.records import FetchedMedia, ImageRegion, UInt8

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SPEC = ImageSpec(224, "shortest", "bicubic", 0, MEAN, STD)
TINY = ImageSpec(8, "squash", "bilinear", 0, MEAN, STD)


@pytest.fixture
def decode(fetched_of: Callable[..., FetchedMedia]) -> Callable[..., UInt8]:
    def run(data: bytes, *, spec: ImageSpec = SPEC, limits: ImageSettings | None = None) -> UInt8:
        return decode_image(fetched_of(data), spec=spec, settings=limits or ImageSettings())

    return run


def _photo(width: int, height: int, seed: int = 1) -> Image.Image:
    """Something with edges, gradients and fine grain, as a photograph has."""
    source = np.random.default_rng(seed)
    coarse = Image.fromarray(source.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((width, height), 3)
    grain = source.normal(0, 12, (height, width, 3))
    edges = np.indices((height, width)).sum(0)[..., None] // 40 % 2 * 25
    values = np.clip(np.asarray(coarse, dtype=np.float64) + grain + edges, 0, 255).astype(np.uint8)
    return Image.fromarray(values).filter(ImageFilter.GaussianBlur(0.8))


def _encoded(image: Image.Image, format_name: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format_name, **options)
    return out.getvalue()


def _open_clip(image: Image.Image, spec: ImageSpec) -> Any:
    """float32[3, size, size] of open_clip's own transform."""
    import open_clip

    transform = open_clip.image_transform(
        spec.size_px,
        is_train=False,
        mean=spec.mean,
        std=spec.std,
        resize_mode=spec.resize_mode,
        interpolation=spec.interpolation,
        fill_color=spec.fill,
    )
    return transform(image)


def _as_pixels(tensor: Any, spec: ImageSpec) -> UInt8:
    mean, std = np.array(spec.mean)[:, None, None], np.array(spec.std)[:, None, None]
    values: UInt8 = np.rint((tensor.numpy() * std + mean) * 255).astype(np.uint8).transpose(1, 2, 0)
    return values


def _top_left(pixels: UInt8) -> tuple[int, ...]:
    return tuple(int(value) for value in pixels[0, 0])


# --- equal to open_clip ----------------------------------------------------------------------------------------------

SIZES = [(640, 480), (481, 640), (224, 224), (224, 300), (225, 224), (100, 37), (31, 333), (1001, 333), (7, 7), (1, 3)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "spec",
    [
        SPEC,
        ImageSpec(64, "shortest", "bilinear", 0, MEAN, STD),
        ImageSpec(224, "longest", "bicubic", 127, MEAN, STD),
        ImageSpec(65, "squash", "bilinear", 0, MEAN, STD),
    ],
    ids=str,
)
def test_pixels_are_those_of_open_clip(decode: Callable[..., UInt8], size: tuple[int, int], spec: ImageSpec) -> None:
    photo = _photo(*size)
    assert np.array_equal(decode(_encoded(photo), spec=spec), _as_pixels(_open_clip(photo, spec), spec))


@pytest.fixture(scope="module")
def model() -> Any:
    """ViT-B-32 with random weights."""
    import open_clip
    import torch

    torch.manual_seed(0)
    return open_clip.create_model("ViT-B-32", pretrained=None).eval()


@pytest.mark.parametrize("size", [(640, 480), (1600, 1200), (3000, 2000), (897, 4000), (448, 448)])
def test_a_jpeg_decoded_at_reduced_scale_has_the_same_vector(
    decode: Callable[..., UInt8], model: Any, size: tuple[int, int]
) -> None:
    import torch

    data = _encoded(_photo(*size), "JPEG", quality=90)
    pixels = torch.from_numpy(decode(data)).permute(2, 0, 1).float() / 255
    ours = (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    theirs = _open_clip(Image.open(io.BytesIO(data)), SPEC)
    with torch.no_grad():
        vectors = model.encode_image(torch.stack([ours, theirs]), normalize=True)
    assert float(vectors[0] @ vectors[1]) > 0.999
    assert float(torch.nn.functional.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0)) > 0.999


# --- in addition to open_clip ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(decode: Callable[..., UInt8], orientation: int, format_name: str) -> None:
    upright = Image.new("RGB", (64, 32), "white")
    upright.paste("red", (0, 0, 32, 16))  # a red corner at the top left
    turns = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
             5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
             8: Image.Transpose.ROTATE_270}  # fmt: skip
    stored = upright.transpose(turns[orientation]) if orientation in turns else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = decode(_encoded(stored, format_name, exif=exif), spec=TINY).astype(int)
    assert np.abs(pixels[1, 1] - (255, 0, 0)).max() < 40
    assert min(pixels[6, 6].min(), pixels[1, 6].min(), pixels[6, 1].min()) > 215


def test_broken_exif_is_ignored(decode: Callable[..., UInt8]) -> None:
    data = _encoded(Image.new("RGB", (32, 32), "red"), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(20))
    assert decode(data, spec=TINY)[0, 0, 0] > 240


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_transparency_is_white(decode: Callable[..., UInt8], mode: str) -> None:
    if mode == "P":
        image = Image.new("P", (32, 32), 1)
        image.putpalette([255, 0, 0, 0, 0, 255])
        data = _encoded(image, transparency=1)
    elif mode == "RGB":
        data = _encoded(Image.new("RGB", (32, 32), (0, 0, 9)), transparency=(0, 0, 9))
    else:
        data = _encoded(Image.new(mode, (32, 32), 0))
    assert _top_left(decode(data, spec=TINY)) == (255, 255, 255)


def test_half_transparent_black_is_grey(decode: Callable[..., UInt8]) -> None:
    data = _encoded(Image.new("RGBA", (32, 32), (0, 0, 0, 128)))
    assert _top_left(decode(data, spec=TINY)) == (127, 127, 127)


def test_the_first_frame_of_an_animation_is_taken(decode: Callable[..., UInt8]) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue", "green")]
    for format_name in ("GIF", "PNG", "WEBP", "TIFF", "AVIF"):
        data = _encoded(frames[0], format_name, save_all=True, append_images=frames[1:])
        assert np.abs(decode(data, spec=TINY)[4, 4].astype(int) - (255, 0, 0)).max() < 12, format_name


@pytest.mark.parametrize(("grey", "expected"), [(0, 0), (0x8000, 128), (0xFFFF, 255)])
def test_sixteen_bits_are_scaled_not_clipped(decode: Callable[..., UInt8], grey: int, expected: int) -> None:
    values = np.full((32, 32), grey, dtype=np.uint16)
    for format_name in ("PNG", "TIFF"):
        assert decode(_encoded(Image.fromarray(values), format_name), spec=TINY)[4, 4, 0] == expected


def test_floats_are_stretched_over_their_range(decode: Callable[..., UInt8]) -> None:
    values = np.tile(np.linspace(-3.0, 5.0, 64, dtype=np.float32), (64, 1))
    pixels = decode(_encoded(Image.fromarray(values), "TIFF"), spec=TINY)
    assert pixels[4, 0, 0] < 30
    assert pixels[4, 7, 0] > 225


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK"])
def test_other_modes_become_rgb(decode: Callable[..., UInt8], mode: str) -> None:
    data = _encoded(_photo(60, 50).convert(mode), "TIFF")
    pixels = decode(data)
    assert (pixels.shape, pixels.dtype) == ((224, 224, 3), np.uint8)
    assert pixels.std() > 10


# --- limits and damage -----------------------------------------------------------------------------------------------


def _png_of(width: int, height: int) -> bytes:
    """Returns a PNG with a large size in its header and almost no data."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(50_000, 50_000), (14_000, 13_000), (1, 1_000_001)])
def test_a_bomb_is_rejected_by_its_header_in_milliseconds(decode: Callable[..., UInt8], size: tuple[int, int]) -> None:
    data = _png_of(*size)
    started = time.process_time()
    with pytest.raises(BadInputError) as caught:
        decode(data)
    assert time.process_time() - started < 0.1
    assert caught.value.reason is Reason.TOO_LARGE


def test_the_limit_of_pixels_is_the_settings(decode: Callable[..., UInt8]) -> None:
    data = _encoded(Image.new("RGB", (101, 100)))
    assert decode(data, limits=ImageSettings(max_pixels=10_100)).shape == (224, 224, 3)
    with pytest.raises(BadInputError, match="101 × 100 pixels") as caught:
        decode(data, limits=ImageSettings(max_pixels=10_099))
    assert caught.value.reason is Reason.TOO_LARGE


@pytest.mark.parametrize("format_name", ["PNG", "WEBP", "GIF", "TIFF", "AVIF", "BMP", "JPEG2000"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_image_is_corrupt(decode: Callable[..., UInt8], format_name: str, share: float) -> None:
    data = _encoded(_photo(320, 240), format_name)
    with pytest.raises(BadInputError) as caught:
        decode(data[: int(len(data) * share)])
    assert caught.value.reason is Reason.CORRUPT
    assert " at 0x" not in str(caught.value)


@pytest.mark.parametrize("lost", [2, 300, 0.01, 0.1, 0.3])
def test_a_jpeg_cut_near_its_end_is_decoded_as_far_as_it_goes(
    decode: Callable[..., UInt8], lost: float, caplog: pytest.LogCaptureFixture
) -> None:
    photo = _photo(640, 640)
    data = _encoded(photo, "JPEG", quality=90)
    count = int(lost * len(data)) if lost < 1 else int(lost)
    pixels, whole = decode(data[:-count]), decode(data)
    kept = int(224 * (1 - count / len(data)) * 0.9)
    assert np.abs(pixels[:kept].astype(int) - whole[:kept]).mean() < 1
    assert "was cut" in caplog.text


@pytest.mark.parametrize("kept", [0.05, 0.2, 0.4])
def test_a_jpeg_of_which_less_than_half_is_there_is_corrupt(decode: Callable[..., UInt8], kept: float) -> None:
    data = _encoded(_photo(640, 640), "JPEG", quality=90)
    with pytest.raises(BadInputError) as caught:
        decode(data[: int(kept * len(data))])
    assert caught.value.reason is Reason.CORRUPT


def test_a_strip_is_resized_without_the_memory_of_its_length(decode: Callable[..., UInt8]) -> None:
    started = time.process_time()
    pixels = decode(_encoded(Image.new("RGB", (60_000, 2), "red")))
    assert time.process_time() - started < 2
    assert _top_left(pixels) == (255, 0, 0)


def test_a_type_without_a_decoder_is_unsupported(decode: Callable[..., UInt8]) -> None:
    with pytest.raises(BadInputError, match="no decoder for image/heic") as caught:
        decode(b"\0\0\0\x18ftypheic" + bytes(100))
    assert caught.value.reason is Reason.UNSUPPORTED


# --- regions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("region", "box"),
    [
        (ImageRegion(0, 0, 1, 1), (0, 0, 10, 20)),
        (ImageRegion(0.5, 0.25, 0.5, 0.5), (5, 5, 10, 15)),
        (ImageRegion(0.1, 0, 0.1 + 0.2, 1), (1, 0, 4, 20)),
        (ImageRegion(0.99, 0.99, 0.001, 0.001), (9, 19, 10, 20)),
        (ImageRegion(0.25, 0, 0.5, 1), (2, 0, 8, 20)),
    ],
)
def test_a_region_is_the_pixels_that_it_touches(region: ImageRegion, box: tuple[int, int, int, int]) -> None:
    image = _photo(10, 20)
    assert np.array_equal(np.asarray(crop_region(image, region)), np.asarray(image.crop(box)))


def test_a_region_of_an_image_equals_the_image_cut_out(fetched_of: Callable[..., FetchedMedia]) -> None:
    image = _photo(400, 300)
    region = ImageRegion(0.25, 0.5, 0.25, 0.25)
    whole = fetched_of(_encoded(image))
    cut_out = fetched_of(_encoded(image.crop((100, 150, 200, 225))))
    pixels = decode_image(whole, spec=SPEC, settings=ImageSettings(), region=region)
    assert np.array_equal(pixels, decode_image(cut_out, spec=SPEC, settings=ImageSettings()))


def test_a_region_is_of_the_upright_image(fetched_of: Callable[..., FetchedMedia]) -> None:
    upright = _photo(60, 40)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be rotated clockwise for display
    rotated = _encoded(upright.transpose(Image.Transpose.ROTATE_90), exif=exif)
    region = ImageRegion(0, 0, 0.5, 0.5)
    pixels = decode_image(fetched_of(rotated), spec=TINY, settings=ImageSettings(), region=region)
    expected = decode_image(fetched_of(_encoded(upright)), spec=TINY, settings=ImageSettings(), region=region)
    assert np.array_equal(pixels, expected)


def test_a_small_region_of_a_jpeg_is_decoded_with_all_its_pixels(fetched_of: Callable[..., FetchedMedia]) -> None:
    fetched = fetched_of(_encoded(_photo(3200, 2400), "JPEG", quality=95))
    region = ImageRegion(0.4, 0.4, 0.1, 0.1)
    pixels = decode_image(fetched, spec=SPEC, settings=ImageSettings(), region=region)
    with Image.open(io.BytesIO(fetched.data)) as image:
        whole = crop_region(image.convert("RGB"), region)
    expected = decode_image(fetched_of(_encoded(whole)), spec=SPEC, settings=ImageSettings())
    assert np.abs(pixels.astype(int) - expected.astype(int)).mean() < 2
