"""`/orthanc`: the archive's own REST API and Explorer, for administrators only.

What an administrator can do there is what Orthanc's user `admin` may (orthanc/filter.lua): read all there
is, delete patients, studies, series and instances *for good* (they come back only from processed or from a
backup; cache and list are seen to at once: changes.py), change labels and metadata, make
archives. Uploading, modifying, merging, running scripts, stopping or reconfiguring the server is refused by
that filter: the archive itself is the one place that says so, whoever asks.

Scripts send a Bearer token. A browser is sent through the issuer (authorization code with PKCE) and then
holds its tokens itself, encrypted, in a cookie: each request verifies the access token exactly like a Bearer,
a revocation counts at once, and no session is kept here. A session in use is renewed at the issuer twice a
minute (sessions.py), so that whoever is removed there, or loses the role, is out.
"""
