# ruff: noqa: E501 - the program's text as it stands there
"""Checks of who is asking, and of what the catalog says that they may see."""

from __future__ import annotations

from tests.mutations.model import Mutation, mutation

_CLAIMS, _TOKENS, _JWKS = (f"gateway/identity/{name}.py" for name in ("claims", "tokens", "jwks"))
_CALLER, _STUDIES = "gateway/access/caller.py", "gateway/access/studies.py"
_SHARING = "pacs/catalog/sharing.py"
_SESSIONS, _TURNS = "gateway/explorer/sessions.py", "gateway/explorer/turns.py"
_SIGN_IN = "gateway/explorer/sign_in.py"
_SIGNED_OUT = (
    "tests/gateway/test_explorer_sign_in.py::test_signing_out_ends_the_session_here_and_at_the_issuer"
)
_TOKEN_TESTS = "tests/gateway/test_tokens.py"
_KEY_TESTS = "tests/gateway/test_jwks.py"
_SILENT = "tests/gateway/test_silent_issuer.py"
_SESSION_TESTS = "tests/gateway/test_explorer_sessions.py"
_ISOLATION = "tests/gateway/test_isolation.py"
_NOT_MINE = f"{_ISOLATION}::test_what_is_not_mine_does_not_exist"
_HANDED = "tests/gateway/test_accel.py::test_what_is_not_yours_is_not_handed_over"
_SHARE = f"{_ISOLATION}::test_a_share_opens_that_study_and_nothing_else_until_its_last_day"
_UNCONFIRMED = f"{_ISOLATION}::test_a_study_that_is_not_confirmed_exists_for_nobody"

IDENTITY = (
    mutation("whose issuer's a token is", _CLAIMS, 'iss={"essential": True, "value": self.issuer}',
             'iss={"essential": True}', _TOKEN_TESTS),
    mutation("for whom a token is meant", _CLAIMS, 'aud={"essential": True, "value": self.audience}',
             'aud={"essential": True}', _TOKEN_TESTS),
    mutation("that a token has an end", _CLAIMS, '            exp={"essential": True},\n', "", _TOKEN_TESTS),
    mutation("that a token says when it was issued", _CLAIMS, '            iat={"essential": True},\n', "", _TOKEN_TESTS),
    mutation("that a token says whose it is", _CLAIMS, '            sub={"essential": True},\n', "", _TOKEN_TESTS),
    mutation("that a token has not expired", _CLAIMS, "now=int(now)", "now=int(now) - 86400", _TOKEN_TESTS),
    mutation("times to half a minute", _CLAIMS, "leeway=LEEWAY_SECONDS", "leeway=600", _TOKEN_TESTS),
    mutation("that a token is an access token", _CLAIMS, 'if claims.get("typ") != "Bearer":', "if False:", _TOKEN_TESTS),
    mutation("to which client a token was issued", _CLAIMS,
             "if not isinstance(azp, str) or azp not in self.clients:", "if False:", _TOKEN_TESTS),
    mutation("that a group is exactly a clinic's", _CLAIMS, "_GROUP.fullmatch(group)", "_GROUP.match(group)", _TOKEN_TESTS),
    mutation("where in its text a group's name begins", _CLAIMS, "_GROUP.fullmatch(group)", "_GROUP.search(group)", _TOKEN_TESTS),
    mutation("that a role is one of the realm's", _CLAIMS, '_roles(claims.get("realm_access"))',
             '_roles(claims.get("realm_access")) + _texts(claims.get("roles"))', _TOKEN_TESTS),
    mutation("which roles see all", _CLAIMS, 'frozenset({ADMIN_ROLE, "radiologist"})',
             'frozenset({ADMIN_ROLE, "radiologist", "offline_access"})', _TOKEN_TESTS, _NOT_MINE),
    mutation("that a role is needed to see all", _CLAIMS, "not CROSS_CLINIC_ROLES.isdisjoint(roles)", "True", _NOT_MINE),
    mutation("that a role is needed to administer", _CLAIMS, "administers=ADMIN_ROLE in roles", "administers=True",
             "tests/gateway/test_explorer.py::test_only_administrators_come_in"),
    mutation("that a subject is plain text", _CLAIMS, "if not text or text != value or len(text) > _SUBJECT_MAX:",
             "if not text:", _TOKEN_TESTS),
    mutation("that a key is for signatures", _JWKS, ' and jwk.get("use", "sig") == "sig"', "", _TOKEN_TESTS),
    mutation("that a key is for our algorithm", _JWKS, ' and jwk.get("alg", "RS256") == "RS256"', "", _TOKEN_TESTS),
    mutation("how long a key is", _JWKS, "return key if size >= _MIN_KEY_BITS else None", "return key if size else None", _TOKEN_TESTS),
    mutation("that keys are not older than an hour", _JWKS, "snapshot.fetched_at < OUTAGE_SECONDS", "snapshot.fetched_at < 10**9", _KEY_TESTS),
    mutation("that keys are fetched again", _JWKS, "snapshot.fetched_at >= REFRESH_SECONDS", "snapshot.fetched_at >= 10**9", _KEY_TESTS),
    mutation("how often an unknown key is looked for", _JWKS, "ATTEMPT_SECONDS = 30\n", "ATTEMPT_SECONDS = 0\n", _KEY_TESTS),
    mutation("whose the discovery document is", _JWKS, ' or found.get("issuer") != self._issuer', "", _KEY_TESTS),
    mutation("how many wait for an unknown key", _JWKS, "_WAITING_MAX = 2\n", "_WAITING_MAX = 99\n", _KEY_TESTS),
    mutation("how long a key set takes", _JWKS, "if time.monotonic() > until:", "if False:", _KEY_TESTS),
    mutation("how long a key set may be", _JWKS, "if len(body) > _DOCUMENT_LIMIT:", "if False:", _KEY_TESTS),
    Mutation("that the issuer's redirects are not followed", _JWKS, (
        (", retries=False", ""), (", redirect=False", "")), (f"{_KEY_TESTS}::test_redirects_of_the_issuer_are_not_followed",)),
    mutation("where the discovery document leads a browser", _JWKS, ' and url.startswith(("http://", "https://"))', "", _KEY_TESTS),
    mutation("which of two keys of one id counts", _JWKS, 'keys.setdefault(each["kid"], key)', 'keys[each["kid"]] = key', _KEY_TESTS),
    mutation("how many keys are looked at", _JWKS, "listed[:_KEYS_MAX]", "listed", _KEY_TESTS),
    mutation("how many tokens are remembered", _TOKENS, "while len(self._known) > _CACHE_MAX:", "while False:",
             f"{_TOKEN_TESTS}::test_so_many_tokens_are_remembered_and_the_oldest_forgotten"),
    mutation("how long a token may be", _TOKENS, "if len(token) > TOKEN_MAX:", "if False:", _TOKEN_TESTS),
    mutation("what a token's header asks for", _TOKENS, " or not _HEADERS.issuperset(unverified_header)", "", _TOKEN_TESTS),
    Mutation("the algorithm", _TOKENS, (
        ('if unverified_header.get("alg") != ALGORITHM:', "if False:"),
        ("algorithms=[ALGORITHM]", 'algorithms=["RS256", "RS384", "RS512", "PS256", "HS256"]')), (_TOKEN_TESTS,)),
    mutation("the signature", _TOKENS, "return jwt.decode(token, key, algorithms=[ALGORITHM]).claims",
             'return dict(__import__("json").loads(jws.extract_compact(token.encode("ascii")).payload))', _TOKEN_TESTS),
    mutation("the signature of a token that was seen before", _TOKENS, 'token.encode("utf-8", "surrogateescape")',
             'token.rpartition(".")[0].encode("utf-8", "surrogateescape")', _TOKEN_TESTS),
    mutation("that the key of a token seen before is still there", _TOKENS,
             "return known.claims if self._jwks.key(known.kid) is known.key else None", "return known.claims", _KEY_TESTS),
    mutation("that a token seen before has not expired", _TOKENS,
             "if known is None or self._clock.now().timestamp() >= known.until:", "if known is None:", _TOKEN_TESTS),
    mutation("that a token is not remembered past its end", _TOKENS, "min(now + CACHE_SECONDS, claims.expires_at)",
             "now + CACHE_SECONDS", _TOKEN_TESTS),
    mutation("that the issuer is asked again about a browser's session", _SESSIONS,
             "values[_RENEW_AT] <= self._clock.now().timestamp()", "values[_RENEW_AT] <= 0", _SESSION_TESTS),
    mutation("that the issuer renews a browser's session", _SESSIONS, "values = self._renewed(values[_REFRESH])",
             "values |= self._turns.once(values[_REFRESH], partial(self._renew, values[_REFRESH]))",
             f"{_SESSION_TESTS}::test_an_issuer_that_is_away_opens_no_door_and_signs_nobody_out"),
    mutation("that a browser forgets a session that is over", _SESSIONS,
             "            after_this_request(lambda response: _after(response, self._cookie.delete))\n", "", _SESSION_TESTS),
    mutation("that an issuer that is away is not asked by everyone", _SESSIONS, "_AGAIN_SECONDS = 5\n", "_AGAIN_SECONDS = 0\n", _SESSION_TESTS),
    mutation("that a sign-in is asked about once", _SIGN_IN, "if not self._spent.add(pending.state):", "if False:", _SILENT),
    mutation("how many threads wait for the issuer", "gateway/explorer/provider.py", "_WAITING_MAX = 4\n", "_WAITING_MAX = 99\n", _SILENT),
    mutation("that signing out ends the session at the issuer", _SIGN_IN, "self._provider.end_session(session.refresh_token)", "pass", _SIGNED_OUT),
    mutation("that who signs out is on record", _SIGN_IN, "            self._record_end(session.token, response.status_code)\n", "", _SIGNED_OUT),
    mutation("that one request renews a session", _TURNS, "            _lock(file)\n", "", _SESSION_TESTS),
    mutation("that a session was renewed by another process", _TURNS, "if said is not None:", "if False:", _SESSION_TESTS),
    mutation("who else may read what processes share", _TURNS, " or found.st_mode & 0o077", "", _SESSION_TESTS),
    mutation("whose folder it is that processes share", _TURNS, "found.st_uid != os.getuid() or ", "", _SESSION_TESTS),
    mutation("what a sealed text was made for", "gateway/explorer/cookies.py", "info=name.encode()", 'info=b""', _SESSION_TESTS),
)  # fmt: skip

ACCESS = (
    mutation("that a clinic is served", _CALLER,
             "clinics.c.id.in_(named) if named else false(), clinics.c.active == true()",
             "clinics.c.id.in_(named) if named else false()", _TOKEN_TESTS),
    mutation("to which clinics one belongs", _CALLER, "clinics.c.id.in_(named) if named else false(), ", "", _NOT_MINE),
    mutation("that one belongs to a clinic at all", _CALLER, "if not active and not claims.sees_all:", "if False:", _TOKEN_TESTS),
    mutation("that a token was not revoked", _CALLER, "    _check_revoked(claims, row.revoked_before)\n", "", _TOKEN_TESTS),
    mutation("when a token was issued that is revoked", _CALLER, "claims.issued_at < issued_before.timestamp()",
             "claims.issued_at + 3600 < issued_before.timestamp()", _TOKEN_TESTS),
    mutation("that a revocation is the caller's", _CALLER,
             'revocations.c.subject == bindparam("subject", type_=String)\n',
             'revocations.c.subject != bindparam("subject", type_=String)\n', _TOKEN_TESTS),
    mutation("that a study without an owner is for those who see all", _STUDIES,
             "return OpenStudy(study_uid, None, 0, settled=False) if caller.sees_all else None",
             "return OpenStudy(study_uid, None, 0, settled=False)", _NOT_MINE),
    mutation("that a study is confirmed", _STUDIES, 'visible = row.state == "confirmed" and row.listed', "visible = row.listed", _UNCONFIRMED),
    mutation("that a study has a row from the archive", _STUDIES, 'visible = row.state == "confirmed" and row.listed',
             'visible = row.state == "confirmed"', _UNCONFIRMED),
    mutation("whose a study is", _STUDIES, "if visible and (caller.sees_all or owner in caller.clinics or row.shared):",
             "if visible:", _NOT_MINE),
    mutation("that a clinic's own are the caller's clinics", _STUDIES, "owner in caller.clinics", "caller.clinics", _NOT_MINE),
    mutation("which study is shared", _STUDIES, "        study_access.c.study_uid == study_uid,\n", "", _SHARE),
    mutation("with whom a study is shared", _SHARING, "study_access.c.clinic_id.in_(clinics), ", "", _SHARE),
    mutation("until when a study is shared", _SHARING, ", study_access.c.until >= today", "", _SHARE),
    mutation("that a series is one of the study", _STUDIES, "if study and series_uid and not _holds(study, row.series_of):", "if False:", _HANDED),
    mutation("that the importer brought a series in", _STUDIES,
             "return study.owner is None if series_of is None else series_of == study.study_uid",
             "return series_of is None or series_of == study.study_uid",
             f"{_ISOLATION}::test_a_series_that_the_importer_did_not_bring_is_not_shown"),
    mutation("that an owned series is not reached by a stray study", _STUDIES,
             "return study.owner is None if series_of is None else series_of == study.study_uid",
             "return study.owner is None or series_of == study.study_uid",
             f"{_ISOLATION}::test_a_radiologist_cannot_mix_an_unowned_study_with_an_owned_series"),
)  # fmt: skip
