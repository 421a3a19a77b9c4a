# ruff: noqa: E501 - the program's text as it stands there
"""Checks of the servers before and behind the gateway: nginx and Orthanc."""

from __future__ import annotations

from tests.mutations.model import Mutation, mutation

_ARCHIVE, _ASKED, _FILTER = (
    "nginx/snippets/archive.conf",
    "nginx/snippets/archive-request.conf",
    "orthanc/filter.lua",
)
_GATEWAY, _LIMITS, _FLOOD = (
    "nginx/snippets/gateway.conf",
    "nginx/snippets/limits.conf",
    "tests/nginx/test_flood.py",
)
_DEAR = f"{_FLOOD}::test_what_costs_the_archive_work_is_limited_more_tightly"
_LISTS = f"{_FLOOD}::test_a_user_has_four_lists_of_instances_made_at_once_and_a_colleague_gets_one_meanwhile"
_HANDED, _ROUTE = "tests/nginx/test_archive.py", "tests/nginx/test_gateway_route.py"
_USERS = "tests/orthanc/test_filter.py"
_ARRIVED = f"{_ROUTE}::test_the_gateway_gets_what_it_reads_and_the_true_address_only"
_ASKS_ON = "tests/nginx/test_limits.py::test_an_address_that_asks_on_is_refused_and_another_is_not"
_TLS, _AUTH = "tests/nginx/test_tls.py", "nginx/snippets/keycloak.conf"
_INTERNAL = """location ^~ /_archive/ {
    internal;"""

BEFORE = (
    Mutation("that the cache is asked through the gateway only", _ARCHIVE, (
        (_INTERNAL, "location ^~ /_archive/ {"),
        ("        internal;\n        include snippets/archive-request.conf;\n    }\n\n", "        include snippets/archive-request.conf;\n    }\n\n"),
        ("        internal;\n        include snippets/archive-request.conf;\n        # Several", "        include snippets/archive-request.conf;\n        # Several")),
        (f"{_HANDED}::test_the_internal_location_cannot_be_asked_for",)),
    mutation("of what a cached copy is", _ARCHIVE, "proxy_cache_key $uri$is_args$args;", "proxy_cache_key $archive_path;", _HANDED),
    mutation("of which picture a cached copy is", _ARCHIVE, "proxy_cache_key $uri$is_args$args;", "proxy_cache_key $uri;",
             f"{_HANDED}::test_pictures_of_two_sizes_are_two_answers"),
    mutation("which of a client's headers reach the archive", _ASKED, "proxy_pass_request_headers off;", "proxy_pass_request_headers on;", _HANDED),
    mutation("that no words of the archive go out", _ASKED, "proxy_intercept_errors on;", "proxy_intercept_errors off;", _HANDED),
    mutation("that an answer from the cache may run nothing", "nginx/snippets/headers-api.conf", "frame-ancestors 'none'; sandbox\"",
             "frame-ancestors 'none'\"", _HANDED),
    mutation("that a browser keeps nothing of the cache", "nginx/templates/settings.conf.template", '"" "private, no-store";', '"" "private";',
             f"{_ROUTE}::test_a_gateway_that_is_away_is_told_as_a_problem_and_found_again"),
    mutation("which of a client's headers reach the gateway", _GATEWAY, "    proxy_pass_request_headers off;\n", "", _ARRIVED),
    mutation("where a request comes from", "nginx/snippets/upstream.conf", "X-Forwarded-For $remote_addr;", "X-Forwarded-For $proxy_add_x_forwarded_for;",
             f"{_ROUTE}::test_the_explorer_gets_cookies_and_origin_and_the_true_address", _ARRIVED),
    mutation("that no other service hands over", "nginx/snippets/keycloak.conf", "    proxy_ignore_headers X-Accel-Redirect ", "    proxy_ignore_headers ",
             f"{_HANDED}::test_no_other_service_can_hand_over"),
    mutation("that the explorer does not hand over", _GATEWAY, "    proxy_ignore_headers X-Accel-Redirect ", "    proxy_ignore_headers ",
             f"{_HANDED}::test_the_explorers_answers_hand_nothing_over"),
    mutation("that a request has no body", "nginx/nginx.conf", "client_max_body_size 1;", "client_max_body_size 8m;",
             f"{_ROUTE}::test_no_body_is_taken_under_dicom_web"),
    mutation("how often one address searches", _GATEWAY, "    limit_req zone=search burst=200 nodelay;\n", "",
             "tests/nginx/test_limits.py::test_a_flood_of_searches_from_one_address_is_refused_before_the_gateway"),
    mutation("how much one user asks for", _GATEWAY, "    limit_req zone=caller burst=4500 delay=1500;\n    limit_req zone=dear",
             "    limit_req zone=dear", _FLOOD),
    mutation("that a renewed token is the same user", _LIMITS, "$caller_subject;", "$http_authorization;", _FLOOD),
    mutation("what costs the archive work", _GATEWAY, "    limit_req zone=dear burst=360 delay=60;\n", "", _FLOOD),
    mutation("that a query asks for an encoding, too", _LIMITS, '    "~^(?:frames|retrieve)\\?" $caller;\n', "", _DEAR),
    mutation("which transfer syntaxes cost the archive work", _LIMITS,
             '    "~^(?:frames|retrieve):.*1\\.2\\.840\\.10008\\.1\\.2\\.(?![12](?:[^.0-9]|$))" $caller;\n', "", _DEAR),
    mutation("how many studies one user fetches at once", _GATEWAY, "    limit_conn whole 4;\n", "", _FLOOD),
    mutation("how many lists one user asks for at once", _GATEWAY, "    limit_conn lists 4;\n", "", _LISTS),
    mutation("which list of instances is a thumbnail's", _LIMITS, "limit=1&includefield=[0-9A-F]+$", "limit=1", _LISTS),
    mutation("what is counted of an address with a fragment", "nginx/snippets/access-log.conf", "/rendered(?:[?#]|$)", "/rendered(?:[?]|$)",
             "tests/nginx/test_limits.py::test_a_fragment_behind_an_address_is_not_served_and_hides_nothing_of_it"),
    mutation("how often one address tries a password", _AUTH, "    limit_req zone=sign_in burst=60 nodelay;\n", "",
             "tests/nginx/test_limits.py::test_signing_in_is_limited_tightly"),
    mutation("how often one address gets tokens", _AUTH, "    limit_req zone=token burst=100 nodelay;\n", "", _ASKS_ON),
    mutation("how often one address asks for pages of the sign-in", _AUTH, "    limit_req zone=pages burst=400 nodelay;\n", "", _ASKS_ON),
    mutation("how often one address asks Orthanc's pages", _GATEWAY, "    limit_req zone=explorer burst=300 nodelay;\n", "", _ASKS_ON),
    mutation("that metrics are not published", _AUTH, '"^/auth/(?:metrics|health)(?:[/;]|$)"', '"^/auth/(?:health)(?:[/;]|$)"',
             "tests/nginx/test_services.py::test_metrics_and_health_are_not_published"),
    mutation("that nothing is told over HTTP", "nginx/templates/site.conf.template",
             "    location / {\n        return 301 ${CLINICPACS_PUBLIC_ORIGIN}$request_uri;\n", "    location / {\n        return 404;\n",
             f"{_TLS}::test_http_is_sent_to_the_public_url"),
    mutation("which ciphers are spoken", "nginx/snippets/tls.conf", "ssl_ciphers ECDHE", "ssl_ciphers HIGH:ECDHE",
             f"{_TLS}::test_ciphers_without_forward_secrecy_or_authentication_are_refused"),
    mutation("that a browser comes back over HTTPS only", "nginx/snippets/headers-every.conf", '"max-age=31536000"', '"max-age=0"',
             f"{_TLS}::test_strict_transport_security_is_on_every_answer_once"),
)  # fmt: skip

BEHIND = (
    mutation("what Orthanc's users may ask", _FILTER, "return allowed ~= nil and allowed(method, uri) == true", "return true", _USERS),
    mutation("what the gateway may ask of Orthanc", _FILTER, "gateway = reads_dicomweb,", "gateway = administers,", _USERS),
    mutation("that the gateway only reads", _FILTER, "if method ~= 'GET' or not string.match", "if not string.match", _USERS),
    mutation("where a route of DICOMweb ends", _FILTER, "string.sub(uri, 1, #root + 1) == root .. '/'", "string.sub(uri, 1, #root) == root", _USERS),
    mutation("where the gateway's routes begin", _FILTER, "local READ_ROOTS = { '/dicom-web/studies', '/dicom-web/series', '/dicom-web/instances' }",
             "local READ_ROOTS = { '/dicom-web' }", _USERS),
    mutation("what an address of DICOMweb is made of", _FILTER, "if method ~= 'GET' or not string.match(uri, '^[%w%-%.,/]+$') then",
             "if method ~= 'GET' then", _USERS, "tests/isolation/test_ways_round.py"),
    mutation("what the monitor may ask", _FILTER, "return method == 'GET' and (uri == '/tools/metrics-prometheus' or uri == '/system')",
             "return method == 'GET'", _USERS),
    mutation("where the importer stores", _FILTER, "(uri == '/dicom-web/studies' or string.match(uri, '^/dicom%-web/studies/[0-9%.]+$') ~= nil)",
             "true", _USERS),
    mutation("what the importer lists", _FILTER, "return method == 'GET' and (uri == '/system' or uri == '/studies')", "return method == 'GET'", _USERS),
    mutation("that administrators do not upload", _FILTER, "return LEVELS[level] == true and ACTIONS[action] == true and #segments == 3",
             "return LEVELS[level] == true", _USERS),
    mutation("which tools administrators use", _FILTER, "return TOOLS[id] == true and action == nil", "return action == nil", _USERS),
    mutation("that Orthanc asks for a password", "orthanc/orthanc.json", '"AuthenticationEnabled": true', '"AuthenticationEnabled": false', _USERS),
    mutation("that Orthanc runs no scripts of others", "orthanc/orthanc.json", '"ExecuteLuaEnabled": false', '"ExecuteLuaEnabled": true',
             "tests/orthanc/test_configuration.py::test_it_runs_no_script_even_if_the_filter_let_one_in"),
)  # fmt: skip
