"""The embedded OIDC issuer: the same addresses and the same tokens as Keycloak's realm `clinicpacs`."""

from demo.issuer.app import create_issuer
from demo.issuer.config import REALM_PATH, IssuerConfig, IssuerConfigError, SampleUser

__all__ = ["REALM_PATH", "IssuerConfig", "IssuerConfigError", "SampleUser", "create_issuer"]
