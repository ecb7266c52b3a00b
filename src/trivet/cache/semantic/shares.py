"""How much of the shelf each tenant and each asker has: who has more than a share of it makes room first.

Not here: making room (`shelf.py`), who an asker is (`admission.py`).
Without it, whoever asks enough new questions has everybody else's answers taken off. A share counts only while others
have answers too: one alone may fill the shelf.
Invariant: what is counted is what was added and not removed.
"""

from collections import Counter

TENANT, ASKER = 0.5, 0.25
"""Of the entries, or of the bytes, that may be there: past that one is crowding. In a house with one tenant, or with a
customer who asks nearly everything, all that changes is that others keep what they have."""

_Holder = tuple[str, int | None]
"""A tenant, and one of its askers or none."""


class Shares:
    """Entries and bytes by holder."""

    def __init__(self, *, max_entries: int, max_bytes: int) -> None:
        self._max_entries, self._max_bytes = max_entries, max_bytes
        self._entries: Counter[_Holder] = Counter()
        self._bytes: Counter[_Holder] = Counter()
        self._crowding: set[_Holder] = set()

    def count(self, tenant: str, asker: int, *, entries: int, size: int) -> None:
        """Count an entry of an asker, and its bytes; with -1 and negative bytes, one that is gone."""
        for holder, share in (((tenant, None), TENANT), ((tenant, asker), ASKER)):
            self._entries[holder] += entries
            self._bytes[holder] += size
            if self._entries[holder] > share * self._max_entries or self._bytes[holder] > share * self._max_bytes:
                self._crowding.add(holder)
            else:
                self._crowding.discard(holder)
            if not self._entries[holder]:
                del self._entries[holder], self._bytes[holder]

    def anybody_crowds(self) -> bool:
        """Say whether somebody has more than a share."""
        return bool(self._crowding)

    def crowds(self, tenant: str, asker: int) -> bool:
        """Say whether this one has; or its tenant, where that is none of its askers' doing."""
        if (tenant, asker) in self._crowding:
            return True
        return (tenant, None) in self._crowding and not any(
            of == tenant and by is not None for of, by in self._crowding
        )
