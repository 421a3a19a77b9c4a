"""DICOM files (PS3.10) opened for reading, with large values left on disk."""

from __future__ import annotations

import struct
import tempfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from pydicom import dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_file_meta_info
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from demo.archive.errors import UnreadableInstanceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pydicom.dataset import FileDataset, FileMetaDataset

INLINE_LIMIT = 1024
"""Bytes; values that are larger are left in the file until somebody asks for them."""

_INFLATED_LIMIT = 1 << 30
_CHUNK = 1 << 20
_UNDEFINED = 0xFFFFFFFF
_META_GROUP_LENGTH_END = 128 + 4 + 12


@dataclass(frozen=True)
class OpenInstance:
    """A parsed file and the stream its large values are read from.

    ``stream`` is not the stored file when that is deflated (PS3.5 annex A.5), but its inflated form;
    ``transfer_syntax`` is always the stored one.
    """

    dataset: FileDataset
    stream: BinaryIO
    transfer_syntax: str


@contextmanager
def open_instance(path: Path) -> Iterator[OpenInstance]:
    """The whole data set of a file, values over INLINE_LIMIT left in the stream.

    Raises:
        UnreadableInstanceError: when it cannot be parsed.
        FileNotFoundError: when there is no such file.
    """
    with path.open("rb") as file, _plain_stream(path, file) as (stream, syntax):
        yield OpenInstance(_parse(stream, defer_size=INLINE_LIMIT), stream, syntax)


def read_header(path: Path, tags: Sequence[int], *, whole: bool = True) -> FileDataset:
    """The named elements in front of the pixel data.

    Args:
        path: a DICOM file.
        tags: what to read.
        whole: make sure that native pixel data is all there.

    Raises:
        UnreadableInstanceError: when the file cannot be parsed or ends too early.
    """
    with path.open("rb") as file, _plain_stream(path, file) as (stream, _):
        dataset = _parse(stream, specific_tags=list(tags), stop_before_pixels=True)
        if whole:
            _check_pixel_data_is_whole(dataset, stream)
        return dataset


def _parse(stream: BinaryIO, **options: Any) -> FileDataset:
    stream.seek(0)
    try:
        return dcmread(stream, **options)
    # On hostile bytes the parser fails in whatever line they lead it to: struct.error, KeyError,
    # RecursionError, OverflowError ... All of them mean the same: this is no DICOM file.
    except Exception as error:
        raise UnreadableInstanceError("not a DICOM file") from error


def _file_meta(path: Path) -> FileMetaDataset:
    try:
        return read_file_meta_info(path)
    except Exception as error:  # as in _parse
        raise UnreadableInstanceError("not a DICOM file") from error


@contextmanager
def _plain_stream(path: Path, file: BinaryIO) -> Iterator[tuple[BinaryIO, str]]:
    meta = _file_meta(path)
    syntax = str(meta.get("TransferSyntaxUID") or "")
    if not syntax:
        raise UnreadableInstanceError("the file meta information names no transfer syntax")
    if syntax != DeflatedExplicitVRLittleEndian:
        yield file, syntax
        return
    with tempfile.TemporaryFile() as inflated:
        _inflate(meta, file, inflated)
        yield inflated, syntax


def _inflate(meta: FileMetaDataset, file: BinaryIO, target: BinaryIO) -> None:
    length = meta.get("FileMetaInformationGroupLength")
    if not isinstance(length, int):
        raise UnreadableInstanceError("the file meta information has no group length")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = DicomBytesIO()
    write_file_meta_info(header, meta, enforce_standard=False)
    target.write(bytes(128) + b"DICM" + header.getvalue())
    file.seek(_META_GROUP_LENGTH_END + length)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    room = _INFLATED_LIMIT
    while not inflater.eof and (chunk := inflater.unconsumed_tail or file.read(_CHUNK)):
        try:
            data = inflater.decompress(chunk, _CHUNK)
        except zlib.error as error:
            raise UnreadableInstanceError("the deflated data set is damaged") from error
        room -= len(data)
        if room < 0:
            raise UnreadableInstanceError(f"the data set inflates to over {_INFLATED_LIMIT} bytes")
        target.write(data)


def _check_pixel_data_is_whole(dataset: FileDataset, stream: BinaryIO) -> None:
    start = stream.tell()
    is_implicit, is_little = dataset.original_encoding
    size = 8 if is_implicit else 12
    head = stream.read(size)
    if len(head) < size:
        return
    (length,) = struct.unpack("<L" if is_little else ">L", head[-4:])
    if length != _UNDEFINED and start + size + length > stream.seek(0, 2):
        raise UnreadableInstanceError("the pixel data ends before its stated length")
