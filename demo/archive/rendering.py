"""Pictures of frames (PS3.18 section 10.4.1.1.3), for lists and previews."""

from __future__ import annotations

import io
import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import pixel_array

from demo.archive.codestream import stated_size
from demo.archive.errors import RequestError, UnreadableInstanceError
from demo.archive.pixels import PixelData, number

if TYPE_CHECKING:
    from werkzeug.datastructures import MultiDict

    from demo.archive.part10 import OpenInstance

_MAX_PIXELS = 64_000_000
_MAX_SIDE = 4096
_MAX_SAMPLES = 4
_FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG"}
# Decoding takes many times the memory of a frame: only so many at once, the others wait.
_slots = threading.BoundedSemaphore(2)
_NUMBER = r"-?[0-9]{1,9}(?:\.[0-9]{1,9})?"
_WINDOW = re.compile(rf"({_NUMBER}),({_NUMBER})(?:,(?:linear|linear-exact|sigmoid))?", re.IGNORECASE)
_VIEWPORT = re.compile(r"([0-9]{1,5}),([0-9]{1,5})(?:,.{0,100})?")


@dataclass(frozen=True)
class Rendering:
    """How a frame is asked for.

    Args:
        media_type: ``image/jpeg`` or ``image/png``.
        size: the box to fit into, width and height in pixels; None keeps the frame's size.
        window: centre and width; None takes the data set's own, or else its range.
        quality: of JPEG, 1 to 100.
    """

    media_type: str
    size: tuple[int, int] | None = None
    window: tuple[float, float] | None = None
    quality: int = 90


MEDIA_TYPES = tuple(_FORMATS)


def parse_rendering(
    arguments: MultiDict[str, str], media_type: str, default_size: tuple[int, int] | None = None
) -> Rendering:
    """The rendering that a URL's parameters ask for.

    Raises:
        RequestError: 400 when one is malformed.
    """
    size, window = default_size, None
    if (text := arguments.get("viewport")) is not None:
        found = _VIEWPORT.fullmatch(text)
        size = (int(found[1]), int(found[2])) if found else (0, 0)
        if not all(0 < side <= _MAX_SIDE for side in size):
            raise RequestError(400, f"viewport is WIDTH,HEIGHT, each from 1 to {_MAX_SIDE}")
    if (text := arguments.get("window")) is not None:
        found = _WINDOW.fullmatch(text)
        window = (float(found[1]), float(found[2])) if found else (0.0, 0.0)
        if window[1] < 1:
            raise RequestError(400, "window is CENTRE,WIDTH with a width from 1")
    quality = arguments.get("quality", "90")
    if not re.fullmatch(r"[1-9][0-9]?|100", quality):
        raise RequestError(400, "quality is a number from 1 to 100")
    return Rendering(media_type, size, window, int(quality))


def render(opened: OpenInstance, frame: int, rendering: Rendering) -> bytes:
    """A frame as a picture.

    Raises:
        RequestError: 404 when there is no such frame, 406 when it has no pixels or too many.
        UnreadableInstanceError: when it cannot be decoded.
    """
    pixels = PixelData(opened)
    _check_size(opened, pixels, frame)
    with _slots:
        image = Image.fromarray(_displayed(opened, frame, rendering))
        if rendering.size is not None:
            image = image.resize(_fit(image.size, rendering.size), Image.Resampling.LANCZOS)
        file = io.BytesIO()
        image.save(file, _FORMATS[rendering.media_type], quality=rendering.quality)
    return file.getvalue()


def _check_size(opened: OpenInstance, pixels: PixelData, frame: int) -> None:
    """Refuse frames that would inflate beyond all measure, by the header and by the codestream itself."""
    rows, columns = number(opened.dataset, "Rows"), number(opened.dataset, "Columns")
    sizes = [(columns, rows)]
    (chunks,) = pixels.frames([frame])
    if pixels.is_encapsulated and (stated := stated_size(b"".join(chunks))) is not None:
        sizes.append(stated)
    if number(opened.dataset, "SamplesPerPixel", 1) > _MAX_SAMPLES:
        raise RequestError(406, "the frame has too many samples to be rendered")
    if any(width * height > _MAX_PIXELS for width, height in sizes):
        raise RequestError(406, "the frame is too large to be rendered")


def _displayed(opened: OpenInstance, frame: int, rendering: Rendering) -> np.ndarray[Any, Any]:
    """8 bit grey or RGB, shape (rows, columns) or (rows, columns, 3)."""
    dataset = opened.dataset
    opened.stream.seek(0)
    try:
        array = pixel_array(opened.stream, index=frame - 1)
        if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
            array = apply_color_lut(array, dataset)
        elif array.ndim == 2:  # noqa: PLR2004 - grey
            return _grey(array, opened, rendering)
    except Exception as error:  # the decoders fail in many ways on damaged frames
        raise UnreadableInstanceError("the frame cannot be decoded") from error
    if array.dtype != np.uint8:
        array = array.astype(np.float64) * (255.0 / max(1, np.iinfo(array.dtype).max))
    return array.astype(np.uint8)


def _grey(array: np.ndarray[Any, Any], opened: OpenInstance, rendering: Rendering) -> np.ndarray[Any, Any]:
    dataset = opened.dataset
    values = np.asarray(apply_modality_lut(array, dataset), dtype=np.float64)
    window = rendering.window or _stated_window(opened)
    if window is not None:
        low, high = window[0] - window[1] / 2, window[0] + window[1] / 2
    elif "VOILUTSequence" in dataset:
        values = np.asarray(apply_voi_lut(array, dataset), dtype=np.float64)
        low, high = float(values.min()), float(values.max())
    else:
        low, high = (float(bound) for bound in np.percentile(values, (0.5, 99.5)))
    scaled = np.clip((values - low) * (255.0 / max(high - low, 1e-6)), 0, 255)
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
        scaled = 255 - scaled
    return scaled.astype(np.uint8)


def _stated_window(opened: OpenInstance) -> tuple[float, float] | None:
    bounds = []
    for keyword in ("WindowCenter", "WindowWidth"):
        value = opened.dataset.get(keyword)
        first = value[0] if isinstance(value, (list, tuple)) or hasattr(value, "__getitem__") else value
        if first is None:
            return None
        bounds.append(float(first))
    return (bounds[0], bounds[1]) if bounds[1] >= 1 else None


def _fit(size: tuple[int, int], box: tuple[int, int]) -> tuple[int, int]:
    scale = min(box[0] / size[0], box[1] / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
