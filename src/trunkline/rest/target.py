"""One configured integration as calls see it: its address, its way in, its connector. Holds no secret."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from trunkline.catalog.manifest import AuthMethod, Manifest
from trunkline.catalog.template import ADDRESS, AUTH, MissingLookupError, Template
from trunkline.egress import check_url
from trunkline.errors import RemoteFailed
from trunkline.rest.tokens import digest

_CONTROL = re.compile(r"[\x00-\x20\x7f]")


@dataclass(frozen=True)
class Target:
    """A configured integration. Make a new one when its settings change; it may be kept and shared till then."""

    workspace_id: str
    integration_id: str
    service: str
    """Name to show in errors."""
    base_url: str
    auth: AuthMethod | None = None
    config: Mapping[str, str] = field(default_factory=dict)
    manifest: Manifest | None = None

    @cached_property
    def root(self) -> str:
        """The base URL with its look-ups filled in, without a slash at the end.

        Raises:
            RemoteFailed: kind "misconfigured", when it is empty or no http(s) URL without query and fragment.
        """
        if not self.base_url.strip():
            raise misconfigured("The integration has no base_url")
        root = self._rendered(self.base_url, {"config": self.config}, ADDRESS, "base_url")
        if "?" in root or "#" in root:
            raise misconfigured("base_url must not have a query or a fragment")
        return checked_url(root, "base_url").rstrip("/")

    def root_for(self, base_url: str | None) -> str:
        """Return the root of an endpoint: the integration's, unless the endpoint is at another host."""
        if base_url is None:
            return self.root
        if base_url not in self._roots:
            self._roots[base_url] = self.url(base_url, "base_url").rstrip("/")
        return self._roots[base_url]

    @cached_property
    def _roots(self) -> dict[str, str]:
        return {}

    @cached_property
    def fingerprint(self) -> str:
        """Tell this way in from any other, without secrets: tokens of an older configuration are not used."""
        auth = self.auth.model_dump_json() if self.auth else ""
        return digest([auth, self.base_url, *(text for pair in sorted(self.config.items()) for text in pair)])

    def url(self, text: str | None, name: str) -> str:
        """Fill in the look-ups of an auth URL and check it. Raises RemoteFailed, kind "misconfigured"."""
        if not text:
            raise misconfigured(f"The integration's auth has no {name}")
        scope: dict[str, Any] = {"config": self.config}
        if "{base_url}" in text:
            scope["base_url"] = self.root
        return checked_url(self._rendered(text, scope, AUTH, name), name)

    @staticmethod
    def _rendered(text: str, scope: Mapping[str, Any], namespaces: frozenset[str], name: str) -> str:
        if "{" not in text and "}" not in text:
            return text
        try:
            return str(Template.compile(text, namespaces=namespaces).render(scope))
        except (ValueError, MissingLookupError) as error:
            raise misconfigured(f"{name}: {error}") from None


def checked_url(url: str, name: str) -> str:
    """Return the URL if it is one that a call may name. Raises RemoteFailed, kind "misconfigured"."""
    if _CONTROL.search(url):
        raise misconfigured(f"{name} holds a space or a control character")
    try:
        check_url(url)
    except ValueError as error:
        raise misconfigured(f"{name}: {error}") from None
    except RemoteFailed as error:
        raise misconfigured(f"{name}: {error.message}") from None
    return url


def misconfigured(text: str) -> RemoteFailed:
    """Make the error for an integration that cannot work as it is set up."""
    return RemoteFailed(text, kind="misconfigured")
