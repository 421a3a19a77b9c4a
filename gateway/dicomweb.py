"""The way of a request under /dicom-web: who, what, whether, and only then the archive."""

from __future__ import annotations

import threading
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from werkzeug import Response

from gateway.access.caller import Callers, NoClinicError, RevokedError
from gateway.access.studies import OpenStudy, Studies
from gateway.archive.accel import HandOver, can_hand_over, hand_over
from gateway.archive.addresses import (
    INSTANCE_COUNT,
    INSTANCE_UID,
    SERIES_UID,
    rewrite_metadata,
    rewrite_result,
)
from gateway.archive.sizes import Sizes
from gateway.archive.streamed import check_type, streamed
from gateway.archive.upstream import RefusedByArchive
from gateway.media import DICOM_JSON, Representation, negotiate
from gateway.metrics import DENIED
from gateway.paths import Kind, Target, parse
from gateway.problems import BadGateway, Forbidden, NotAcceptable, NotFound, Problem, Unauthorized
from gateway.qido.answer import (
    SEARCH_RESULTS_MAX,
    WARNING_MORE,
    WARNING_UNSUPPORTED,
    search_response,
    studies_response,
)
from gateway.qido.relay import parse_study_search, study_of
from gateway.qido.search import search
from gateway.qido.studies import parse_study_query
from gateway.rendering import parse_rendering
from gateway.source import source_address
from pacs.archive.model import uid, values

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.archive.upstream import Upstream
    from gateway.audit.denied import Denials
    from gateway.audit.opened import OpenedStudies
    from gateway.audit.searched import Searches
    from gateway.clock import Clock
    from gateway.identity.claims import VerifiedClaims
    from gateway.identity.protector import Protector
    from gateway.settings import GatewaySettings
    from gateway.visit import Visit
    from pacs.archive.model import DicomJson
    from pacs.catalog import Catalog
    from pacs.ids import Uid

LISTINGS_AT_ONCE = 4
"""Long lists that one process puts together at a time: with two processes 256 MB of the container's 1 GB."""
_SEARCHES = frozenset({Kind.SERIES, Kind.INSTANCES})
_PICTURES = frozenset({Kind.RENDERED, Kind.THUMBNAIL})
_FILES = frozenset({Kind.FRAMES, Kind.RETRIEVE})
_NO_CLINIC = (
    "You are signed in, but your account belongs to no clinic here. Please ask your administrator "
    "to add you to your clinic."
)


class DicomWeb:
    """Answers requests; its collaborators come in by the constructor."""

    def __init__(
        self,
        *,
        settings: GatewaySettings,
        catalog: Catalog,
        protector: Protector,
        upstream: Upstream,
        opened: OpenedStudies,
        denials: Denials,
        searches: Searches,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._callers = Callers(catalog)
        self._studies = Studies(catalog)
        self._protector = protector
        self._upstream = upstream
        self._sizes = Sizes(self._search_archive)
        self._listings = threading.BoundedSemaphore(LISTINGS_AT_ONCE)
        self._opened = opened
        self._denials = denials
        self._searches = searches
        self._clock = clock
        self._root = f"{settings.public_url}/dicom-web"

    def answer(self, visit: Visit, tail: str) -> Response | HandOver:
        """Answer a GET of what lies at `tail` below /dicom-web/.

        Raises:
            gateway.problems.Problem: it is refused.
            pacs.catalog.CatalogUnavailableError: nothing can be said without the catalog.
        """
        claims = self._protector.claims(visit.request)
        visit.subject = claims.subject
        target = self._target(visit, tail)
        visit.route = target.kind
        representations = negotiate(target, visit.accept)
        if target.study is None:
            return self._search_studies(visit, claims)
        if target.kind in _SEARCHES:
            return self._search_in_study(visit, claims, target)
        query = parse_rendering(target, visit.arguments) if target.kind in _PICTURES else ""
        study = self._open(visit, claims, target)
        if target.kind in _PICTURES:
            target = self._pictured(target)
        through_nginx = bool(self._settings.accel_prefix) and not visit.was_refused
        *others, last = representations
        for each in others:
            with suppress(NotAcceptable):
                return self._bulk(target, study, each, query, through_nginx=through_nginx)
        return self._bulk(target, study, last, query, through_nginx=through_nginx)

    @staticmethod
    def _target(visit: Visit, tail: str) -> Target:
        target = parse(tail)
        if target.kind in _SEARCHES and target.study is None:
            return replace(target, study=study_of(visit.pairs))
        return target

    def _search_studies(self, visit: Visit, claims: VerifiedClaims) -> Response:
        query = parse_study_query(visit.pairs)
        most = self._settings.qido_max_results
        limit = most if query.limit is None else min(query.limit, most)
        today = self._clock.today()
        with _refusals():
            caller, shared = self._callers.admit(claims, today)
        found = search(self._catalog, caller, query, today, limit + 1, shared=shared)
        self._searches.record(caller, visit.pairs, self._source(visit))
        warnings = _warnings(query.unsupported)
        if len(found) > limit and limit != query.limit:
            warnings.append(WARNING_MORE)
        return studies_response(found[:limit], self._root, warnings)

    def _open(self, visit: Visit, claims: VerifiedClaims, target: Target) -> OpenStudy:
        """The target's study, when the caller may read it and it holds the target's series.

        Raises:
            NotFound: it is not the caller's, or does not exist: the same query, the same words.
        """
        source = self._source(visit)
        study_uid = _known(target.study)
        with _refusals():
            verdict = self._studies.look_up(claims, study_uid, target.series, self._clock.today())
        study = verdict.study
        if study is None:
            DENIED.labels("not-yours").inc()
            self._denials.record(verdict.caller, study_uid, verdict.owner, source)
            raise NotFound
        if study.owner is None and not any(self._search_archive(Target(Kind.SERIES, study_uid), "limit=1")):
            raise NotFound
        self._opened.record(verdict.caller, study, source)
        return study

    def _source(self, visit: Visit) -> str:
        return source_address(visit.peer, visit.header("X-Forwarded-For"), self._settings.trusted_proxies)

    def _search_in_study(self, visit: Visit, claims: VerifiedClaims, target: Target) -> Response:
        wanted = parse_study_search(visit.pairs, _known(target.study), target.series)
        self._open(visit, claims, target)
        # One more than is answered tells whether there are more. By limit=0 Orthanc means all (measured).
        limit = SEARCH_RESULTS_MAX + 1 if wanted.limit is None else min(wanted.limit, SEARCH_RESULTS_MAX + 1)
        query = f"{wanted.query}&limit={limit}".lstrip("&")
        with self._listings:
            found = islice(self._search_archive(target, query), limit)
            return search_response(found, _warnings(wanted.unsupported))

    def _search_archive(self, target: Target, query: str) -> Iterator[DicomJson]:
        """What the archive lists of a study's or series' own, one after another."""
        path = f"{target.resource()}/{'series' if target.kind is Kind.SERIES else 'instances'}"
        with closing(self._upstream.open(path, query, DICOM_JSON)) as stream:
            for each in stream.results():
                if result := rewrite_result(each, self._root, _known(target.study), target.series):
                    yield result

    def _metadata(self, target: Target) -> Response:
        stream = self._upstream.open(f"{target.resource()}/metadata", "", DICOM_JSON)
        check_type(stream, frozenset({DICOM_JSON, "application/json"}))
        response = Response(rewrite_metadata(stream.chunks(), self._root), content_type=DICOM_JSON)
        response.call_on_close(stream.close)
        return response

    def _bulk(
        self, target: Target, study: OpenStudy, form: Representation, query: str, *, through_nginx: bool
    ) -> Response | HandOver:
        """The resource in one form.

        Raises:
            NotAcceptable: the archive cannot make this form; it may have another.
        """
        self._sizes.check(target, study, form)
        path = _path(target)
        if through_nginx and can_hand_over(target.kind, study, form):
            return hand_over(self._settings.accel_prefix, study, form, path, query)
        if target.kind is Kind.METADATA:
            return self._metadata(target)
        try:
            stream = self._upstream.open(path, query, form.accept)
        except (RefusedByArchive, BadGateway) as error:
            raise self._reason(target, form, error) from None
        try:
            response = streamed(stream, form)
        except BaseException:
            stream.close()
            raise
        response.call_on_close(stream.close)
        return response

    def _reason(self, target: Target, form: Representation, error: Problem) -> Problem:
        """Why the archive gave no frames or files: there are none (404), or not in this form (406).

        Orthanc says 400 of frames beyond the last and of forms that it does not know, 500 of forms that it
        cannot make and of frames of what has no pixels (measured): so it is asked what there is.
        """
        if target.kind not in _FILES:
            return error
        if max(target.frames, default=0) > self._sizes.frames(target):
            return NotFound()
        return error if form.transfer_syntax == "*" else RefusedByArchive()

    def _pictured(self, target: Target) -> Target:
        """The target itself, or the middle one of its instances: it shows more than the first slice does."""
        if target.instance:
            return target
        listed = self._search_archive(Target(Kind.SERIES, target.study), f"includefield={INSTANCE_COUNT}")
        for series, count in [(uid(each, SERIES_UID), values(each, INSTANCE_COUNT)) for each in listed]:
            if series is None or target.series not in {None, series}:
                continue
            middle = int(count[0]) // 2 if count and str(count[0]).isdecimal() else 0
            within = Target(Kind.INSTANCES, target.study, series)
            found = next(self._search_archive(within, f"limit=1&offset={middle}"), None)
            instance = uid(found, INSTANCE_UID)
            if instance:
                return replace(within, kind=target.kind, instance=instance)
        raise NotFound


@contextmanager
def _refusals() -> Iterator[None]:
    """What callers are told whom the catalog does not admit."""
    try:
        yield
    except RevokedError:
        DENIED.labels("revoked").inc()
        challenge = 'Bearer realm="clinicpacs", error="invalid_token"'
        raise Unauthorized("The access token was revoked.", {"WWW-Authenticate": challenge}) from None
    except NoClinicError:
        DENIED.labels("no-clinic").inc()
        raise Forbidden(_NO_CLINIC) from None


def _known(study: Uid | None) -> Uid:
    if study is None:
        raise NotFound
    return study


def _path(target: Target) -> str:
    match target.kind:
        case Kind.METADATA:
            return f"{target.resource()}/metadata"
        case Kind.BULK:
            return f"{target.resource()}/bulk/{target.bulk}"
        case Kind.RENDERED | Kind.THUMBNAIL:
            # Orthanc 1.10 knows no thumbnails: a small picture of one instance is one.
            return f"{target.resource()}/rendered"
    return target.resource()


def _warnings(unsupported: tuple[str, ...]) -> list[str]:
    return [WARNING_UNSUPPORTED.format(", ".join(unsupported))] if unsupported else []
