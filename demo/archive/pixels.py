"""Frames as they are stored: ranges of the file, or the fragments of an encapsulated frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from pydicom import encaps, uid
from pydicom.dataelem import RawDataElement

from demo.archive.errors import RequestError, UnreadableInstanceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

    from demo.archive.part10 import OpenInstance

_PIXEL_TAGS = (0x7FE00010, 0x7FE00008, 0x7FE00009)
_UNDEFINED = 0xFFFFFFFF
_CHUNK = 1 << 20
_MAX_FRAMES = 1 << 20

_MEDIA_TYPES = (
    ((*uid.JPEGTransferSyntaxes,), "image/jpeg"),
    ((*uid.JPEGLSTransferSyntaxes,), "image/jls"),
    ((*uid.JPEG2000TransferSyntaxes,), "image/jp2"),
    ((uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K), "image/jphc"),
    ((uid.RLELossless,), "image/dicom-rle"),
    ((*uid.MPEGTransferSyntaxes,), "video/mp4"),
)


def media_type_of(transfer_syntax: str) -> str:
    """The media type of a frame in this transfer syntax (PS3.18 section 8.7.3)."""
    for syntaxes, media_type in _MEDIA_TYPES:
        if transfer_syntax in syntaxes:
            return media_type
    return "application/octet-stream"


class PixelData:
    """The frames of an open instance.

    Raises:
        RequestError: 406 when it has none.
    """

    def __init__(self, opened: OpenInstance) -> None:
        self._stream = opened.stream
        self._dataset = opened.dataset
        element = _pixel_element(opened.dataset)
        self._tag = element.tag
        self._start = element.value_tell
        self._length = element.length
        self.is_encapsulated = element.length == _UNDEFINED
        self.number_of_frames = max(1, min(number(opened.dataset, "NumberOfFrames", 1), _MAX_FRAMES))
        if opened.transfer_syntax in uid.MPEGTransferSyntaxes:
            # A video is one stream, cut into fragments anywhere (PS3.5 section 8.2.5).
            self.number_of_frames = 1
        self.transfer_syntax = opened.transfer_syntax
        if not self.is_encapsulated and opened.transfer_syntax != uid.ExplicitVRBigEndian:
            # Native frames carry no trace of VRs and deflation: they are what this syntax says.
            self.transfer_syntax = uid.ExplicitVRLittleEndian

    def frames(self, positions: Iterable[int]) -> list[Iterator[bytes]]:
        """The bytes of frames, read from the file when they are iterated over; the first frame is 1.

        The first of them is looked at beforehand: damage that is found further on cuts the answer off.

        Raises:
            RequestError: 404 when there is no such frame.
            UnreadableInstanceError: when one is not where it should be.
        """
        indices = [position - 1 for position in positions]
        if not all(0 <= index < self.number_of_frames for index in indices):
            raise RequestError(404, f"there are {self.number_of_frames} frames")
        if not self.is_encapsulated:
            return [self._native_frame(index) for index in indices]
        self._read_encapsulated(indices[0])
        return [self._encapsulated_frame(index) for index in indices]

    def _encapsulated_frame(self, index: int) -> Iterator[bytes]:
        yield self._read_encapsulated(index)

    def _read_encapsulated(self, index: int) -> bytes:
        self._stream.seek(self._start)
        table = tuple(
            self._dataset.get(name) for name in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
        )
        try:
            return encaps.get_frame(
                self._stream,
                index,
                number_of_frames=self.number_of_frames,
                extended_offsets=table if all(table) else None,
            )
        except Exception as error:  # as in part10: the parser trusts the fragments
            raise UnreadableInstanceError("the encapsulated frames are damaged") from error

    def _native_frame(self, index: int) -> Iterator[bytes]:
        bits = self._bits_per_frame()
        start, odd_bits = divmod(index * bits, 8)
        end = -(-(index + 1) * bits // 8)
        if end > self._length:
            raise UnreadableInstanceError("the frame lies beyond the pixel data")
        if odd_bits or bits % 8:
            return iter([self._packed_frame(start, end, odd_bits, bits)])
        return read_range(self._stream, self._start + start, end - start)

    def _bits_per_frame(self) -> int:
        rows, columns = number(self._dataset, "Rows"), number(self._dataset, "Columns")
        samples = number(self._dataset, "SamplesPerPixel", 1)
        if self._dataset.get("PhotometricInterpretation") == "YBR_FULL_422":
            # Two pixels share their chrominance (PS3.3 section C.7.6.3.1.2).
            samples = 2
        allocated = {0x7FE00008: 32, 0x7FE00009: 64}.get(self._tag)
        bits = rows * columns * samples * (allocated or number(self._dataset, "BitsAllocated"))
        if bits <= 0:
            raise UnreadableInstanceError("the size of a frame is not known")
        return bits

    def _packed_frame(self, start: int, end: int, odd_bits: int, bits: int) -> bytes:
        # Single bit frames follow each other without padding (PS3.5 section 8.1.1).
        self._stream.seek(self._start + start)
        packed = int.from_bytes(self._stream.read(end - start), "little") >> odd_bits
        return (packed & ((1 << bits) - 1)).to_bytes(-(-bits // 8), "little")


def number(dataset: Dataset, keyword: str, default: int = 0) -> int:
    """An integer attribute; the default where it is absent or none."""
    try:
        value = dataset.get(keyword)
        return default if value is None else int(value)
    except (TypeError, ValueError, NotImplementedError):
        return default


def read_range(stream: BinaryIO, start: int, length: int) -> Iterator[bytes]:
    """A range of a file in chunks."""
    stream.seek(start)
    while length > 0 and (chunk := stream.read(min(_CHUNK, length))):
        length -= len(chunk)
        yield chunk


def _pixel_element(dataset: Dataset) -> RawDataElement:
    for tag in _PIXEL_TAGS:
        if tag in dataset:
            element: DataElement | RawDataElement = dataset.get_item(tag, keep_deferred=True)
            if isinstance(element, RawDataElement):
                return element
    raise RequestError(406, "this instance has no pixel data")
