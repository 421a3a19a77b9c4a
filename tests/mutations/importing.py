# ruff: noqa: E501 - the program's text as it stands there
"""Checks of the importer: whose a study is, and what a hostile file may cost."""

from __future__ import annotations

from tests.mutations.model import mutation

_UNKNOWN = "tests/importer/test_unknown_studies.py"
_FOREIGN = f"{_UNKNOWN}::test_what_is_not_all_its_own_the_clinic_does_not_get"
_OWNED, _HOSTILE = "pacs/catalog/ownership.py", "tests/importer/dicom/test_hostile.py"
_WALK, _SOURCE = "importer/dicom/walk.py", "importer/dicom/source.py"
_NESTING = "importer/dicom/nesting.py"

RESERVED = (
    mutation("that an unknown study is asked about before it is reserved", "importer/reading/claims.py", "new=claim.study_uid in looked_up",
             "new=True", _FOREIGN),
    mutation("whose an unknown study is", "importer/sending/looking_up.py", "if owner_of(self.archive, study) != clinic_id:",
             "if not owner_of(self.archive, study):", _FOREIGN),
    mutation("that an unknown study is not reserved without an answer", "importer/sending/upload.py",
             "            return self._unanswered(file, judge_silence(error, situation))\n", "            return Result(file, End.LOOKED_UP)\n",
             f"{_UNKNOWN}::test_files_of_a_new_study_wait_for_an_answer_that_says_something"),
    mutation("that an image's clinic was written by clinicpacs", "pacs/written_owner.py", "if not history or not _is_ours(history[-1]):",
             "if history and not _is_ours(history[-1]):", _FOREIGN, "tests/admin/test_reindex.py"),
    mutation("that a study's series are all one clinic's", "pacs/written_owner.py", "if longest and (same_end or one_way) else None",
             "if longest else None", _FOREIGN),
    mutation("whose a study is that is filed", _OWNED, "    if study.clinic_id != claim.clinic_id:\n", "    if False:\n",
             "tests/importer/test_flow.py::test_the_second_clinic_with_a_study_is_refused_and_its_bytes_never_sent"),
)  # fmt: skip

READ = (
    mutation("that a file holds what its elements tell", _WALK, "if length != UNDEFINED and value + length > limit:", "if False:",
             f"{_HOSTILE}::test_length_beyond_the_file"),
    mutation("how deep sequences nest", _NESTING, "if len(self.frames) >= self._depth * 2:", "if False:", f"{_HOSTILE}::test_deep_sequences_are_refused"),
    mutation("that Orthanc misreads no length", "importer/dicom/tag.py", "for item in header.open_items:", "for item in ():",
             "tests/importer/dicom/test_nesting.py::test_orthanc_takes_no_value_for_a_length"),
    mutation("how many items are noted", _NESTING, "if len(self.open_items) >= _OPEN_ITEMS:", "if False:",
             "tests/importer/dicom/test_nesting.py::test_more_than_can_be_noted_are_refused"),
    mutation("how many elements a file has", _WALK, "if self._left < 0:", "if False:", f"{_HOSTILE}::test_work_is_bounded"),
    mutation("how long a file takes", _SOURCE, "if time.thread_time() >= self._end:", "if False:", f"{_HOSTILE}::test_what_takes_too_long_is_refused"),
    mutation("how much a file inflates to", "importer/dicom/transcode.py", "if size > allowed:", "if False:",
             "tests/importer/dicom/test_deflated.py::test_a_bomb_is_refused_by_its_size"),
    mutation("that a folder is no link", "importer/files/tree.py", "_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW |",
             "_FOLDER = os.O_RDONLY | os.O_DIRECTORY |", "tests/importer/test_moving.py::test_a_folder_swapped_for_a_link_leads_nowhere"),
)  # fmt: skip
