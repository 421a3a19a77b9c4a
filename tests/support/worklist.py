"""Studies to search among, the same in the catalog and in an archive."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pacs.archive import ArchivedStudy
from pacs.catalog import ownership, worklist
from pacs.ids import ClinicId, Uid
from support.corpus import make_instance, sample_uid, to_bytes

if TYPE_CHECKING:
    from pacs.catalog import Catalog

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Entry:
    """One study of a list, by a letter."""

    letter: str
    name: str = ""
    patient_id: str = ""
    date: str = ""
    time: str = ""
    accession: str = ""
    description: str = ""
    modalities: tuple[str, ...] = ("CT",)
    sex: str = ""
    birth_date: str = ""
    referring: str = ""
    study_id: str = ""

    @property
    def uid(self) -> Uid:
        return Uid(sample_uid("worklist", self.letter))

    def attributes(self) -> dict[str, Any]:
        return {
            "PatientName": self.name,
            "PatientID": self.patient_id,
            "StudyDate": self.date,
            "StudyTime": self.time,
            "AccessionNumber": self.accession,
            "StudyDescription": self.description,
            "PatientSex": self.sex,
            "PatientBirthDate": self.birth_date,
            "ReferringPhysicianName": self.referring,
            "StudyID": self.study_id,
        }

    def files(self) -> list[bytes]:
        made = []
        for modality in self.modalities:
            ds = make_instance(modality, study_uid=self.uid, seed=("worklist", self.letter))
            ds.SpecificCharacterSet = "ISO_IR 192"
            for keyword, value in self.attributes().items():
                setattr(ds, keyword, value)
            made.append(to_bytes(ds))
        return made

    def archived(self) -> ArchivedStudy:
        """As an archive would describe it."""
        ds = make_instance("SR", study_uid=self.uid)
        ds.SpecificCharacterSet = "ISO_IR 192"
        for keyword, value in self.attributes().items():
            setattr(ds, keyword, value)
        described = ds.to_json_dict()
        kept = {tag: described[tag] for tag in _STUDY_TAGS if tag in described}
        kept["00081190"] = {
            "vr": "UR",
            "Value": [f"http://archive.internal:8042/dicom-web/studies/{self.uid}"],
        }
        return ArchivedStudy(
            self.uid,
            kept,
            tuple(
                {
                    "00080060": {"vr": "CS", "Value": [modality]},
                    "0020000E": {"vr": "UI", "Value": [sample_uid("worklist", self.letter, modality)]},
                    "00201209": {"vr": "IS", "Value": [2]},
                }
                for modality in self.modalities
            ),
        )


_STUDY_TAGS = (
    "00080005", "00080020", "00080030", "00080050", "00080090", "00081030",
    "00100010", "00100020", "00100030", "00100040", "0020000D", "00200010",
)  # fmt: skip

ENTRIES = (
    Entry("a", "Sample^Aurora", "AB1", "20240102", "101500", "ACC100", "CT Thorax", ("CT",), "F", "19700101",
          "Ref^Sample", "S1"),
    Entry("b", "SAMPLE^BORIS", "ab1", "20240103", "0915", "ACC_100", "ct thorax contrast", ("MR",), "M",
          "19800229", "", "S2"),
    Entry("c", "Übung^Zoë", "100%", "20240103", "235959.5", "acc100", "Schädel nativ", ("CT", "SR"), "F",
          "19700102"),
    Entry("d", "Образцова^Аврора", "ID 4", "20240110", "000000", "", "Снимок грудной клетки", ("CR",), "O"),
    Entry("e", "Mihon^Aki=見本^秋=みほん^あき", "E-5", "20231231", "235959", "E5", "100% zoom_in", ("US",)),
    Entry("f", "O'Sample^Pat^^^", "O'1", "20240102", "1016", "F*6", "Knee [left]", ("CT",)),
    Entry("g"),
    Entry("h", "Sample Pat^Anna Maria", "H8", "20240102", "10", "H8", "CT Thorax", ("MR", "CT")),
    Entry("i", "A_B^C%D", "AxB", "20250101", "120000", "I9", "Thoraxx", ("SR",)),
)  # fmt: skip


def file_entry(catalog: Catalog, clinic: ClinicId, archived: ArchivedStudy) -> None:
    """What the importer writes about a study that it has stored."""
    with catalog.write() as connection:
        for series_uid in archived.series_uids:
            claim = ownership.Claim(clinic, archived.study_uid, series_uid, archived.text("00100020"))
            assert ownership.reserve(connection, claim, NOW) is ownership.Granted.OWNED
        before = worklist.standing(connection, archived.study_uid)
        assert before
        worklist.record(connection, archived, before, clean=True, now=NOW, settles_at=NOW)
