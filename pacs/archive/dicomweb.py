"""The archive over DICOMweb: dicomweb-client to search and read, `StowClient` to store."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import requests
from dicomweb_client.web import DICOMwebClient

from pacs.archive import body, listing, retrieve
from pacs.archive.model import ArchivedStudy, DicomJson, ListedStudy, is_dataset, uid
from pacs.archive.protocol import ArchiveUnavailableError, Lister, Part
from pacs.archive.removal import RemovalClient, reason, rest_root
from pacs.archive.stow import StowClient, drop_if_interim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pacs.archive.model import StoreAnswer
    from pacs.ids import Uid
    from pacs.settings import ArchiveSettings

_OK = 200
_NOT_FOUND = 404
_PAGE = 1000
# Whatever else is said where Orthanc's REST root would be: it is something else.
_SAYS_NOTHING_AT_ALL = frozenset({"unreachable", "timeout"})
# Not every archive has a REST root beside DICOMweb, and not every user may read it.
_SAYS_NOTHING = frozenset({403, 404})
# PS3.18 table 10.6.3-3, and what study lists show besides. Not SpecificCharacterSet: Orthanc 1.10.1 tells
# it anyway, and answers 400 to whoever asks for it of a study with more than one (measured).
_STUDY_FIELDS = [
    "00080020",  # StudyDate
    "00080030",  # StudyTime
    "00080050",  # AccessionNumber
    "00080080",  # InstitutionName: the clinic
    "00080090",  # ReferringPhysicianName
    "00081030",  # StudyDescription
    "00100010",  # PatientName
    "00100020",  # PatientID
    "00100030",  # PatientBirthDate
    "00100040",  # PatientSex
    "00200010",  # StudyID
]
_SERIES_FIELDS = ["00080060", "0020000E", "00201209"]


class _Adapter(requests.adapters.HTTPAdapter):
    """Asks for DICOM JSON alone: of a second choice Orthanc logs a warning each time (measured, 1.12).

    An answer that is not streamed has come as a whole within the time-out, or not at all.
    """

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """For requests: what opens the connections."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = body.POOLS

    def add_headers(self, request: requests.PreparedRequest, **_kwargs: object) -> None:
        """For requests: called before each is sent."""
        if request.headers.get("Accept") == "application/dicom+json, application/json":
            request.headers["Accept"] = "application/dicom+json"

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """For requests: one request."""
        answer = super().send(request, *args, **kwargs)
        drop_if_interim(answer.raw)
        if not kwargs["stream"]:
            with body.all_within(kwargs["timeout"], answer.raw.shutdown):
                is_empty = not answer.content
            if is_empty and answer.status_code == _OK and request.method == "GET":
                # A head that was cut off reads like a whole one without a body (measured), and this like a
                # search that found nothing, which is a 204 or an empty list (PS3.18 section 10.6.3).
                raise requests.exceptions.ChunkedEncodingError
        return answer


class DicomWebArchive:
    """`pacs.archive.Archive` for any DICOMweb server; Orthanc's REST root is used where it is one."""

    def __init__(self, settings: ArchiveSettings, *, connections: int = 4) -> None:
        password = settings.archive_password.get_secret_value()
        self._session = requests.Session()
        self._session.max_redirects = 0
        self._session.trust_env = False
        if settings.archive_username:
            self._session.auth = (settings.archive_username, password)
        adapter = _Adapter(pool_maxsize=connections)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, adapter)
        self._timeout = settings.archive_timeout_seconds
        self._url = settings.archive_url
        self._client = DICOMwebClient(self._url, session=self._session, timeout=self._timeout)
        self._client.set_http_retry_params(retry=False)
        self._removal = RemovalClient(self._session, self._url, self._timeout)
        self._stow = StowClient(
            self._url,
            username=settings.archive_username,
            password=password,
            timeout=self._timeout,
            connections=connections,
        )

    def store(self, parts: Sequence[Part]) -> StoreAnswer:
        """See `pacs.archive.Archive`."""
        return self._stow.store(parts)

    def study(self, study_uid: Uid) -> ArchivedStudy | None:
        """See `pacs.archive.Archive`."""
        found = self._search(
            lambda: self._client.search_for_studies(
                search_filters={"StudyInstanceUID": study_uid}, fields=_STUDY_FIELDS
            ),
            # PS3.18 section 10.6.3.1 knows no 404 here: it is a proxy's, and the study may well be there.
            absent=frozenset(),
        )
        if not found:
            return None
        # An archive, or a proxy before it, that ignores the filter would answer with other studies.
        found = [each for each in found if uid(each, "0020000D") == study_uid]
        if not found:
            raise ArchiveUnavailableError("not-dicom-json")
        series = self._search(lambda: self._client.search_for_series(study_uid, fields=_SERIES_FIELDS))
        return ArchivedStudy(study_uid, found[0], tuple(series)) if series else None

    def is_empty(self) -> bool:
        """See `pacs.archive.Archive`."""
        return not self._uids(0, 1)

    def _uids(self, offset: int, limit: int) -> list[DicomJson]:
        return self._search(
            lambda: self._client.search_for_studies(fields=["0020000D"], limit=limit, offset=offset),
            absent=frozenset(),
        )

    def lister(self) -> Lister:
        """See `pacs.archive.Archive`."""
        try:
            is_orthanc = listing.is_orthancs(self._orthanc(listing.path(0, 1)))
        except ArchiveUnavailableError as error:
            if error.reason in _SAYS_NOTHING_AT_ALL:
                raise
            is_orthanc = False
        return self._orthanc_page if is_orthanc else self._page

    def _page(self, offset: int, limit: int) -> list[ListedStudy | None]:
        try:
            found = self._search(
                lambda: self._client.search_for_studies(fields=_STUDY_FIELDS, limit=limit, offset=offset),
                absent=frozenset(),
            )
        except ArchiveUnavailableError as error:
            if error.reason not in listing.ABOUT_ONE_STUDY:
                raise
            # One study spoils the page: of each no more than that it is there.
            found = [{"0020000D": each.get("0020000D", {})} for each in self._uids(offset, limit)]
        return [
            ListedStudy(study_uid, each) if (study_uid := uid(each, "0020000D")) else None for each in found
        ]

    def _orthanc_page(self, offset: int, limit: int) -> list[ListedStudy | None]:
        try:
            return self._orthanc_list(listing.path(offset, limit))
        except ArchiveUnavailableError as error:
            if error.reason not in listing.ABOUT_ONE_STUDY:
                raise
            return self._orthanc_list(listing.path(offset, limit, counted=False))

    def _orthanc_list(self, path: str) -> list[ListedStudy | None]:
        found = listing.parse(self._orthanc(path))
        if found is None:
            raise ArchiveUnavailableError("not-dicom-json")
        return found

    def has_instance(self, study_uid: Uid, sop_instance_uid: Uid) -> bool:
        """See `pacs.archive.Archive`."""
        found = self._search(
            lambda: self._client.search_for_instances(
                study_uid, search_filters={"SOPInstanceUID": sop_instance_uid}, limit=1
            )
        )
        return any(uid(each, "00080018") == sop_instance_uid for each in found)

    def first_instance_metadata(self, study_uid: Uid, series_uid: Uid) -> DicomJson | None:
        """See `pacs.archive.Archive`."""
        listed = self.instance_uids(study_uid, series_uid)
        if not listed:
            return None
        found = self._search(
            lambda: [self._client.retrieve_instance_metadata(study_uid, series_uid, listed[0])]
        )
        return found[0] if found else None

    @contextmanager
    def instance(
        self, study_uid: Uid, series_uid: Uid, sop_instance_uid: Uid
    ) -> Iterator[Iterator[bytes] | None]:
        """One instance as it was stored, in chunks while they come; None when the archive has none.

        Raises:
            ArchiveUnavailableError: it gave no answer, also while the chunks are read.
        """
        url = f"{self._url}/studies/{study_uid}/series/{series_uid}/instances/{sop_instance_uid}"
        headers = {"Accept": retrieve.ACCEPT, "Accept-Encoding": "identity"}
        try:
            with self._session.get(url, headers=headers, timeout=self._timeout, stream=True) as answer:
                if answer.status_code not in {_OK, _NOT_FOUND}:
                    raise ArchiveUnavailableError(f"status-{answer.status_code}")
                media_type = answer.headers.get("Content-Type", "")
                chunks = answer.iter_content(retrieve.CHUNK)
                yield retrieve.instance_in(media_type, chunks) if answer.status_code == _OK else None
        except requests.RequestException as error:
            raise ArchiveUnavailableError(reason(error)) from None

    def instance_uids(self, study_uid: Uid, series_uid: Uid) -> list[Uid]:
        """See `pacs.archive.Archive`."""
        found: set[Uid] = set()
        offset = 0
        while page := self._instances(study_uid, series_uid, offset):
            offset += len(page)
            new = {sop_uid for each in page if (sop_uid := uid(each, "00080018"))} - found
            if not new:
                # An archive that takes no offset would begin from the start for ever.
                break
            found |= new
        return sorted(found)

    def _instances(self, study_uid: Uid, series_uid: Uid, offset: int) -> list[DicomJson]:
        return self._search(
            lambda: self._client.search_for_instances(study_uid, series_uid, limit=_PAGE, offset=offset)
        )

    def delete(self, study_uid: Uid) -> None:
        """See `pacs.archive.Archive`."""
        self._removal.delete(study_uid)

    def overwrites(self) -> bool | None:
        """See `pacs.archive.Archive`; Orthanc tells it under /system beside its DICOMweb root."""
        system = self._orthanc("system")
        overwrites = system.get("OverwriteInstances") if isinstance(system, dict) else None
        return overwrites if isinstance(overwrites, bool) else None

    def _orthanc(self, path: str) -> Any:
        """What Orthanc's REST root answers; None where there is none, or none for this user."""
        try:
            answer = self._session.get(rest_root(self._url) + path, timeout=self._timeout)
            if answer.status_code in _SAYS_NOTHING:
                return None
            answer.raise_for_status()
            return answer.json()
        except requests.JSONDecodeError:
            return None
        except requests.RequestException as error:
            raise ArchiveUnavailableError(reason(error)) from None
        except (ValueError, RecursionError):
            # Numbers of thousands of digits, or lists in lists.
            raise ArchiveUnavailableError("not-dicom-json") from None

    def close(self) -> None:
        """Drop the connections."""
        self._session.close()
        self._stow.close()

    @staticmethod
    def _search(
        ask: Callable[[], list[Any]], absent: frozenset[int] = frozenset({_NOT_FOUND})
    ) -> list[DicomJson]:
        """What a search found; nothing, if its status is one of `absent`."""
        try:
            answer = ask()
        except requests.JSONDecodeError:
            raise ArchiveUnavailableError("not-dicom-json") from None
        except requests.HTTPError as error:
            if error.response is not None and error.response.status_code in absent:
                return []
            raise ArchiveUnavailableError(reason(error)) from None
        except requests.RequestException as error:
            raise ArchiveUnavailableError(reason(error)) from None
        except (ValueError, RecursionError):
            raise ArchiveUnavailableError("not-dicom-json") from None
        if not isinstance(answer, list) or not all(is_dataset(each) for each in answer):
            raise ArchiveUnavailableError("not-dicom-json")
        return [listing.plausible(each) for each in answer]
