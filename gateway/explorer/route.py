"""The way of a request below /orthanc: who, whether, on record, and only then the archive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Response, g, request
from werkzeug.exceptions import ClientDisconnected

from gateway.explorer.archive import METHODS, WITH_BODY, AdministeredArchive, Question
from gateway.explorer.callers import SAFE_METHODS, Callers
from gateway.explorer.changes import Changes
from gateway.explorer.cookies import Seal, session_cookie, sign_in_cookie
from gateway.explorer.pages import is_navigation, problem_page
from gateway.explorer.paths import ROOT, ArchivePath, parse_query
from gateway.explorer.provider import Provider
from gateway.explorer.sessions import Sessions
from gateway.explorer.sign_in import SignIn
from gateway.explorer.trail import Trail
from gateway.explorer.turns import Turns
from gateway.identity.claims import ClaimsPolicy
from gateway.identity.protector import Protector
from gateway.identity.tokens import TokenVerifier
from gateway.paths import check_raw_uri
from gateway.problems import MethodNotAllowed, Problem, Unauthorized

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gateway.audit.denied import Denials
    from gateway.clock import Clock
    from gateway.explorer.archive import Answer
    from gateway.explorer.callers import Bearer
    from gateway.identity.claims import VerifiedClaims
    from gateway.identity.jwks import JwksCache, JwksFetcher
    from gateway.settings import GatewaySettings
    from pacs.catalog import Catalog

_CHUNK = 1 << 16
# The one inline handler of Explorer's page, on its button for uploads (1.10.1 to 1.12.7):
# $('#fileupload').click()
_UPLOAD_BUTTON = "'sha256-Sii8hGRfSHoJ5vCqzknXRD7Kn5fF/c8F8MpnZ8aUqFc='"
_SANDBOX = {"Content-Security-Policy": "default-src 'none'; frame-ancestors 'self'; sandbox"}
_PDF = "application/pdf"


class Explorer:
    """Answers requests; see the package's docstring."""

    def __init__(
        self,
        *,
        archive: AdministeredArchive,
        changes: Changes,
        callers: Callers,
        trail: Trail,
        sign_in: SignIn | None,
        public_url: str,
    ) -> None:
        self._archive = archive
        self._changes = changes
        self._callers = callers
        self._trail = trail
        self._sign_in = sign_in
        self._page_headers = {
            "Content-Security-Policy": _explorer_policy(f"{public_url}{ROOT}"),
            # With no-referrer, browsers send `Origin: null` with a page's own forms.
            "Referrer-Policy": "same-origin",
        }

    def answer(self, tail: str) -> Response:
        """Answer what is asked of `tail` below /orthanc/.

        Raises:
            gateway.problems.Problem: it is refused; for a page that a person opens, the answer says so.
            pacs.catalog.CatalogUnavailableError: it cannot be put on record.
        """
        g.route = "orthanc"
        g.headers = {"Cross-Origin-Resource-Policy": "same-origin"}
        try:
            return self._own_page(tail) or self._administer(tail)
        except Problem as problem:
            if not is_navigation():
                raise
            return problem_page(problem, can_sign_in=self._sign_in is not None)

    def _own_page(self, tail: str) -> Response | None:
        if self._sign_in is None:
            return None
        pages: dict[str, Callable[[], Response]] = {
            "callback": self._sign_in.finish,
            "sign-out": self._sign_in.sign_out,
        }
        if tail not in pages:
            return None
        if request.method != "GET":
            raise MethodNotAllowed("GET")
        return pages[tail]()

    def _administer(self, tail: str) -> Response:
        try:
            bearer = self._callers.bearer()
        except Unauthorized:
            self._trail.count_stranger()
            if self._sign_in is None or not is_navigation():
                raise
            return self._sign_in.begin(_onward(tail))
        g.subject = bearer.claims.subject
        try:
            question = self._allowed(bearer, tail)
        except Problem as problem:
            if bearer.claims.administers and problem.status != Unauthorized.status:
                self._trail.write(bearer.claims, tail, problem.status, allowed=False)
            else:
                self._trail.refuse(bearer.claims, tail, problem.status)
            if (
                self._sign_in
                and bearer.by_cookie
                and problem.status == Unauthorized.status
                and is_navigation()
            ):
                return self._sign_in.begin(_onward(tail))
            raise
        if question.method in SAFE_METHODS:
            return self._read(bearer.claims, tail, question)
        self._trail.write(bearer.claims, tail)
        return self._streamed(self._changes.make(question), question)

    def _allowed(self, bearer: Bearer, tail: str) -> Question:
        self._callers.refuse_all_but_administrators(bearer.claims)
        self._callers.refuse_other_sites(bearer)
        if request.method not in METHODS:
            raise MethodNotAllowed(", ".join(METHODS))
        path, query = _address(tail)
        if request.method not in WITH_BODY:
            return Question(request.method, path, query, request.headers)
        length = request.content_length
        return Question(
            request.method, path, query, request.headers, _body(length) if length != 0 else None, length
        )

    def _read(self, claims: VerifiedClaims, tail: str, question: Question) -> Response:
        """Nothing changes by it: it goes on record with its status, before the first byte goes out."""
        try:
            answer = self._archive.ask(question)
        except Problem as problem:
            self._trail.write(claims, tail, problem.status)
            raise
        try:
            self._trail.write(claims, tail, answer.status)
        except BaseException:
            answer.close()
            raise
        return self._streamed(answer, question)

    def _streamed(self, answer: Answer, question: Question) -> Response:
        g.headers |= self._page_headers if question.path.is_explorers_own else _SANDBOX
        response = Response(answer.chunks(), answer.status)
        response.headers.clear()
        response.headers.extend(answer.headers)
        if answer.headers.get("Content-Type", "").partition(";")[0].strip().lower() == _PDF:
            # A sandboxed PDF is shown by no browser, and one that is not would be a stranger's page here.
            response.headers.setdefault("Content-Disposition", "attachment")
        response.call_on_close(answer.close)
        return response


def create_explorer(
    settings: GatewaySettings,
    *,
    catalog: Catalog,
    documents: JwksFetcher,
    jwks: JwksCache,
    denials: Denials,
    archive: AdministeredArchive,
    clock: Clock,
) -> Explorer:
    """Put the route together, by the settings."""
    secret = settings.explorer_client_secret
    clients = settings.oidc_clients | settings.explorer_clients | {settings.explorer_client_id}
    verifier = TokenVerifier(ClaimsPolicy(settings.oidc_issuer, settings.oidc_audience, clients), jwks, clock)
    provider = Provider(settings, documents, jwks, clock)
    sessions = None
    if secret.get_secret_value():
        turns = Turns(Seal("renewed sessions", secret), clock)
        sessions = Sessions(cookie=session_cookie(secret), provider=provider, turns=turns, clock=clock)
    callers = Callers(
        protector=Protector(verifier),
        verifier=verifier,
        sessions=sessions,
        catalog=catalog,
        clock=clock,
        public_url=settings.public_url,
    )
    trail = Trail(catalog, denials, clock, settings.trusted_proxies)
    sign_in = None
    if sessions:
        sign_in = SignIn(
            provider=provider,
            callers=callers,
            trail=trail,
            sessions=sessions,
            pending=sign_in_cookie(secret),
            clock=clock,
        )
    return Explorer(
        archive=archive,
        changes=Changes(archive, catalog, clock),
        callers=callers,
        trail=trail,
        sign_in=sign_in,
        public_url=settings.public_url,
    )


def _address(tail: str) -> tuple[ArchivePath, str]:
    check_raw_uri(request.environ)
    return ArchivePath.parse(tail), parse_query(request.environ.get("QUERY_STRING", ""))


def _onward(tail: str) -> str:
    path, query = _address(tail)
    return f"{ROOT}{path}{f'?{query}' if query else ''}"


def _body(length: int | None) -> Iterator[bytes]:
    """What the client sends, as it comes.

    Raises:
        ClientDisconnected: it broke off; else we would wait for the archive, and the archive for the rest.
    """
    left = length
    while chunk := request.stream.read(_CHUNK):
        left = None if left is None else left - len(chunk)
        yield chunk
    if left:
        raise ClientDisconnected


def _explorer_policy(root: str) -> str:
    """What Explorer's pages may do: run its own scripts, and ask below /orthanc.

    Without 'unsafe-inline' a patient's name that is markup runs nothing, and nothing leads to /dicom-web.
    """
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {root}/app/ {root}/plugins/ {root}/ui/app/ 'unsafe-hashes' {_UPLOAD_BUTTON}",
            f"style-src {root}/app/ {root}/ui/app/ 'unsafe-inline'",
            f"img-src {root}/ data:",
            f"font-src {root}/",
            f"connect-src {root}/",
            f"frame-src {root}/",
            f"form-action {root}/",
            f"base-uri {root}/app/",  # jQuery Mobile sets one
            "frame-ancestors 'self'",
        )
    )
