"""The way of a request under /dicom-web: who, what, whether, and only then the archive."""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import replace
from itertools import islice
from textwrap import shorten
from typing import TYPE_CHECKING

from werkzeug import Response

from gateway.access.caller import NoClinicError, RevokedError, TokenCallers, nobody
from gateway.access.studies import OpenStudy, Studies
from gateway.archive.accel import HandOver, can_hand_over, hand_over
from gateway.archive.addresses import rewrite_metadata, rewrite_result
from gateway.archive.pictured import first, pictured
from gateway.archive.sizes import Sizes
from gateway.archive.streamed import check_type, streamed
from gateway.archive.upstream import RefusedByArchive
from gateway.audit.searched import ACTION as SEARCHED
from gateway.listings import Listings
from gateway.media import DICOM_JSON, Representation, negotiate
from gateway.metrics import DENIED
from gateway.paths import FILES, PICTURES, Kind, Target, parse
from gateway.problems import BadGateway, BadRequest, Forbidden, NotAcceptable, NotFound, Problem, Unauthorized
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

if TYPE_CHECKING:
    from collections.abc import Generator

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

_SEARCHES = frozenset({Kind.SERIES, Kind.INSTANCES})
_TOLD_MAX = 1000  # characters: nginx takes 16 kB of an answer's header
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
        self._callers = TokenCallers(catalog)
        self._studies = Studies(catalog)
        self._protector = protector
        self._upstream = upstream
        self._sizes = Sizes(self._search_archive)
        self._listings = Listings()
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
        self._upstream.serve(claims.subject)
        target = self._target(visit, tail)
        visit.route = target.kind
        representations = negotiate(target, visit.accept)
        if target.study is None:
            return self._search_studies(visit, claims)
        if target.kind in _SEARCHES:
            return self._search_in_study(visit, claims, target)
        query = parse_rendering(target, visit.arguments) if target.kind in PICTURES else ""
        study = self._open(visit, claims, target)
        if target.kind in PICTURES:
            target = pictured(self._search_archive, target)
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
        source = self._source(visit)
        try:
            caller, shared = self._callers.admit(claims, today)
        except (RevokedError, NoClinicError) as error:
            self._denials.record(nobody(claims), None, None, source, SEARCHED)
            raise _refusal(error) from None
        found = search(self._catalog, caller, query, today, limit + 1, shared=shared)
        self._searches.record(caller, visit.pairs, source)
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
        try:
            verdict = self._studies.look_up(claims, study_uid, target.series, self._clock.today())
        except (RevokedError, NoClinicError) as error:
            self._denials.record(nobody(claims), study_uid, None, source)
            raise _refusal(error) from None
        study = verdict.study
        if study is None:
            DENIED.labels("not-yours").inc()
            self._denials.record(verdict.caller, study_uid, verdict.owner, source)
            raise NotFound
        listed = Target(Kind.SERIES, study_uid)
        if study.owner is None and first(self._search_archive, listed, "limit=1") is None:
            raise NotFound
        self._opened.record(verdict.caller, study, source)
        return study

    def _source(self, visit: Visit) -> str:
        return source_address(visit.peer, visit.header("X-Forwarded-For"), self._settings.trusted_proxies)

    def _search_in_study(self, visit: Visit, claims: VerifiedClaims, target: Target) -> Response:
        wanted = parse_study_search(visit.pairs, _known(target.study), target.series, target.kind)
        self._open(visit, claims, target)
        # One more than is answered tells whether there are more. By limit=0 Orthanc means all (measured).
        limit = SEARCH_RESULTS_MAX + 1 if wanted.limit is None else min(wanted.limit, SEARCH_RESULTS_MAX + 1)
        query = f"{wanted.query}&limit={limit}".lstrip("&")
        with (
            self._upstream.place(),
            self._listings.turn(claims.subject),
            closing(self._search_archive(target, query)) as found,
        ):
            try:
                return search_response(islice(found, limit), _warnings(wanted.unsupported))
            except RefusedByArchive:
                raise BadRequest("The archive cannot search for this.") from None

    def _search_archive(self, target: Target, query: str) -> Generator[DicomJson]:
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
        """Why the archive gave no frames, files or pictures: there are none (404), or not in this form (406).

        Orthanc says 400 of frames beyond the last and of forms that it does not know, 500 of forms that it
        cannot make and of frames of what has no pixels (measured): so it is asked what there is.
        """
        if target.kind not in FILES and not target.frames:
            return error
        if max(target.frames, default=0) > self._sizes.frames(target):
            return NotFound()
        return error if target.kind in PICTURES or form.transfer_syntax == "*" else RefusedByArchive()


def _refusal(error: RevokedError | NoClinicError) -> Problem:
    """What a caller is told that the catalog does not admit."""
    if isinstance(error, RevokedError):
        DENIED.labels("revoked").inc()
        return Unauthorized("The access token was revoked.")
    DENIED.labels("no-clinic").inc()
    return Forbidden(_NO_CLINIC)


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
    told = shorten(", ".join(unsupported), _TOLD_MAX, placeholder=" ...")
    return [WARNING_UNSUPPORTED.format(told)] if told else []
