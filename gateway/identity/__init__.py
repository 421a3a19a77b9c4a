"""Who is asking: from the bytes of a token to `VerifiedClaims`, or a refusal.

`claims` judges what a signed token says, `jwks` holds the issuer's keys, `tokens` puts both together,
`protector` takes the token from a request.
"""
