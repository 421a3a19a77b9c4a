"""Damaged files by the number: the same number gives the same bytes.

A `Sample` is a whole instance that can be given UIDs of its own; a damage is a function from its bytes to
others. What becomes of a damaged one is for `importer.dicom.part10.read_instance` to say: it may still be
a data set that all parsers read alike.
"""

from __future__ import annotations

import io
import random
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pydicom
from pydicom.uid import DeflatedExplicitVRLittleEndian

from importer.dicom.part10 import ORIGINAL_ATTRIBUTES_SEQUENCE, read_instance
from importer.dicom.refusal import UnstorableFileError
from support.corpus import (
    ENCAPSULATED_SYNTAXES,
    IMAGE_MODALITIES,
    MODALITIES,
    NATIVE_SYNTAXES,
    instance_bytes,
)
from support.dicom_files import data_set, opened
from support.raw import ITEM, ITEM_END, SEQUENCE_END, UNDEFINED, explicit, implicit

if TYPE_CHECKING:
    from collections.abc import Callable

    from importer.dicom.part10 import InstanceHeader

    Damage = Callable[[bytes, random.Random], bytes]

PER_STUDY = 50
"""So many files in a row share a study, as far as they were made of the same sample."""

_LARGEST = 40_000
_VRS = b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US OB OW SQ UN UT".split()
_VR = re.compile(b"|".join(_VRS))
_LENGTHS = (UNDEFINED, 0xFFFFFFFE, 0x80000000, 0x7FFFFFFF, 0x10000, 0xFFFF, 1, 3, 0)


@dataclass(frozen=True)
class Sample:
    """A whole instance; `uids` are those of its instance, study and series, as bytes."""

    name: str
    content: bytes
    uids: tuple[bytes, ...] = ()
    is_deflated: bool = False

    def numbered(self, index: int, number: int) -> bytes:
        """Its bytes under UIDs of its own, each as long as it was."""
        start = 144 + int.from_bytes(self.content[140:144], "little") if self.is_deflated else 0
        body = data_set(self.content) if self.is_deflated else self.content
        for kind, uid in enumerate(self.uids):
            own = number if kind == 0 else number // PER_STUDY
            new = f"2.25.{kind + 1}{f'{index:03}{own:07}'.rjust(len(uid) - 6, '0')}".encode()
            body = body.replace(uid, new)
        return self.content[:start] + deflated(body) if self.is_deflated else body


def deflated(body: bytes) -> bytes:
    """As a deflate stream (RFC 1951), at its fastest."""
    stream = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    return stream.compress(body) + stream.flush()


def header_of(content: bytes) -> InstanceHeader | str:
    """What the importer reads in a file of these bytes, or the reason why it refuses it."""
    with opened(content) as descriptor:
        try:
            return read_instance(descriptor)
        except UnstorableFileError as error:
            return str(error.reason)


def behind_the_history(content: bytes, header: InstanceHeader) -> bytes:
    """All of the data set that the importer has no reason to touch, pixel data above all."""
    body = content
    if header.syntax.is_deflated:
        body = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content[header.meta.end :])
    return body[header.after.get(ORIGINAL_ATTRIBUTES_SEQUENCE, header.end) : header.end]


@cache
def samples() -> tuple[Sample, ...]:
    """Every modality in every transfer syntax, and what pydicom ships and can be stored."""
    made = {
        f"{modality} {syntax}": instance_bytes(
            modality, transfer_syntax=syntax, size=32 if syntax in ENCAPSULATED_SYNTAXES else 8
        )
        for modality in MODALITIES
        for syntax in NATIVE_SYNTAXES + (ENCAPSULATED_SYNTAXES if modality in IMAGE_MODALITIES else ())
    }
    data = Path(pydicom.__file__).parent / "data"
    made |= {
        path.name: path.read_bytes()
        for folder in ("test_files", "charset_files")
        for path in sorted((data / folder).rglob("*.dcm"))
        if path.stat().st_size <= _LARGEST
    }
    return tuple(sample for name, content in made.items() if (sample := _sample(name, content)))


def _sample(name: str, content: bytes) -> Sample | None:
    header = header_of(content)
    if isinstance(header, str):
        return None
    found = header.sop_instance_uid, header.study_instance_uid, header.series_instance_uid
    uids = tuple(uid.encode() for uid in found)
    # One of no room for a number, or one in another, cannot be replaced: it is what it is.
    if any(len(uid) < 20 for uid in uids) or any(a in b for a in uids for b in uids if a is not b):
        return None
    return Sample(name, content, uids, is_deflated=header.syntax.is_deflated)


# Damages


def _place(content: bytes, dice: random.Random) -> int:
    """Somewhere; half of the time among the identifiers."""
    return dice.randrange(min(len(content), dice.choice((1200, len(content)))))


def _element(content: bytes, dice: random.Random) -> int:
    """Where an element in explicit VR begins; anywhere even where there is none."""
    found = _VR.search(content, _place(content, dice))
    return found.start() - 4 if found else _place(content, dice) & ~1


def whole(content: bytes, _dice: random.Random) -> bytes:
    return content


def truncated(content: bytes, dice: random.Random) -> bytes:
    return content[: dice.randrange(len(content))]


def shortened(content: bytes, dice: random.Random) -> bytes:
    return content[: -dice.randrange(1, 40)]


def flipped(content: bytes, dice: random.Random) -> bytes:
    made = bytearray(content)
    for _ in range(dice.choice((1, 1, 2, 4, 16))):
        made[_place(content, dice)] ^= 1 << dice.randrange(8)
    return bytes(made)


def overwritten(content: bytes, dice: random.Random) -> bytes:
    place, length = _place(content, dice), dice.randrange(1, 64)
    filler = dice.choice((bytes(length), b"\xff" * length, b" " * length, dice.randbytes(length)))
    return (content[:place] + filler + content[place + length :])[: len(content)]


def wrong_lengths(content: bytes, dice: random.Random) -> bytes:
    place = _element(content, dice) + dice.choice((4, 6, 8))
    length = struct.pack("<L", dice.choice(_LENGTHS))[: dice.choice((2, 4))]
    return content[:place] + length + content[place + len(length) :]


def wrong_vrs(content: bytes, dice: random.Random) -> bytes:
    place = _element(content, dice) + 4
    return content[:place] + dice.choice((*_VRS, b"OX", b"\0\0", b"??")) + content[place + 2 :]


def removed(content: bytes, dice: random.Random) -> bytes:
    place = _element(content, dice)
    return content[:place] + content[place + dice.randrange(1, 200) :]


def doubled(content: bytes, dice: random.Random) -> bytes:
    place = _element(content, dice)
    end = place + dice.randrange(1, 200)
    return content[:end] + content[place:end] + content[end:]


def preallocated(content: bytes, dice: random.Random) -> bytes:
    """The writer made it as long as it was to be, and stopped."""
    place = dice.randrange(len(content))
    return content[:place] + bytes(len(content) - place)


def spliced(content: bytes, dice: random.Random) -> bytes:
    other = dice.choice(samples()).content
    return content[: _place(content, dice)] + other[_place(other, dice) :]


def appended(content: bytes, dice: random.Random) -> bytes:
    rest = (bytes(dice.randrange(1, 6000)), dice.randbytes(dice.randrange(1, 400)), content)
    return content + dice.choice(rest)


def inserted(content: bytes, dice: random.Random) -> bytes:
    place = _element(content, dice)
    return content[:place] + _splice(dice) + content[place:]


def _splice(dice: random.Random) -> bytes:
    length = dice.choice((*_LENGTHS, 8, 16, 30))
    item = implicit(ITEM, dice.choice((b"", explicit(0x0020000D, b"UI", b"1.2.999\0"))), length)
    depth = dice.choice((1, 3, 63, 64, 65, 200))
    return dice.choice(
        (
            item,
            implicit(ITEM_END),
            implicit(SEQUENCE_END),
            explicit(0x00081140, b"SQ", item + implicit(SEQUENCE_END), UNDEFINED),
            explicit(0x00091010, dice.choice((b"OB", b"UN", b"UT", b"SQ")), b"", length),
            implicit(0x00091010, b"", length),
            (implicit(0x00081140, b"", UNDEFINED) + implicit(ITEM, b"", UNDEFINED)) * depth,
            explicit(0x0020000D, b"UI", b"1.2.999\0"),
        )
    )


def no_preamble(content: bytes, dice: random.Random) -> bytes:
    return content[dice.choice((128, 132, 64, 1, 0x90)) :]


def bad_meta(content: bytes, dice: random.Random) -> bytes:
    """Group 0002: an element too few, one too many, a length that is none, or endless ones."""
    place = content.find(b"\2\0", dice.randrange(130, 320))
    new = dice.choice(
        (
            explicit(0x00020010, b"UI", b"1.2.840.10008.1.2\0"),
            explicit(0x00020102, b"OB", b"", dice.choice(_LENGTHS)),
            explicit(0x00020010, b"UI", b""),
            b"".join(explicit(0x00021000 + number, b"SH") for number in range(dice.choice((50, 200)))),
            b"",
        )
    )
    return content[:place] + new + content[place + dice.choice((0, 0, 8, 28)) :]


def foreign(_content: bytes, dice: random.Random) -> bytes:
    """What else lies on a disk."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("../../etc/passwd", b"0" * dice.randrange(1000))
    return dice.choice(
        (
            b"",
            bytes(128),
            bytes(128) + b"DICM",
            bytes(132),
            bytes(dice.randrange(9000)),
            dice.randbytes(dice.randrange(9000)),
            b"a text\n" * dice.randrange(1, 900),
            b"<html><script>alert(1)</script>",
            b"%PDF-1.7\n" + dice.randbytes(500),
            b"\x7fELF\2\1\1" + bytes(600),
            b"MZ" + bytes(126) + b"DICM" + dice.randbytes(300),
            archive.getvalue(),
        )
    )


def deflated_bomb(_content: bytes, dice: random.Random) -> bytes:
    """Seventy megabytes in seventy kilobytes."""
    content = instance_bytes("MR", transfer_syntax=DeflatedExplicitVRLittleEndian, seed=dice.random(), size=8)
    return content[: 144 + int.from_bytes(content[140:144], "little")] + deflated(
        data_set(content) + bytes(70 << 20)
    )


def deeply_nested(content: bytes, dice: random.Random) -> bytes:
    sequence = dice.choice(
        (implicit(0x00081140, b"", UNDEFINED), explicit(0x00081140, b"SQ", b"", UNDEFINED))
    )
    return content[: _element(content, dice)] + (sequence + implicit(ITEM, b"", UNDEFINED)) * 100_000


def many_groups(content: bytes, _dice: random.Random) -> bytes:
    """An element in each of the groups behind pixel data, in a native file; bytes like others elsewhere."""
    return content + b"".join(explicit(group << 16 | 0x10, b"SH") for group in range(0x7FE1, 0xFFFE))


DAMAGES: tuple[Damage, ...] = (
    whole, truncated, shortened, flipped, overwritten, wrong_lengths, wrong_vrs, removed, doubled,
    preallocated, spliced, appended, inserted, no_preamble, bad_meta, foreign,
)  # fmt: skip
"""The cheap ones, each as often as the others."""

HEAVY: tuple[Damage, ...] = (deflated_bomb, deeply_nested, many_groups)
"""Those that cost something to make, and whoever is careless much more."""

_HEAVY_EVERY = 500


def damaged(number: int) -> tuple[str, bytes]:
    """What was done to the file of this number, and its bytes."""
    dice = random.Random(f"damaged {number}")
    index = dice.randrange(len(samples()))
    content = samples()[index].numbered(index, number)
    damage = dice.choice(DAMAGES if number % _HEAVY_EVERY else HEAVY)
    return damage.__name__, damage(content, dice)


def hostile_name(number: int) -> bytes:
    """A file's name; every eighth one that has broken a program before."""
    plain = b"IM%07d" % number
    if number % 8:
        return plain + b".dcm"
    return random.Random(f"name {number}").choice(
        (
            b"-rf " + plain, b"--help" + plain, plain + b"\nline two.dcm",
            b"\"it's\" " + plain + b"'; DROP TABLE",
            b"\xff\xfe\x80 " + plain, b"\xd0\xa1\xd0 cut " + plain, plain + b"x" * (255 - len(plain)),
            plain + b"." + b"\xf0\x9f\x98\x80" * 61, plain + b"\\..\\..\\etc\\passwd",
            plain + b"..%2f..%2e%2e",
            b"<img src=x onerror=alert(1)>" + plain, b"$(touch outside)" + plain, b"`id`" + plain,
            b"%n%s%d" + plain,
            plain + b" ", b" " + plain, plain + b"\r", b"\x1b[2J" + plain, plain + b".error.json", b"CON",
            b"C:\\" + plain, plain + b":stream", b"\xe2\x80\xaegnp" + plain, b"{}" + plain, b"*?[a]" + plain,
        )
    )  # fmt: skip
