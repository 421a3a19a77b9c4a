"""Rendered frames and thumbnails."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit

from support.corpus import ENCAPSULATED_SYNTAXES, NATIVE_SYNTAXES, make_instance, to_bytes

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

    from support.archives import Study, Web


def picture(archive: Web, path: str, accept: str | None = None, /, **parameters: str) -> Image.Image:
    answer = archive.get(path, accept, **parameters)
    assert answer.status_code == 200, answer.text
    image = Image.open(BytesIO(answer.content))
    assert Image.MIME[image.format or ""] == answer.headers["Content-Type"]
    return image


def grey_instance(study: Study) -> FileDataset:
    """A ramp from 0 to 4095 across 64 columns, 32 rows."""
    dataset = make_instance(study_uid=study.uid, series_uid=study.series, sop_instance_uid=study.sop())
    ramp = np.tile(np.linspace(0, 4095, 64).astype(np.uint16), (32, 1))
    dataset.Rows, dataset.Columns = ramp.shape
    dataset.PixelData = ramp.tobytes()
    for keyword in ("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept", "VOILUTSequence"):
        if keyword in dataset:
            del dataset[keyword]
    return dataset


@pytest.mark.parametrize("syntax", NATIVE_SYNTAXES + ENCAPSULATED_SYNTAXES)
def test_every_transfer_syntax_is_rendered(embedded: Web, study: Study, syntax: str) -> None:
    embedded.store(study.file("US", transfer_syntax=syntax, frames=2, size=64))
    for path in ("/rendered", "/frames/2/rendered", "/thumbnail"):
        image = picture(embedded, study.path(1) + path)
        assert np.asarray(image).std() > 5


def test_dicomweb_client_gets_a_rendered_instance(archive: Web, study: Study) -> None:
    archive.store(study.file(size=64))
    found = archive.client.retrieve_instance_rendered(
        study.uid, study.series, study.sop(), media_types=("image/png",)
    )
    assert Image.open(BytesIO(found)).size == (64, 64)


def test_the_format_is_the_one_that_is_preferred(embedded: Web, study: Study) -> None:
    embedded.store(study.file())
    path = f"{study.path(1)}/rendered"
    for accept, expected in (
        (None, "JPEG"),
        ("image/png", "PNG"),
        ("image/jpeg;q=0.1, image/png", "PNG"),
        ("image/webp, image/*", "JPEG"),
    ):
        assert picture(embedded, path, accept).format == expected
    assert picture(embedded, path, accept="image/png").format == "PNG"
    assert embedded.get(path, "image/webp").status_code == 406


def test_a_viewport_is_filled_without_distortion(embedded: Web, study: Study) -> None:
    embedded.store(to_bytes(grey_instance(study)))
    path = f"{study.path(1)}/rendered"
    assert picture(embedded, path, viewport="128,128").size == (128, 64)
    assert picture(embedded, path, viewport="16,100").size == (16, 8)
    assert max(picture(embedded, f"{study.path()}/thumbnail").size) == 256


def test_the_window_is_the_one_asked_for_or_the_stated_one(embedded: Web, study: Study) -> None:
    dataset = grey_instance(study)
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1000
    dataset.WindowCenter, dataset.WindowWidth = [0, 5], [2000, 5]
    embedded.store(to_bytes(dataset))
    path = f"{study.path(1)}/rendered"
    stated = np.asarray(picture(embedded, path, "image/png"))[0]
    columns = np.linspace(0, 4095, 64).astype(int) - 1000
    expected = np.clip((columns + 1000) * 255 / 2000, 0, 255)
    assert np.abs(stated - expected).max() <= 1
    narrow = np.asarray(picture(embedded, path, "image/png", window="1000,100,linear"))[0]
    assert set(narrow[columns < 940]) == {0}
    assert set(narrow[columns > 1060]) == {255}


def test_monochrome1_is_turned_over(embedded: Web, study: Study) -> None:
    dataset = grey_instance(study)
    dataset.PhotometricInterpretation = "MONOCHROME1"
    embedded.store(to_bytes(dataset))
    row = np.asarray(picture(embedded, f"{study.path(1)}/rendered", "image/png"))[0]
    assert (row[0], row[-1]) == (255, 0)


@pytest.mark.parametrize(
    "parameters",
    [
        {"viewport": "0,10"},
        {"viewport": "5000,5000"},
        {"viewport": "10"},
        {"viewport": "a,b"},
        {"window": "100"},
        {"window": "100,0"},
        {"window": "nan,nan"},
        {"quality": "0"},
        {"quality": "101"},
    ],
)
def test_parameters_out_of_bounds_are_400(embedded: Web, study: Study, parameters: dict[str, str]) -> None:
    embedded.store(study.file())
    assert embedded.get(f"{study.path(1)}/rendered", None, **parameters).status_code == 400


@pytest.mark.parametrize("modality", ["SR", "PDF"])
def test_what_has_no_pixels_has_no_picture(embedded: Web, study: Study, modality: str) -> None:
    embedded.store(study.file(modality))
    for path in ("rendered", "thumbnail", "frames/1", "frames/1/rendered"):
        assert embedded.get(f"{study.path(1)}/{path}").status_code == 406


@pytest.mark.parametrize("bomb", ["header", "jpeg", "jpeg 2000", "samples"])
def test_frames_that_would_inflate_beyond_measure_are_refused(embedded: Web, study: Study, bomb: str) -> None:
    syntax = JPEG2000Lossless if bomb == "jpeg 2000" else JPEGBaseline8Bit
    dataset = dcmread(BytesIO(study.file("US", transfer_syntax=syntax, frames=1, size=64)))
    if bomb == "header":
        dataset.Rows = dataset.Columns = 65000
    elif bomb == "samples":
        dataset.SamplesPerPixel = 60000
    else:
        dataset.PixelData = encapsulate([inflated(dataset.PixelData, jpeg=bomb == "jpeg")])
    embedded.store(to_bytes(dataset))
    answer = embedded.get(f"{study.path(1)}/rendered")
    assert answer.status_code == 406
    assert "too" in answer.json()["detail"]


def inflated(encapsulated: bytes, *, jpeg: bool) -> bytes:
    """The only frame, now saying that it is 65000 pixels wide and high."""
    frame = bytearray(encapsulated[encapsulated.index(b"\xff\xd8" if jpeg else b"\xff\x4f\xff\x51") :])
    if jpeg:
        at = frame.index(b"\xff\xc0")
        frame[at + 5 : at + 9] = (65000).to_bytes(2, "big") * 2
    else:
        frame[8:16] = (65000).to_bytes(4, "big") * 2
    return bytes(frame)


def test_a_damaged_frame_is_no_server_error(embedded: Web, study: Study) -> None:
    dataset = dcmread(BytesIO(study.file("US", transfer_syntax=JPEGBaseline8Bit, frames=1, size=64)))
    dataset.PixelData = encapsulate([b"\xff\xd8\xff\xe0 nothing that a decoder knows"])
    embedded.store(to_bytes(dataset))
    assert embedded.get(f"{study.path(1)}/rendered").status_code == 406
    assert embedded.get(f"{study.path(1)}/frames/1").status_code == 200
