"""`/orthanc`: the archive's own REST API and Explorer, for administrators only.

What an administrator can do there is what Orthanc's user `admin` may (orthanc/filter.lua): read all there
is, delete patients, studies, series and instances *for good* (they come back only from processed or from a
backup; `clinicpacs reindex` then marks the studies missing), change labels and metadata, make
archives. Uploading, modifying, merging, running scripts, stopping or reconfiguring the server is refused by
that filter: the archive itself is the one place that says so, whoever asks.

Scripts send a Bearer token. A browser is sent through the issuer (authorization code with PKCE) and then
holds the access token itself, encrypted, in a cookie: each request verifies it exactly like a Bearer, a
revocation counts at once, and there is no session to keep. When the token ends, so does the cookie; the next
page that is opened fetches another one from the issuer, mostly without a word to the person.
"""
