# ruff: noqa: E501 - the program's text as it stands there
"""Checks of what is asked, of what is searched, and of what the archive answers."""

from __future__ import annotations

from tests.mutations.model import Mutation, mutation

_ISOLATION = "tests/gateway/test_isolation.py"
_PARSED = "tests/gateway/test_paths.py"
_SMUGGLED = f"{_ISOLATION}::test_a_smuggled_path_gets_nothing"
_NOT_MINE = f"{_ISOLATION}::test_what_is_not_mine_does_not_exist"
_SHARE = f"{_ISOLATION}::test_a_share_opens_that_study_and_nothing_else_until_its_last_day"
_SEARCHES = f"{_ISOLATION}::test_no_search_finds_what_is_not_mine"
_UNCONFIRMED = f"{_ISOLATION}::test_a_study_that_is_not_confirmed_exists_for_nobody"
_ADDRESSES = "tests/gateway/test_addresses.py"
_RETRIEVE = "tests/gateway/test_retrieve.py"
_RELAYED = f"{_RETRIEVE}::test_searches_within_a_study_are_passed_on_and_checked"
_AUDIT = "tests/gateway/test_audit.py"
_SIZES = "tests/gateway/test_sizes.py"
_LISTINGS = "tests/gateway/test_listings.py"
_PLACES = "tests/gateway/test_places.py"
_ACCEL = "tests/gateway/test_accel.py"
_FAULTS = "tests/gateway/test_faults.py"
_PATHS, _SEARCH, _RELAY = "gateway/paths.py", "gateway/qido/search.py", "gateway/qido/relay.py"
_OURS, _WEB = "gateway/archive/addresses.py", "gateway/dicomweb.py"
_LISTED, _STREAMED = "gateway/archive/results.py", "gateway/archive/streamed.py"
_LONG = f"{_FAULTS}::test_a_long_list_ends_at_a_bound_and_says_so"
_OPENED, _HANDED = "gateway/audit/opened.py", "gateway/archive/accel.py"

ASKED = (
    mutation("that a path holds nothing encoded", _PATHS, ' or _ENCODED.search(raw.partition("?")[0]):', ":", _PARSED),
    mutation("that an address has no fragment", _PATHS, 'if "#" in raw or ', "if ", _PARSED),
    mutation("that an address begins with one slash", _PATHS, 'raw.startswith("//") or ', "", _PARSED),
    mutation("that a UID in a path is one", _PATHS, "        return Uid(text)\n", "        return str.__new__(Uid, text)\n", _PARSED),
    mutation("a UID to its end", "pacs/ids.py", "not _UID.fullmatch(text)", "not _UID.match(text)", _PARSED),
    mutation("that frames are numbers", _PATHS, "not all(_FRAME.fullmatch(part) for part in parts)",
             "not all(_FRAME.match(part) for part in parts)", _PARSED),
    mutation("that a frame is asked for once", _PATHS, "if len(set(numbers)) < len(numbers):", "if False:", _PARSED),
    mutation("how many frames are asked for", _PATHS, "if len(parts) > FRAMES_MAX or not", "if not", _PARSED),
    mutation("that one frame at a time is rendered", _PATHS, "if len(frames) > 1:", "if False:", _PARSED),
    mutation("that a bulk value is named by tags", _PATHS, "if not _BULK.fullmatch(path):", "if not _BULK.match(path):", _PARSED),
    mutation("how long an address is", _PATHS, "if length > MAX_URI:", "if False:", _FAULTS),
    mutation("that a form is offered", "gateway/media.py", "if part_type in offered and _is_syntax(syntax) and", "if _is_syntax(syntax) and",
             f"{_RETRIEVE}::test_what_is_not_offered_is_406_and_says_what_is"),
    mutation("that a transfer syntax is a UID", "gateway/media.py", "if part_type in offered and _is_syntax(syntax) and",
             "if part_type in offered and", f"{_RETRIEVE}::test_what_is_not_offered_is_406_and_says_what_is"),
    mutation("how large a picture is asked for", "gateway/rendering.py", "if found is None or any(int(side) > SIDE_MAX for side in found.groups()):",
             "if found is None:", f"{_RETRIEVE}::test_a_malformed_rendering_is_400_and_never_reaches_the_archive"),
    mutation("that nothing but reading is asked", "gateway/front.py", 'if method not in {"GET", "HEAD"}:', "if False:",
             f"{_ISOLATION}::test_nothing_but_reading_is_served"),
    mutation("which proxy says where a request comes from", "gateway/source.py",
             "if not address or not any(ip_address(address) in network for network in trusted):", "if not address:", _ADDRESSES),
)  # fmt: skip

SEARCHED = (
    mutation("whose studies a walk along the lists finds", _SEARCH, 'return [Sql("studies.clinic_id = ?", (clinic,)) for clinic in sorted(self.caller.clinics)]',
             'return [Sql("true")]', _SEARCHES),
    mutation("whose studies a look into an index finds", _SEARCH, "owned = [] if self.caller.sees_all else [self._is_owned()]", "owned: list[Sql] = []", _SEARCHES),
    mutation("whose studies are listed for many clinics", _SEARCH, "return one_of(\"(studies.clinic_id || '')\", sorted(self.caller.clinics))",
             'return Sql("true")', "tests/gateway/test_qido_search.py", _SEARCHES),
    mutation("with whom a study in a list is shared", _SEARCH, '            clinics,\n            Sql("until >=', '            Sql("true"),\n            Sql("until >=', _SHARE),
    mutation("until when a study in a list is shared", _SEARCH, 'Sql("until >= ?", (self.today.isoformat(),))', 'Sql("true")', _SHARE),
    mutation("that a study in a list is confirmed", _SEARCH, "_LISTED = Sql(str(LISTED))", '_LISTED = Sql("true")', _UNCONFIRMED),
    mutation("that a text is no pattern of SQL", "gateway/qido/sql.py",
             'part.replace("!", "!!").replace("%", "!%").replace("_", "!_")', "part", "tests/gateway/test_qido_studies.py", "tests/gateway/test_qido_search.py"),
    mutation("that a search in a study names no other", _RELAY, "if named and uid and uid not in named.uids:", "if False:", "tests/gateway/test_relay.py"),
    mutation("that series and instances are searched in one study", _RELAY, "if condition is None or len(condition.uids) != 1:",
             "if condition is None:", "tests/gateway/test_relay.py"),
    mutation("that a value holds no further parameter", _RELAY, 'quote(value, safe="*?,")', "value", "tests/gateway/test_relay.py"),
    mutation("whose series are searched", _WEB, "        wanted = parse_study_search(visit.pairs, _known(target.study), target.series, target.kind)\n        self._open(visit, claims, target)\n",
             "        wanted = parse_study_search(visit.pairs, _known(target.study), target.series, target.kind)\n", _NOT_MINE),
)  # fmt: skip

ANSWERED = (
    mutation("of which study the archive answers", _OURS, "if STUDY_UID in dataset and uid(dataset, STUDY_UID) != study:", "if False:", _ADDRESSES),
    mutation("of which series the archive answers", _OURS, "if series_uid is None or (series and series_uid != series):",
             "if series_uid is None:", _ADDRESSES),
    mutation("where an address in metadata leads", _OURS, "if target.kind is not Kind.BULK:", "if False:", _ADDRESSES),
    mutation("whose server an address in metadata names", _OURS, 'return f"{public_root}{target.resource()}/bulk/{target.bulk}"', "return uri", _ADDRESSES),
    mutation("that a search answers no address of the archive", _LISTED, '    member.pop("BulkDataURI", None)\n', "", _ADDRESSES),
    mutation("which addresses the archive writes", "gateway/archive/upstream.py", "        self._headers |= forwarded_headers(settings.public_url)\n", "",
             f"{_FAULTS}::test_nothing_of_the_client_and_its_headers_reaches_the_archive"),
    mutation("how long a result of the archive is", _LISTED, "if len(held) > RESULT_MAX:", "if len(held) > RESULT_MAX << 4:",
             f"{_ADDRESSES}::test_a_result_without_end_is_not_waited_for"),
    mutation("how many results one answer has", "gateway/qido/answer.py", "if number >= SEARCH_RESULTS_MAX or (number and room < 0):", "if number and room < 0:", _LONG),
    mutation("how many lists are put together at once", "gateway/listings.py", " and self._at_work.total() < LISTINGS_AT_ONCE", "", _LISTINGS),
    mutation("how many of them are one subject's", "gateway/listings.py", "self._at_work[subject] < OF_ONE_SUBJECT and ", "", _LISTINGS),
    mutation("how many threads wait for the archive", "gateway/places.py", "return seats if len(seats) >= self._of_all else []", "return []", _PLACES),
    mutation("how many of them for one subject", "gateway/places.py", "        if len(own) >= self._of_one:\n            return own\n", "", _PLACES),
    mutation("that nobody waits for the place of an archive that hangs", "gateway/places.py", "min(until, last + PATIENCE_SECONDS)", "until", _PLACES),
    mutation("that who has an answer gives a place back", "gateway/archive/upstream.py", "            self._place.give_back()\n", "            pass\n", _PLACES),
    mutation("for whom the archive is waited", _WEB, "        self._upstream.serve(claims.subject)\n", '        self._upstream.serve("")\n', _PLACES),
    mutation("that a list's turn is waited for by few", _WEB, "            self._upstream.place(),\n", "", _PLACES),
    mutation("how long a list of results is", "gateway/qido/answer.py", "if number >= SEARCH_RESULTS_MAX or (number and room < 0):",
             "if number >= SEARCH_RESULTS_MAX:", _LONG),
    mutation("what kind of picture the archive answers", _STREAMED, "        check_type(stream, frozenset({representation.media_type}))\n", "", f"{_FAULTS}::test_a_picture_that_is_none_is_a_bad_gateway"),
    mutation("that what has no owner is in the archive", _WEB, 'if study.owner is None and first(self._search_archive, listed, "limit=1") is None:',
             "if False:", f"{_ISOLATION}::test_what_the_archive_has_not_is_nowhere_for_a_radiologist_too"),
    mutation("that who opens a study is on record", _WEB, "        self._opened.record(verdict.caller, study, source)\n", "", _AUDIT),
    mutation("that who is refused is on record", _WEB, "            self._denials.record(verdict.caller, study_uid, verdict.owner, source)\n", "", _AUDIT),
    mutation("that who has no clinic any more is on record", _WEB, "            self._denials.record(nobody(claims), study_uid, None, source)\n", "",
             f"{_AUDIT}::test_who_has_no_clinic_or_a_revoked_token_is_on_record_too"),
    mutation("that one's refusals by /orthanc are added up", "gateway/explorer/trail.py", "if self._is_first(claims.subject):", "if True:",
             "tests/gateway/test_explorer.py::test_what_a_physician_is_refused_again_and_again_is_added_up"),
    mutation("that a search by who has no clinic any more is on record", _WEB, "            self._denials.record(nobody(claims), None, None, source, SEARCHED)\n", "",
             f"{_AUDIT}::test_who_has_no_clinic_or_a_revoked_token_is_on_record_too"),
    mutation("which of the studies that one opens is on record", _OPENED, "key = (caller.subject, study.study_uid)", 'key = (caller.subject, "")', _AUDIT),
    mutation("which of those who open a study is on record", _OPENED, "key = (caller.subject, study.study_uid)", 'key = ("", study.study_uid)', _AUDIT),
    mutation("that one's searches blank nobody else's", "gateway/audit/gathered.py", "known, all_known = self._of_subject[event.subject], len(self._tallies)",
             "known = all_known = len(self._tallies)", f"{_AUDIT}::test_a_flood_of_searches_takes_bounded_memory_and_blanks_nobody_elses"),
    mutation("for how long a record counts", _OPENED, "until is not None and self._clock.monotonic() < until", "until is not None", _AUDIT),
    mutation("of which revision the cache's copy is", _HANDED, "{prefix}/{study.revision}/", "{prefix}/0/", _ACCEL),
    mutation("in which form the cache's copy is", _HANDED, "/{representation.key}{path}", "/multipart,application,octet-stream,any{path}", _ACCEL),
    mutation("that what has no owner is not kept", _HANDED, "if study.owner is None or representation.unwrap_as:", "if representation.unwrap_as:", _ACCEL),
    mutation("that metadata is not kept before it has settled", _HANDED, "(kind is Kind.METADATA and study.settled)", "kind is Kind.METADATA", _ACCEL),
    mutation("that a document may run nothing", "gateway/answers.py", "frame-ancestors 'none'; sandbox\"", "frame-ancestors 'none'\"", _FAULTS),
    mutation("that a type is not guessed", "gateway/answers.py", '    "X-Content-Type-Options": "nosniff",\n', "", _FAULTS),
    mutation("that a browser keeps nothing", "gateway/answers.py", '"private, no-store"', '"private"', _FAULTS),
    mutation("that a document is saved and not shown", _STREAMED, ", headers=_TO_BE_SAVED)", ")", f"{_RETRIEVE}::test_an_encapsulated_pdf_comes_as_a_pdf_that_may_do_nothing"),
    mutation("how large an image becomes", "gateway/archive/sizes.py", "if frame > FRAME_MAX or (instance > INSTANCE_MAX and not is_picture):", "if False:", _SIZES),
    mutation("of which study's image the size is known", "gateway/archive/sizes.py", "(replace(target, frames=()).resource(), study.revision)",
             "(target.instance or target.series or target.study or replace(target, frames=()).resource(), study.revision)", _SIZES),
    mutation("that an image may be another one meanwhile", "gateway/archive/sizes.py", "if study.owner is None or not study.settled:",
             "if study.owner is None:", f"{_SIZES}::test_of_a_study_that_changes_what_was_known_counts_for_nothing"),
    mutation("that an image's size is looked up", _WEB, "        self._sizes.check(target, study, form)\n", "", f"{_SIZES}::test_a_picture_that_is_too_large_is_a_406_that_says_what_helps"),
    mutation("that a catalog which says nothing is given up", "gateway/app.py", "Catalog.open(settings.database_url, bounded=True)", "Catalog.open(settings.database_url)",
             "tests/gateway/test_silent_catalog.py::test_a_frozen_catalog_is_a_503_and_serves_again_when_it_thaws"),
    Mutation("that the catalog's trouble opens nothing", "gateway/access/studies.py", (
        ("        row = self._catalog.ask(self._question(len(claims.clinics)), callers.parameters(claims) | asked)\n",
         """        try:
            row = self._catalog.ask(self._question(len(claims.clinics)), callers.parameters(claims) | asked)
        except Exception:
            caller = callers.Caller(claims.subject, claims.username, claims.clinics, claims.sees_all)
            return StudyDecision(caller, OpenStudy(study_uid, None, 0, settled=False), None)
"""),),
        (f"{_FAULTS}::test_without_the_catalog_nothing_is_shown",)),
)  # fmt: skip
