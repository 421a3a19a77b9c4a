# ruff: noqa: E501 - the program's text as it stands there
"""Checks of the importer: whose a study is that the archive has and the catalog does not know."""

from __future__ import annotations

from tests.mutations.model import mutation

_UNKNOWN = "tests/importer/test_unknown_studies.py"
_FOREIGN = f"{_UNKNOWN}::test_what_is_not_all_its_own_the_clinic_does_not_get"

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
)  # fmt: skip
