"""`clinicpacs verify` and `prune` look into what the importer wrote: whose it is, and what it replaced."""

from __future__ import annotations

import struct
from datetime import date
from io import BytesIO
from typing import TYPE_CHECKING

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless
from sqlalchemy import delete

from admin.verifying.owners import Owners
from admin.verifying.tagged import CLINIC, HISTORY, IDENTIFIERS
from pacs.catalog import clinics, ownership
from pacs.catalog import transfers as transferring
from pacs.catalog.schema import transfers
from pacs.ids import ClinicId
from support.corpus import NATIVE_SYNTAXES, instance_bytes, to_bytes
from support.dicom_files import compared, data_set, inserted, tag_bytes
from support.filed import Referral, claim_of, file_study
from support.odd_files import ODD
from support.processed import imported, listed, put, recorded, with_history
from support.site import DAY, NORTH, NOW, SOUTH, Site, store
from support.transferring import break_off, stored

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydicom.dataset import Dataset, FileDataset

WEST = ClinicId("westside")
ONE = Referral("one")


def with_group_lengths(content: bytes) -> bytes:
    """In explicit VR little endian; with the lengths of groups 0008 and 0400."""
    ds = dcmread(BytesIO(content))
    found = data_set(to_bytes(ds))
    start = content.index(found)
    history = found.index(struct.pack("<HH", 0x0400, 0x0561))
    end = found.index(struct.pack("<HH", 0x7FE0, 0x0010), history)
    length = struct.pack("<HH2sHL", 0x0400, 0, b"UL", 4, end - history)
    first = found.index(struct.pack("<HH", 0x0010, 0x0010))
    of_8 = struct.pack("<HH2sHL", 0x0008, 0, b"UL", 4, first)
    return content[:start] + of_8 + found[:history] + length + found[history:]


def unknown_history() -> bytes:
    """Of what was a sequence in implicit VR (PS3.5 section 6.2.2, note 2)."""
    body = data_set(with_history(instance_bytes(transfer_syntax=ImplicitVRLittleEndian), undefined=False))
    start = body.index(struct.pack("<HH", 0x0400, 0x0561))
    (length,) = struct.unpack("<L", body[start + 4 : start + 8])
    value = body[start + 8 : start + 8 + length]
    head = struct.pack("<HH2sHL", 0x0400, 0x0561, b"UN", 0, length)
    return inserted(ExplicitVRLittleEndian, 0x7FE00010, head + value)


FORMS = {
    **{
        f"plain {syntax}": instance_bytes(transfer_syntax=syntax)
        for syntax in (*NATIVE_SYNTAXES, RLELossless)
    },
    **{
        f"{'undefined' if undefined else 'defined'} {syntax}": with_history(
            instance_bytes(transfer_syntax=syntax), undefined=undefined
        )
        for syntax in NATIVE_SYNTAXES
        for undefined in (True, False)
    },
    "unknown": unknown_history(),
    "group lengths": with_group_lengths(with_history(instance_bytes(), undefined=False)),
    "empty name": instance_bytes(institution=""),
    "long name": instance_bytes(institution="x" * 64),
    "name of question marks": instance_bytes(institution="?" * 26),
}


@pytest.mark.parametrize("content", FORMS.values(), ids=FORMS)
def test_each_owner_is_read_from_whatever_form_of_file(content: bytes) -> None:
    longest = ClinicId("c" * 63)
    owners = [NORTH, SOUTH, ClinicId("e"), longest, NORTH]
    archived = content
    for number, owner in enumerate(owners, 1):
        archived = tag_bytes(archived, owner)
        assert compared(content, archived) == ("", owners[:number])
    assert compared(content, tag_bytes(archived, NORTH))[0] == HISTORY, "the same clinic twice"
    assert compared(content, content)[0] in {CLINIC, HISTORY}
    assert compared(tag_bytes(content), tag_bytes(content))[0] == HISTORY


@pytest.mark.parametrize("what", ODD)
def test_an_odd_file_is_the_same_in_the_archive(what: str) -> None:
    archived = tag_bytes(ODD[what], NORTH)
    assert compared(ODD[what], archived) == ("", [NORTH])
    assert compared(ODD[what], tag_bytes(archived, SOUTH)) == ("", [NORTH, SOUTH])


def test_an_identifier_that_has_another_vr_is_found() -> None:
    content = ODD["identifiers in UN"]
    head = struct.pack("<HH2s", 0x0020, 0x000D, b"UI")
    archived = tag_bytes(content, NORTH)
    assert archived.count(head) == 1
    assert compared(content, archived.replace(head, head[:4] + b"LO"))[0] == IDENTIFIERS


def test_what_no_parser_would_write_is_found() -> None:
    content = instance_bytes(institution="Sample")
    archived = tag_bytes(content)
    when = b"20240506120000.250000+05"
    assert compared(content, archived.replace(when, b"20240506120000.250000+O5"))[0] == HISTORY
    head = struct.pack("<HH2s", 0x0400, 0x0561, b"SQ")
    assert compared(content, archived.replace(head, head[:4] + b"UN"))[0] == HISTORY
    length = archived.index(head) + 8
    longer = bytes([archived[length] + 2])
    assert compared(content, archived[:length] + longer + archived[length + 1 :])[0] == HISTORY


def items(ds: FileDataset) -> list[FileDataset]:
    return ds.OriginalAttributesSequence  # type: ignore[no-any-return]


def replaced(ds: FileDataset) -> Dataset:
    return items(ds)[2].ModifiedAttributesSequence[0]  # type: ignore[no-any-return]


def lose(*names: str) -> Callable[[FileDataset], None]:
    def damage(ds: FileDataset) -> None:
        for name in names:
            delattr(ds, name)

    return damage


OF_HISTORY: dict[str, Callable[[FileDataset], object]] = {
    "history": lose("OriginalAttributesSequence"),
    "our item": lambda ds: items(ds).pop(),
    "the device's last item": lambda ds: items(ds).pop(1),
    "the order of the device's items": lambda ds: items(ds).insert(0, items(ds).pop(1)),
    "ours before the device's": lambda ds: items(ds).insert(0, items(ds).pop()),
    "a word in a device's item": lambda ds: setattr(items(ds)[0], "ModifyingSystem", "Elsewhere 0"),
    "the name that was there": lambda ds: setattr(replaced(ds), "InstitutionName", "Simple"),
    "the absence of a name": lambda ds: delattr(replaced(ds), "InstitutionName"),
    "who changed it": lambda ds: setattr(items(ds)[2], "ModifyingSystem", "Elsewhere "),
    "when it was changed": lambda ds: setattr(items(ds)[2], "AttributeModificationDateTime", "2026"),
    "an item more": lambda ds: items(ds).append(items(ds)[0]),
    "the same item twice": lambda ds: items(ds).append(items(ds)[2]),
}
OF_CLINIC: dict[str, Callable[[FileDataset], object]] = {
    "no clinic": lose("InstitutionName"),
    "no clinic's name": lambda ds: setattr(ds, "InstitutionName", "St. Elsewhere"),
    "another clinic": lambda ds: setattr(ds, "InstitutionName", SOUTH),
    "more than the clinic": lambda ds: setattr(ds, "InstitutionName", "northside."),
    "neither": lose("InstitutionName", "OriginalAttributesSequence"),
}
DAMAGES = {name: (HISTORY, damage) for name, damage in OF_HISTORY.items()} | {
    name: (CLINIC, damage) for name, damage in OF_CLINIC.items()
}


@pytest.mark.parametrize("undefined", [True, False], ids=["undefined", "defined"])
def test_what_is_lost_or_changed_of_it_is_found_and_its_file_stays(
    sqlite_site: Site, *, undefined: bool
) -> None:
    site = sqlite_site
    site.add_clinics()
    today = f"{date.today()}"  # noqa: DTZ011 - the day of the machine
    with site.archive() as archive:
        for name, (_, damage) in DAMAGES.items():
            content = with_history(instance_bytes(seed=name), items=2, undefined=undefined)
            ds = dcmread(BytesIO(tag_bytes(content)))
            damage(ds)
            store(archive, to_bytes(ds))
            put(site, name, content, day=today)
        imported(
            site, archive, "well", with_history(instance_bytes(), items=2, undefined=undefined), day=today
        )
        assert listed(site, exit_code=1) == {
            f"{today}/{name}": f"different {sentence}" for name, (sentence, _) in DAMAGES.items()
        }
        assert recorded(site)[NORTH] == (len(DAMAGES) + 1, 0, len(DAMAGES))
        pruned = site.run("prune", "--older-than", "0d", "--superseded", "--deleted", "--yes")
    assert pruned.exit_code == 1, pruned.output
    left = {path.name for path in (site.data / "processed" / NORTH / today).iterdir()}
    assert left == set(DAMAGES)


def file_all(site: Site) -> set[str]:
    """File all of `ONE`; the names that it is listed under."""
    for number, content in enumerate(ONE.files()):
        put(site, f"{number}.dcm", content)
    return {f"{DAY}/{number}.dcm" for number in range(4)}


@pytest.mark.config
def test_a_transferred_study_is_verified_as_each_owners_in_turn(site: Site) -> None:
    site.add_clinics()
    with site.archive() as archive:
        file_study(site.catalog, archive, NORTH, *ONE.files())
        all_files = file_all(site)
        site.done("share", ONE.uid, "--with", SOUTH, "--until", "2999-01-01")
        assert listed(site) == {}
        before = stored(archive)
        for owner in (SOUTH, NORTH, SOUTH):
            site.done("transfer", ONE.uid, "--to", owner)
            assert listed(site) == {}
        # As a backup of the archive brings them back: each is as it was sent, and names an owner of before.
        store(archive, *before.values())
        assert listed(site, exit_code=1) == dict.fromkeys(all_files, f"different {CLINIC}")
        store(archive, *(tag_bytes(tag_bytes(each, WEST), SOUTH) for each in ONE.files()))
        assert listed(site, exit_code=1) == dict.fromkeys(all_files, f"different {CLINIC}")
    assert recorded(site)[NORTH] == (4, 0, 4)


def test_in_the_middle_of_a_transfer_the_old_owner_and_the_new_one_are_right(site: Site) -> None:
    site.add_clinics()
    with site.archive() as archive:
        file_study(site.catalog, archive, NORTH, *ONE.files())
        all_files = file_all(site)
        owners = Owners(site.catalog)
        assert owners.may_have_had(ONE.uid, NORTH, [NORTH])
        assert not owners.may_have_had(ONE.uid, NORTH, [NORTH, SOUTH])
        break_off(site, archive, 11)
        assert owners.may_have_had(ONE.uid, NORTH, [NORTH])
        assert owners.may_have_had(ONE.uid, NORTH, [NORTH, SOUTH]), "it began after the owner was noted"
        named = {dcmread(BytesIO(each)).InstitutionName for each in stored(archive).values()}
        assert named == {NORTH, SOUTH}
        assert listed(site) == {}
        for chain in ((NORTH, WEST), (WEST, SOUTH)):
            store(archive, tag_bytes(tag_bytes(ONE.file(1, 1), chain[0]), chain[1]))
            assert listed(site, exit_code=1) == {f"{DAY}/0.dcm": f"different {CLINIC}"}
        store(archive, tag_bytes(ONE.file(1, 1)))
        with site.catalog.write() as connection:
            connection.execute(delete(transfers))
        assert set(listed(site, exit_code=1)) < all_files


def test_a_transfer_that_took_the_place_of_an_unfinished_one(sqlite_site: Site) -> None:
    """From north to south, and on to west before all images were tagged."""
    site = sqlite_site
    site.add_clinics()
    with site.catalog.write() as connection:
        clinics.add(connection, WEST, "Westside", NOW)
        assert ownership.reserve(connection, claim_of(ONE.file(1, 1), NORTH), NOW)
        for clinic in (SOUTH, WEST):
            study = transferring.owned(connection, ONE.uid)
            assert study
            transferring.begin(connection, study, clinic, NOW)
    owners = Owners(site.catalog)
    for chain in ([NORTH], [NORTH, SOUTH], [NORTH, SOUTH, WEST], [NORTH, WEST]):
        assert owners.may_have_had(ONE.uid, NORTH, chain)
    with site.catalog.write() as connection:
        connection.execute(delete(transfers))
    after = Owners(site.catalog)
    right = [[NORTH, SOUTH, WEST], [NORTH, WEST]]
    every = [[NORTH], [NORTH, SOUTH], *right, [SOUTH, WEST], [WEST]]
    assert [chain for chain in every if after.may_have_had(ONE.uid, NORTH, chain)] == right
