"""Who may come in: pages of our own, and in public only those who know the token.

A browser lets any page open a websocket to any address and says in Origin which page it is; so Origin is checked here,
against the addresses we know ourselves by. Host alone would not do: a stranger's name may point to 127.0.0.1.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from urllib.parse import urlsplit

SHORTEST_TOKEN = 16


@dataclass(frozen=True)
class Door:
    """hosts: the names, with port, that our own pages are loaded from, or None in public, where a token is needed.

    Raises ValueError for a public door without a token, or with a short one.
    """

    hosts: frozenset[str] | None
    token: str = ""

    def __post_init__(self) -> None:
        if self.hosts is None and len(self.token) < SHORTEST_TOKEN:
            raise ValueError(f"a public page needs a token of at least {SHORTEST_TOKEN} characters")

    @staticmethod
    def of_this_machine(port: int) -> Door:
        """For 127.0.0.1 only."""
        names = ("127.0.0.1", "localhost")
        # Browsers leave out the port that http means anyway.
        return Door(frozenset(f"{name}:{port}" for name in names) | frozenset(names if port == 80 else ()))

    def knows(self, host: str | None) -> bool:
        """Whether a request's Host is one of ours."""
        return self.hosts is None or (host is not None and host.lower() in self.hosts)

    def admits(self, origin: str | None, host: str | None) -> bool:
        """Whether a websocket with these headers comes from a page of ours, or from no page, as a script does."""
        if not self.knows(host):
            return False
        if origin is None:
            return True
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        if parts.scheme not in ("http", "https"):
            return False
        place = parts.netloc.lower()
        # Behind a proxy that speaks https the page's origin has no port, and Host has none either.
        return place == (host or "").lower() if self.hosts is None else place in self.hosts

    def opens_for(self, token: str) -> bool:
        """Whether a token is the right one; always, where none is needed."""
        return not self.token or hmac.compare_digest(token.encode(errors="replace"), self.token.encode())
