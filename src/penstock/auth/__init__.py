"""Identifies the caller of a request and its permissions: principals, API keys, tokens of OpenID Connect."""

from penstock.auth.authenticator import Authenticator, TokenVerifier
from penstock.auth.code_flow import CodeFlow
from penstock.auth.keys import ApiKey, KeyFile
from penstock.auth.media_link_keys import open_media_links
from penstock.auth.media_links import MediaLinks, SignedLink
from penstock.auth.open import check_exposure, open_authenticator, open_code_flow
from penstock.auth.principal import ANONYMOUS, Permission, Principal
from penstock.auth.tenancy import AccessOf, access_of

__all__ = [
    "ANONYMOUS",
    "AccessOf",
    "ApiKey",
    "Authenticator",
    "CodeFlow",
    "KeyFile",
    "MediaLinks",
    "Permission",
    "Principal",
    "SignedLink",
    "TokenVerifier",
    "access_of",
    "check_exposure",
    "open_authenticator",
    "open_media_links",
    "open_code_flow",
]
