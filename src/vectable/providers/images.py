"""Encoded images to pixels: decoded within limits, turned upright, prepared as a model was trained.

Formats: JPEG, PNG, WebP, GIF and TIFF (their first frame), BMP. What is transparent lies on white, as in
reference preprocessing; 16-bit grey becomes 8-bit; CMYK, palettes and the like become RGB.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vectable.errors import InvalidInput, ModelUnavailable, Unsupported, VectableError
from vectable.providers.model_config import read_json

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = NDArray[np.float32]
"""(3, height, width), red, green, blue, ready for a model."""

MAX_PIXELS = 64_000_000
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")
PREPROCESSING = 2
"""Raise it when the same image gives other pixels: vectors of before are then not comparable."""
_WIDE_GREY = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_STRIP = 1 << 22
"""Pixels laid on white at once: three copies of them take memory."""
_BICUBIC = 3
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """From an RGB image to pixels: resized (to a shortest edge, or to height and width), cut out of the
    middle, scaled, normalised per channel. None: the step is left out."""

    shortest_edge: int | None
    size: tuple[int, int] | None
    crop: tuple[int, int] | None
    resample: int = _BICUBIC
    scale: float = 1 / 255
    mean: tuple[float, ...] = _MEAN
    std: tuple[float, ...] = _STD

    @property
    def fingerprint(self) -> str:
        """Names it: two that differ give different pixels."""
        described = json.dumps([PREPROCESSING, asdict(self)], sort_keys=True).encode()
        return hashlib.sha256(described).hexdigest()[:16]


def read_preprocessing(directory: Path, edge: int) -> Preprocessing:
    """What preprocessor_config.json (or the newer processor_config.json) says; where it says nothing, what
    CLIP's reference does with images of `edge` x `edge`. Raises ModelUnavailable, Unsupported."""
    given = read_json(directory / "preprocessor_config.json")
    inner = read_json(directory / "processor_config.json").get("image_processor")
    if not given and isinstance(inner, dict):
        given = inner
    try:
        shortest, size = _resize(given, edge)
        scaled, normal = given.get("do_rescale", True), given.get("do_normalize", True)
        found = Preprocessing(
            shortest_edge=shortest,
            size=size,
            crop=_pair(given.get("crop_size", edge)) if given.get("do_center_crop", True) else None,
            resample=int(given.get("resample", _BICUBIC)),
            scale=float(given.get("rescale_factor", 1 / 255)) if scaled else 1.0,
            mean=_three(given.get("image_mean") or _MEAN) if normal else (0.0,) * 3,
            std=_three(given.get("image_std") or _STD) if normal else (1.0,) * 3,
        )
    except (TypeError, ValueError, KeyError) as error:
        raise ModelUnavailable(
            f"preprocessor_config.json of the model in {directory} cannot be understood: {error}"
        ) from None
    if (found.crop or found.size) != (edge, edge) or found.resample not in range(6) or 0 in found.std:
        raise Unsupported(f"the model in {directory} prepares images in a way that is not known here")
    return found


def _resize(given: Mapping[str, Any], edge: int) -> tuple[int | None, tuple[int, int] | None]:
    if not given.get("do_resize", True):
        raise ValueError("images that are not resized")
    size = given.get("size", edge)
    if isinstance(size, Mapping) and "shortest_edge" in size and "longest_edge" not in size:
        return int(size["shortest_edge"]), None
    if isinstance(size, Mapping):
        return None, _pair(size)
    return int(size), None


def _pair(given: Any) -> tuple[int, int]:
    if isinstance(given, Mapping):
        return int(given["height"]), int(given["width"])
    return int(given), int(given)


def _three(given: Any) -> tuple[float, ...]:
    red, green, blue = given
    return float(red), float(green), float(blue)


def decode(data: bytes) -> Image:
    """The image, upright, 8-bit RGB. Raises InvalidInput for anything but a whole image of a format known
    here with at most 64 million pixels, Unsupported without Pillow."""
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError:
        raise Unsupported("Pillow is not installed", hint="pip install 'vectable[images]'") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise InvalidInput(
                    f"the image has {width} x {height} pixels",
                    hint=f"at most {MAX_PIXELS // 1_000_000} million are taken: scale it down",
                )
            image.load()
            return _rgb(ImageOps.exif_transpose(image))
    except VectableError:
        raise
    except Image.DecompressionBombError:
        raise InvalidInput("the image has far too many pixels", hint="scale it down") from None
    except UnidentifiedImageError:
        raise InvalidInput("this is not an image", hint=f"formats: {', '.join(FORMATS)}") from None
    except Exception as error:  # decoders of hostile input fail in every way there is
        raise InvalidInput(f"the image is damaged: {type(error).__name__}: {error}"[:200]) from None


def _rgb(image: Image) -> Image:
    from PIL import Image as Images

    if image.mode in _WIDE_GREY:
        grey = np.clip(np.asarray(image), 0, 65_535)
        return Images.fromarray((grey // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise InvalidInput("the image holds floating-point pixels", hint="save it with 8 or 16 bits")
    if "A" in image.getbands() or image.info.get("transparency") is not None:
        return _on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _on_white(image: Image) -> Image:
    from PIL import Image as Images

    width, height = image.size
    whole = Images.new("RGB", image.size)
    rows = max(1, _STRIP // width)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height))).convert("RGBA")
        white = Images.new("RGBA", strip.size, "white")
        whole.paste(Images.alpha_composite(white, strip).convert("RGB"), (0, top))
    return whole


def pixels(data: bytes, how: Preprocessing) -> Pixels:
    """An encoded image as a model takes it: float32 (3, height, width). Raises InvalidInput."""
    image = decode(data)
    width, height = image.size
    if how.size is not None:
        target = (how.size[1], how.size[0])
    else:
        edge = how.shortest_edge or min(width, height)
        long = int(edge * max(width, height) / min(width, height))
        target = (edge, long) if width <= height else (long, edge)
    if target[0] * target[1] > MAX_PIXELS:
        raise InvalidInput(f"the image is too narrow: {width} x {height} pixels", hint="cut it to a part")
    from PIL.Image import Resampling

    values = np.asarray(image.resize(target, Resampling(how.resample)))
    if how.crop is not None:
        values = _center(values, *how.crop)
    scaled = (values.astype(np.float64) * how.scale).astype(np.float32)
    normal = (scaled - np.array(how.mean, np.float32)) / np.array(how.std, np.float32)
    return np.ascontiguousarray(normal.transpose(2, 0, 1))


def _center(values: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The middle (height, width) of an image (rows, columns, 3); black around one that is smaller."""
    rows, columns = values.shape[:2]
    tall, wide = max(height, rows), max(width, columns)
    if (tall, wide) != (rows, columns):
        above, before = math.ceil((tall - rows) / 2), math.ceil((wide - columns) / 2)
        around = ((above, tall - rows - above), (before, wide - columns - before), (0, 0))
        values = np.pad(values, around)
    top, left = (tall - height) // 2, (wide - width) // 2
    return values[top : top + height, left : left + width]
