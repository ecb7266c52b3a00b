"""The decider that everybody else has: serve the nearest if its cosine reaches a threshold that somebody chose.

Not here: any guard or learning; it keeps no promise. What 0.93 means depends on the embedder: docs/cache.md.
"""

from trivet.cache.semantic.look import Kept, Look, Verdict

THRESHOLD = 0.93
"""With MiniLM: 0.2 to 0.3 % of the answers of the traffic that we measured were wrong hits (docs/cache.md)."""


class Static:
    """The decider."""

    name = "static"
    keeps_same = True
    in_context = False

    def __init__(self, threshold: float = THRESHOLD) -> None:
        if not -1.0 <= threshold <= 1.0:
            raise ValueError(f"The threshold is {threshold}, and a cosine is from -1 to 1.")
        self.threshold = self.least = threshold
        self._requests = self._served = self._wrong = self._verdicts = 0

    def decide(self, look: Look) -> Verdict:
        """Serve the nearest that is not barred, if it is near enough."""
        self._requests += 1
        near = [i for i, one in enumerate(look.near) if one.cosine >= self.threshold]
        chosen = next((i for i in near if not look.near[i].barred), -1)
        if chosen < 0:
            why = look.near[near[0]].barred if near else "cosine"
            return Verdict(serve=False, chosen=0 if look.near else -1, p_correct=None, audit=0.0, why=why)
        # It promises nothing, so whoever asks for a promise gets exact repeats alone.
        serve = look.max_error is None
        self._served += serve
        return Verdict(serve, chosen, None, 0.0, "cosine" if serve else "no promise")

    def passed(self) -> None:
        """Note an exact hit."""
        self._requests += 1

    def learn(self, look: Look, verdict: Verdict, *, same: bool, audited: bool) -> None:
        """Count a verdict on what it served; it changes nothing."""
        if audited:
            self._verdicts += 1
            self._wrong += not same

    def feedback(self, kept: Kept) -> None:
        """Count it; it changes nothing."""
        kept.wrong += 1

    def report(self) -> dict[str, float]:
        """Say how it stands."""
        return {
            "threshold": self.threshold,
            "requests": self._requests,
            "served": self._served,
            "audits": self._verdicts,
            "audits_wrong": self._wrong,
        }

    def save(self) -> bytes:
        """Give nothing: it learns nothing."""
        return b"{}"

    def restore(self, saved: bytes) -> None:
        """Go on. Raises ValueError: that is of another decider."""
        if saved.strip() != b"{}":
            raise ValueError("A static threshold has learned nothing, so that is of another decider.")
