"""The way of a request under /dicom-web: who, what, whether, and only then the archive."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from werkzeug import Response

from gateway.access.caller import Callers, NoClinicError, RevokedError
from gateway.access.studies import OpenStudy, Studies
from gateway.archive.accel import HandOver, can_hand_over, hand_over
from gateway.archive.addresses import (
    INSTANCE_COUNT,
    INSTANCE_UID,
    SERIES_UID,
    rewrite_metadata,
    rewrite_search,
)
from gateway.archive.singlepart import boundary_of, single_part
from gateway.archive.sizes import Sizes
from gateway.archive.upstream import RefusedByArchive
from gateway.media import DICOM_JSON, MULTIPART, Representation, negotiate
from gateway.metrics import DENIED
from gateway.paths import Kind, Target, parse
from gateway.problems import BadGateway, Forbidden, NotFound, Unauthorized
from gateway.qido.answer import WARNING_MORE, WARNING_UNSUPPORTED, search_response, studies_response
from gateway.qido.relay import parse_study_search, study_of
from gateway.qido.search import search
from gateway.qido.studies import parse_study_query
from gateway.rendering import parse_rendering
from gateway.source import source_address
from pacs.archive.model import uid, values

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.archive.upstream import ArchiveStream, Upstream
    from gateway.audit.denied import Denials
    from gateway.audit.opened import OpenedStudies
    from gateway.audit.searched import Searches
    from gateway.clock import Clock
    from gateway.identity.claims import VerifiedClaims
    from gateway.identity.protector import Protector
    from gateway.settings import GatewaySettings
    from gateway.visit import Visit
    from pacs.catalog import Catalog
    from pacs.ids import Uid

SEARCH_LIMIT_BYTES = 64 << 20
_SEARCHES = frozenset({Kind.SERIES, Kind.INSTANCES})
_PICTURES = frozenset({Kind.RENDERED, Kind.THUMBNAIL})
# Viewers fetch these. A browser that is led here shows no stranger's document as a page of ours.
_TO_BE_SAVED = {"Content-Disposition": "attachment"}
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
        representation = negotiate(target, visit.accept)
        if target.study is None:
            return self._search_studies(visit, claims)
        if target.kind in _SEARCHES:
            return self._search_in_study(visit, claims, target)
        query = parse_rendering(target, visit.arguments) if target.kind in _PICTURES else ""
        study = self._open(visit, claims, target)
        if target.kind is Kind.METADATA and not self._hands_over(target, study, representation):
            return self._metadata(target)
        return self._bulk(target, study, representation, query)

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
        if study.owner is None and not self._search_archive(Target(Kind.SERIES, study_uid), "limit=1"):
            raise NotFound
        self._opened.record(verdict.caller, study, source)
        return study

    def _source(self, visit: Visit) -> str:
        return source_address(visit.peer, visit.header("X-Forwarded-For"), self._settings.trusted_proxies)

    def _search_in_study(self, visit: Visit, claims: VerifiedClaims, target: Target) -> Response:
        wanted = parse_study_search(visit.pairs, _known(target.study), target.series)
        self._open(visit, claims, target)
        results = self._search_archive(target, wanted.query)
        return search_response(results, _warnings(wanted.unsupported))

    def _search_archive(self, target: Target, query: str) -> list[dict[str, Any]]:
        """What the archive lists of a study's or series' own."""
        path = f"{target.resource()}/{'series' if target.kind is Kind.SERIES else 'instances'}"
        stream = self._upstream.open(path, query, DICOM_JSON)
        try:
            body = stream.read(SEARCH_LIMIT_BYTES)
        finally:
            stream.close()
        return rewrite_search(body, self._root, _known(target.study), target.series)

    def _metadata(self, target: Target) -> Response:
        stream = self._upstream.open(f"{target.resource()}/metadata", "", DICOM_JSON)
        _check_type(stream, frozenset({DICOM_JSON, "application/json"}))
        response = Response(rewrite_metadata(stream.chunks(), self._root), content_type=DICOM_JSON)
        response.call_on_close(stream.close)
        return response

    def _hands_over(self, target: Target, study: OpenStudy, representation: Representation) -> bool:
        return bool(self._settings.accel_prefix) and can_hand_over(target.kind, study, representation)

    def _bulk(
        self, target: Target, study: OpenStudy, representation: Representation, query: str
    ) -> Response | HandOver:
        target = self._pictured(target) if target.kind in _PICTURES else target
        self._sizes.check(target, study, representation)
        path = _path(target)
        if self._hands_over(target, study, representation):
            return hand_over(self._settings.accel_prefix, study, representation, path, query)
        try:
            stream = self._upstream.open(path, query, representation.accept)
        except RefusedByArchive:
            if target.kind is Kind.FRAMES:
                raise NotFound from None
            raise
        try:
            response = _streamed(stream, representation)
        except BaseException:
            stream.close()
            raise
        response.call_on_close(stream.close)
        return response

    def _pictured(self, target: Target) -> Target:
        """The target itself, or the middle one of its instances: it shows more than the first slice does."""
        if target.instance:
            return target
        listed = self._search_archive(Target(Kind.SERIES, target.study), f"includefield={INSTANCE_COUNT}")
        for each in listed:
            series = uid(each, SERIES_UID)
            if series is None or target.series not in {None, series}:
                continue
            count = values(each, INSTANCE_COUNT)
            middle = int(count[0]) // 2 if count and str(count[0]).isdecimal() else 0
            within = Target(Kind.INSTANCES, target.study, series)
            found = self._search_archive(within, f"limit=1&offset={middle}")
            instance = uid(found[0], INSTANCE_UID) if found else None
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


def _check_type(stream: ArchiveStream, expected: frozenset[str]) -> None:
    if stream.header("Content-Type").partition(";")[0].strip().lower() not in expected:
        stream.close()
        raise BadGateway


def _streamed(stream: ArchiveStream, representation: Representation) -> Response:
    """The archive's answer on its way through; nothing of its headers but type and length."""
    content_type = stream.header("Content-Type")
    if not representation.multipart:
        _check_type(stream, frozenset({representation.media_type}))
        return _body(stream, representation.media_type)
    boundary = boundary_of(content_type)
    if representation.unwrap_as:
        content = single_part(stream.chunks(), boundary)
        return Response(content, content_type=representation.unwrap_as, headers=_TO_BE_SAVED)
    part_type = content_type.partition('type="')[2].partition('"')[0].partition(";")[0]
    shown = part_type if _is_plain(part_type) else representation.media_type
    return _body(stream, f'{MULTIPART}; type="{shown}"; boundary={boundary.decode("ascii")}')


def _is_plain(media_type: str) -> bool:
    kind, _, rest = media_type.partition("/")
    return kind in {"application", "image", "video"} and rest.replace("-", "").replace("+", "").isalnum()


def _body(stream: ArchiveStream, content_type: str) -> Response:
    response = Response(stream.chunks(), content_type=content_type)
    length = stream.header("Content-Length")
    if length.isdecimal():
        response.headers["Content-Length"] = length
    return response


def _warnings(unsupported: tuple[str, ...]) -> list[str]:
    return [WARNING_UNSUPPORTED.format(", ".join(unsupported))] if unsupported else []
