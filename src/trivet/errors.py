"""Every error Trivet raises, in one tree: HTTP status, OpenAI code, whose fault, what to do about it.

    TrivetError
    ├── RefusedError           a decision not to answer, as an error: any of those below, as a value
    ├── ConfigError            the operator's file or environment; never reaches a client
    ├── BadRequestError   400  the client's body or headers
    ├── AuthError         401  no key, or one that we do not know
    ├── PermitError       403  a key that may call none of the targets that could answer
    ├── UnknownModelError 404  no target, policy or alias of that name
    ├── CacheMissError    404  `x-trivet-cache: only`, and nothing is kept
    ├── TooLargeError     413  a body over the limit
    ├── LedgerError       503  the ledger cannot promise to keep an entry
    ├── UpstreamError          a target did not answer as it should (its own status and words, where it gave any)
    │   ├── NotReadyError 503  a local model that is still being fetched or loaded
    │   └── UnsupportedError 400  the target's protocol has no words for what is asked
    ├── DeadlineError     504  the client's own deadline passed
    ├── WeightsError           a model file that cannot be had or does not match its digest
    ├── EmbedderError     503  texts that cannot be turned into vectors now
    │   └── WidthError    503  vectors of another width than before
    └── LabelsError       503  feedback that cannot be kept now

Not here: what a client sees as bytes (`wire/`). Each error says what happened, with numbers, and what to change.
"""

from typing import Literal

from msgspec.structs import replace

from trivet.types import Fault

Whose = Literal["client", "operator", "upstream", "trivet"]


class TrivetError(Exception):
    """The root: catch this to catch all of ours."""

    status: int = 500
    code: str = "internal_error"
    kind: str = "api_error"
    """OpenAI's `type` of error."""
    whose: Whose = "trivet"
    retry_after_s: float | None = None

    def fault(self) -> Fault:
        """Give the error as a value for a Decision and an Entry."""
        param = getattr(self, "param", None) or ""
        return Fault(
            status=self.status, code=self.code, message=str(self), whose=self.whose, kind=self.kind, param=param
        )


class RefusedError(TrivetError):
    """A decision not to answer, as an error: made of the Fault that the decision holds."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.status, self.code, self.kind, self.whose = fault.status, fault.code, fault.kind, fault.whose
        self.param = fault.param or None


class ConfigError(TrivetError):
    """The configuration cannot be used. The message names the file, the line and what to write instead."""

    code, whose = "bad_config", "operator"


class BadRequestError(TrivetError):
    """The request cannot be understood."""

    status, code, kind, whose = 400, "invalid_request", "invalid_request_error", "client"

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        if code:
            self.code = code


class AuthError(TrivetError):
    """No key, or one that is not known here."""

    status, code, kind, whose = 401, "invalid_api_key", "authentication_error", "client"


class PermitError(TrivetError):
    """The key may call none of the targets that could answer."""

    status, code, kind, whose = 403, "target_not_allowed", "permission_error", "client"

    def __init__(self, model: str, *, may: tuple[str, ...]) -> None:
        super().__init__(
            f"This key may call none of the targets that answer {model[:200]!r}. It may call: {', '.join(may[:12])}. "
            "Ask for a model that one of those answers, or for a key that may do more."
        )


class UnknownModelError(TrivetError):
    """Nothing here is called that."""

    status, code, kind, whose = 404, "model_not_found", "invalid_request_error", "client"

    def __init__(self, model: str, *, known: tuple[str, ...]) -> None:
        names = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
        super().__init__(f"No model, policy or alias is called {model[:200]!r} here. Known: {names or 'none'}.")


class CacheMissError(TrivetError):
    """Only a kept answer was allowed, and there is none."""

    status, code, kind, whose = 404, "cache_miss", "invalid_request_error", "client"

    def __init__(self, why: str) -> None:
        super().__init__(f"`x-trivet-cache: only` was asked for, and {why}. Ask again without it to call the model.")


class TooLargeError(TrivetError):
    """The body is over the limit."""

    status, code, kind, whose = 413, "request_too_large", "invalid_request_error", "client"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The body is larger than {limit} bytes. Send less, or raise `server.max_body_bytes`.")


class LedgerError(TrivetError):
    """The ledger cannot promise to keep an entry, so nothing that costs money is started."""

    status, code, whose = 503, "ledger_unavailable", "operator"
    retry_after_s = 1.0


class DeadlineError(TrivetError):
    """The client's own deadline passed before an answer began."""

    status, code, kind, whose = 504, "deadline_exceeded", "timeout_error", "client"

    def __init__(self, deadline_ms: int) -> None:
        super().__init__(
            f"No answer began within the {deadline_ms} ms of `x-trivet-deadline`. "
            "Allow more, or route to a faster target."
        )


class UpstreamError(TrivetError):
    """A target did not answer as it should.

    Args:
        body: the target's own error body, which goes to the client as it came (keys masked), if it sent one.
        again: whether another target may be asked: False where the request itself is at fault.
        spent: whether tokens may have been spent all the same: False where the target refused, or was not reached.
        kept: the words for the ledger, where `message` has the target's own, which may repeat a prompt.
    """

    status, code = 502, "upstream_error"
    whose: Whose = "upstream"
    param: str | None = None

    def __init__(
        self,
        message: str,
        *,
        status: int = 502,
        code: str = "upstream_error",
        body: bytes | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        again: bool = True,
        spent: bool = True,
        kept: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.kept = status, code, kept or message
        self.body, self.headers, self.again, self.spent = body, headers, again, spent
        self.retry_after_s = retry_after_s

    def fault(self) -> Fault:
        """Give the error as a value for the ledger: without the target's own words."""
        return replace(super().fault(), message=self.kept)


class NotReadyError(UpstreamError):
    """A local model that is still being fetched or loaded; `message` tells how far it is."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message, status=503, code="model_loading", spent=False, retry_after_s=retry_after_s)


class UnsupportedError(UpstreamError):
    """A target's protocol has no words for what is asked. Nothing was sent; another target of the pool may have them.

    Args:
        message: what, and what to do instead; never the words of a prompt.
        param: the member at fault, as OpenAI's errors name it; None where it is all of the request.
    """

    status, code, kind = 400, "unsupported_by_target", "invalid_request_error"
    whose: Whose = "client"

    def __init__(self, message: str, *, param: str | None) -> None:
        super().__init__(message, status=self.status, code=self.code, spent=False)
        self.param = param


class WeightsError(TrivetError):
    """A model file cannot be had from any source, or its bytes are not what its digest says."""

    code, whose = "weights_unavailable", "operator"


class EmbedderError(TrivetError):
    """Texts cannot be turned into vectors: the embedder is not there yet, has failed, or has too much waiting."""

    status, code, whose = 503, "embedder_unavailable", "operator"

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class LabelsError(TrivetError):
    """What is known of answers cannot be written down now."""

    status, code, whose = 503, "labels_unavailable", "operator"
    retry_after_s = 1.0


class WidthError(EmbedderError):
    """An embedder gives vectors of another width than before, which cannot be held against each other."""
