"""What all the other tests left in the containers' logs: no patient, no token, no query string, no secret."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support import corpus

if TYPE_CHECKING:
    from support.stack import Stack

QUERIES = (
    "StudyInstanceUID=",
    "PatientName=",
    "PatientID=",
    "access_token=",
    "id_token_hint=",
    "includefield=",
)


def test_no_patient_no_query_and_no_secret_is_in_any_containers_log(stack: Stack) -> None:
    patients = {word for patient in corpus.PATIENTS.values() for word in (patient.id, patient.name)}
    # And of pydicom's files.
    words = {
        *patients,
        "Sample^",
        "Aurora",
        "CompressedSamples",
        *QUERIES,
        "Bearer ey",
        *stack.secrets.values(),
    }
    for service in stack.containers():
        lines = stack.logs(service).splitlines()
        found = [line for line in lines for word in words if word in line]
        assert not found, f"{service}: {found[:3]}"
