"""Requests that change what the archive has: what is kept of their studies ends with them.

nginx keeps frames, files and metadata under a study's revision, and the catalog makes the list. Who deletes
an image of the wrong patient must find it gone, for everybody, when the answer says so.
"""

from __future__ import annotations

import json
from contextlib import closing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from urllib3.exceptions import HTTPError
from werkzeug.datastructures import Headers

from gateway.explorer.archive import Question
from gateway.explorer.paths import ArchivePath
from gateway.problems import BadGateway, BadRequest, Problem, Unavailable
from pacs import logs
from pacs.catalog import worklist
from pacs.ids import InvalidUidError, Uid

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from gateway.clock import Clock
    from gateway.explorer.archive import AdministeredArchive, Answer
    from pacs.catalog import Catalog

LEVELS = frozenset({"patients", "studies", "series", "instances"})
HARMLESS = frozenset({"archive", "labels", "media", "protected"})
"""What is done with a resource and leaves its images as they are."""
BULK_DELETE = "bulk-delete"
_BULK_CONTENT = ArchivePath.parse("tools/bulk-content")
_LIST_MAX = 1 << 17
_BAD_LIST = 'The body must be {"Resources": [...]}, a list of the archive\'s own ids.'
_LONG_LIST = "The list is too long: delete at most 2,500 resources at a time."
_OK = 200

_log = logs.get(__name__)


class Changes:
    """Makes changes. Threads share one."""

    def __init__(self, archive: AdministeredArchive, catalog: Catalog, clock: Clock) -> None:
        self._archive = archive
        self._catalog = catalog
        self._clock = clock

    def make(self, question: Question) -> Answer:
        """Put a question that is not safe to the archive, and touch the studies that it concerns.

        Before, so that the importer refreshes them whatever becomes of us meanwhile; and after, because
        what others have asked for until then was kept, too.

        Raises:
            BadRequest: it cannot be said which studies it concerns; nothing was changed.
            BadGateway: the archive does not say which; nothing was changed. Or as `AdministeredArchive.ask`.
            Unavailable: the archive gave no answer.
            pacs.catalog.CatalogUnavailableError: nothing was changed; or it went away meanwhile, and the
                importer sees to what was touched before.
        """
        question, resources = _concerned(question)
        found = self._studies(resources)
        self._touch(found.values())
        try:
            answer = self._archive.ask(question)
        except BaseException:
            # The archive may have done it all the same.
            self._touch(found.values())
            raise
        try:
            self._touch(found.values(), self._gone(found))
        except BaseException:
            answer.close()
            raise
        return answer

    def _touch(self, studies: Iterable[Uid], gone: Collection[Uid] = ()) -> None:
        for study_uid in set(studies):
            # One row a transaction: the importer may hold another one and wait for this.
            with self._catalog.write() as connection:
                worklist.touch(connection, study_uid, self._clock.now(), gone=study_uid in gone)

    def _gone(self, before: dict[str, Uid]) -> set[Uid]:
        """What the archive has no more; nothing if it does not say, then the importer asks it."""
        with suppress(Problem):
            return set(before.values()) - set(self._studies(before).values())
        return set()

    def _studies(self, resources: Collection[str]) -> dict[str, Uid]:
        """The studies that these resources of any level belong to, or hold; by the archive's ids."""
        if not resources:
            return {}
        body = json.dumps({"Resources": list(resources), "Level": "Study", "Metadata": False}).encode()
        question = Question("POST", _BULK_CONTENT, "", Headers(), [body], len(body))
        with closing(self._archive.ask(question)) as answer:
            if answer.status != _OK:
                _log.warning("the archive does not tell a resource's study", status=answer.status)
                raise BadGateway
            try:
                listed = json.loads(b"".join(answer.chunks()))
                said = {each["ID"]: each["MainDicomTags"]["StudyInstanceUID"] for each in listed}
            except HTTPError:
                raise Unavailable("The archive broke off.") from None
            except (ValueError, TypeError, KeyError):
                raise BadGateway from None
        return _known(said)


def _known(said: dict[str, str]) -> dict[str, Uid]:
    """Without UIDs that are none: nobody owns such a study, and it may be deleted."""
    found = {}
    for resource, text in said.items():
        with suppress(InvalidUidError):
            found[resource] = Uid(text)
    return found


def _concerned(question: Question) -> tuple[Question, list[str]]:
    """The question as it is to be asked, and the archive's ids of what it may change.

    Whatever else could change an image is refused by the archive's filter (orthanc/filter.lua).
    """
    segments = question.path.segments
    if segments == ("tools", BULK_DELETE):
        resources = _listed(question.body or ())
        # Built anew: what the archive would read in another way than we did is not in it.
        body = json.dumps({"Resources": resources}).encode()
        return replace(question, body=[body], length=len(body)), resources
    if len(segments) > 1 and segments[0] in LEVELS and not HARMLESS.intersection(segments[2:3]):
        return question, [segments[1]]
    return question, []


def _listed(body: Iterable[bytes]) -> list[str]:
    content = b""
    for chunk in body:
        content += chunk
        if len(content) > _LIST_MAX:
            raise BadRequest(_LONG_LIST)
    try:
        resources = json.loads(content)["Resources"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise BadRequest(_BAD_LIST) from None
    if not isinstance(resources, list) or not all(isinstance(each, str) for each in resources):
        raise BadRequest(_BAD_LIST)
    return resources
