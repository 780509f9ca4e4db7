"""Shows settings without giving away what is secret in them."""

from typing import Any
from urllib.parse import urlsplit

from siglip_settings.load import Resolved

MASK = "***"
URLS = ("redis_url", "traces_endpoint")


def masked(found: Resolved) -> Any:
    """The value, ready to show. Of a secret URL the password and the query are replaced by ***."""
    if not found.setting.secret or not isinstance(found.value, str):
        return found.value
    if found.setting.name not in URLS:
        return MASK  # a password may look like a URL
    try:
        parts = urlsplit(found.value)
    except ValueError:
        return MASK
    if not parts.scheme or "://" not in found.value:
        return MASK
    if "@" in parts.path + parts.query + parts.fragment:
        # An unescaped / ? or # in the password ends the login too early: the rest of it would be shown.
        return MASK
    login, at, place = parts.netloc.rpartition("@")
    user, colon, _ = login.partition(":")
    shown_login = f"{user}:{MASK}" if colon else login
    return f"{parts.scheme}://{shown_login}{at}{place}{parts.path}" + (f"?{MASK}" if parts.query else "")
