"""Documents: a structured report on the CT nodule, and a report as PDF."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, EncapsulatedPDFStorage, EnhancedSRStorage

from demo.samples.body import NODULE_RADIUS
from demo.samples.study import new_instance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom.dataset import FileDataset

    from demo.samples.study import Sample, Series

_DCM, _LOINC, _SNOMED, _UCUM = "DCM", "LN", "SCT", "UCUM"


def structured_report(series: Series, images: Series, key_image: int) -> FileDataset:
    """An Enhanced SR with findings, a measurement and the image it was made on.

    Args:
        series: what the report belongs to.
        images: the CT series it is about, of the same study.
        key_image: the instance number of the image that is referred to.
    """
    dataset = new_instance(series, EnhancedSRStorage, 1)
    dataset.CompletionFlag, dataset.VerificationFlag = "COMPLETE", "UNVERIFIED"
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.PerformedProcedureCodeSequence = []
    dataset.CurrentRequestedProcedureEvidenceSequence = [_evidence(images, key_image)]
    root = _container(_code("18748-4", _LOINC, "Diagnostic imaging report"))
    dataset.update(root)
    dataset.ContentSequence = [
        _language(),
        _section(
            _code("121070", _DCM, "Findings"),
            [
                _text(
                    "Spiculated nodule in the right lung. No effusion. Cyst in the right lobe of the liver."
                ),
                _measurement(images, key_image),
            ],
        ),
        _section(
            _code("121072", _DCM, "Impressions"),
            [
                _text(
                    "Sample report on a computed phantom; the nodule was put there to be found.", "Impression"
                )
            ],
        ),
    ]
    return dataset


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def _container(name: Dataset) -> Dataset:
    container = Dataset()
    container.ValueType, container.ContinuityOfContent = "CONTAINER", "SEPARATE"
    container.ConceptNameCodeSequence = [name]
    return container


def _section(name: Dataset, items: Sequence[Dataset]) -> Dataset:
    section = _container(name)
    section.RelationshipType = "CONTAINS"
    section.ContentSequence = list(items)
    return section


def _language() -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = "HAS CONCEPT MOD", "CODE"
    item.ConceptNameCodeSequence = [_code("121049", _DCM, "Language of Content Item and Descendants")]
    item.ConceptCodeSequence = [_code("en", "RFC5646", "English")]
    return item


def _text(text: str, meaning: str = "Finding") -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", "TEXT"
    value = "121071" if meaning == "Finding" else "121073"
    item.ConceptNameCodeSequence = [_code(value, _DCM, meaning)]
    item.TextValue = text
    return item


def _measurement(images: Series, key_image: int) -> Dataset:
    value = Dataset()
    value.NumericValue = f"{2 * NODULE_RADIUS:g}"
    value.MeasurementUnitsCodeSequence = [_code("mm", _UCUM, "millimeter")]
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", "NUM"
    item.ConceptNameCodeSequence = [_code("81827009", _SNOMED, "Diameter")]
    item.MeasuredValueSequence = [value]
    image = Dataset()
    image.RelationshipType, image.ValueType = "INFERRED FROM", "IMAGE"
    image.ReferencedSOPSequence = [_image_reference(images, key_image)]
    item.ContentSequence = [image]
    return item


def _image_reference(images: Series, number: int) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = CTImageStorage
    reference.ReferencedSOPInstanceUID = images.sop_uid(number)
    return reference


def _evidence(images: Series, number: int) -> Dataset:
    of_series = Dataset()
    of_series.SeriesInstanceUID = images.uid
    of_series.ReferencedSOPSequence = [_image_reference(images, number)]
    evidence = Dataset()
    evidence.StudyInstanceUID = images.sample.study_uid
    evidence.ReferencedSeriesSequence = [of_series]
    return evidence


def pdf_report(series: Series, title: str, lines: Sequence[str]) -> FileDataset:
    """An encapsulated PDF of one page.

    Args:
        series: what it belongs to.
        title: of the document.
        lines: its text, printable ASCII.
    """
    pdf = _pdf(title, lines)
    dataset = new_instance(series, EncapsulatedPDFStorage, 1)
    dataset.AcquisitionDateTime = series.sample.date + series.sample.time
    dataset.ConversionType = "WSD"
    dataset.BurnedInAnnotation = "YES"
    dataset.DocumentTitle = title
    dataset.ConceptNameCodeSequence = [_code("18748-4", _LOINC, "Diagnostic imaging report")]
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    dataset.EncapsulatedDocumentLength = len(pdf)
    dataset.EncapsulatedDocument = pdf + bytes(len(pdf) % 2)
    return dataset


def letter(sample: Sample, findings: Sequence[str]) -> list[str]:
    """The lines of a report on a sample study."""
    return [
        f"Patient ID: {sample.patient_id}    Accession: {sample.accession}",
        f"Study: {sample.description}, {sample.date[:4]}-{sample.date[4:6]}-{sample.date[6:]}",
        "",
        *findings,
        "",
        "This is a sample. No such person exists.",
    ]


def _pdf(title: str, lines: Sequence[str]) -> bytes:
    """A one-page PDF 1.4 with a cross-reference table (ISO 32000-1 section 7.5)."""
    shown = "".join(f"({_escaped(line)}) Tj T*\n" for line in lines)
    text = (
        "0.10 0.35 0.45 rg 0 780 595 62 re f\n"
        f"BT /F2 20 Tf 1 1 1 rg 48 802 Td ({_escaped(title)}) Tj ET\n"
        f"BT /F1 12 Tf 0.15 g 20 TL 48 735 Td\n{shown}ET"
    )
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        (
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R "
            "/Resources << /Font << /F1 5 0 R /F2 6 0 R >> >> >>"
        ),
        f"<< /Length {len(text)} >>\nstream\n{text}\nendstream",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica-Bold >>",
    ]
    body, offsets = "%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += f"{number} 0 obj\n{content}\nendobj\n"
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    trailer = f"trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{len(body)}\n%%EOF\n"
    return f"{body}xref\n0 {size}\n0000000000 65535 f \n{table}{trailer}".encode("ascii")


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
