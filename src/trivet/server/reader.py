"""Bytes of one connection, read as requests: each head becomes an Exchange, each body goes into it.

Not here: sockets and time (`server/http.py`). No I/O: feed bytes, look at what they made.
Invariants:
- What is not plainly HTTP/1.1 is `wrong`, and what follows it is not read as a request.
- Nothing of the next request is read before `next` is called, so a body can never be taken for a request.
- What a head may hold is bounded: bytes, headers, URL.

Source: RFC 9112; llhttp (strict, through httptools) reads the bytes.
"""

from urllib.parse import unquote

import httptools

from trivet.errors import TrivetError
from trivet.server.exchange import Headers, HttpExchange, Line

MAX_HEAD_BYTES = 65_536
"""Of one request's line and headers; also of bytes in a row that are no content (trailers, chunk extensions). llhttp
has no bound of its own, so a head without an end would fill the memory before any key is looked at."""
MAX_HEADERS = 200
"""Browsers send 20 and proxies add 10. Each is an object, which costs more than its bytes."""
MAX_URL_BYTES = 8_192
"""RFC 9112, section 3, asks for 8,000 at least; the longest route here has 20."""

METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})
"""RFC 9110's and PATCH, without CONNECT and TRACE: this is no tunnel and no echo. llhttp knows 30 more, RTSP's too."""

_HASH = ord("#")
"""As a number: bytes in bytes are looked for by way of an exception, which costs eight times as much (CPython 3.11)."""

_NOTED = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect"})
"""What says where a request ends, and for whom it is."""


class BadHttpError(TrivetError):
    """What came is no request that is read here, or too large or too slow to be one."""

    code, kind, whose = "bad_http", "invalid_request_error", "client"

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Reader:
    """Reads the requests of one connection, one after the other."""

    def __init__(self, line: Line) -> None:
        self.exchange: HttpExchange | None = None
        """From the end of a head until `next`."""
        self.wrong: BadHttpError | None = None
        """What was found first, if anything: nothing is read after it."""
        self.left = 0
        """Bytes still to come of a body whose length is known."""
        self.client: tuple[str, int] | None = None
        self._line = line
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._barren = 0  # bytes in a row without content
        self._upgrade = False  # the parser reads no further
        self._tail = b""  # of the last read: a blank line may have begun there

    def whole(self) -> bool:
        """Say whether a whole request is here."""
        return self.exchange is not None and self.exchange.whole

    def next(self) -> None:
        """Begin with the next request."""
        self.exchange, self._barren, self._tail = None, 0, b""

    def feed(self, data: bytes | bytearray) -> int:
        """Read what belongs to this request and nothing of the next; give how much that was.

        The parser does not say where a request ended. But one with a length ends there, any other with a blank line.
        """
        at = 0
        while at < len(data) and self.wrong is None and not self.whole():
            if self.left:
                end = min(at + self.left, len(data))
                self.left -= end - at
            else:
                end = self._blank_line(data, at)
                self._barren += end - at
            try:
                if self._upgrade:
                    self.on_body(bytes(data[at:end]))
                else:
                    self._parser.feed_data(data[at:end])
            except httptools.HttpParserUpgrade:
                self._decline()
            except httptools.HttpParserError as error:
                self._blame(BadHttpError(400, f"This is no HTTP that is read here: {error}."))
            if self._upgrade and self.exchange is not None:
                self.exchange.whole = not self.left
            if self._barren > MAX_HEAD_BYTES:
                self._blame(_too_large(self._url))
            elif self.exchange is None and not self._tail:
                self._blame(BadHttpError(400, "There are empty lines before the request."))
            at = end
        return at

    def _decline(self) -> None:
        """Go on without the upgrade that was asked for, as with any request, and read nothing after it.

        llhttp leaves its body to the other protocol, so we read it (Java's HttpClient offers h2c with its first POST).
        What follows could be taken for a request by one side, and for that protocol by the other.
        """
        self._upgrade = True
        if self.exchange is not None:
            self.exchange.keep = False
        if self._coding:
            self._blame(BadHttpError(400, "A request for an upgrade has a body in chunks. Send it with a length."))

    def _blame(self, error: BadHttpError) -> None:
        if self.wrong is None:  # what was found first is the cause
            self.wrong = error

    def _blank_line(self, data: bytes | bytearray, at: int) -> int:
        """Say where the next blank line ends, or the data; `_tail` is empty where there is one."""
        known, found = len(self._tail), -1
        if known:
            found = (self._tail + data[at : at + 3]).find(b"\r\n\r\n")
        if found >= 0:
            found += at - known
        elif (found := data.find(b"\r\n\r\n", at)) < 0:
            self._tail = bytes(self._tail + data[max(at, len(data) - 3) :])[-3:]
            return len(data)
        self._tail = b""
        return found + 4

    # What the parser finds, within `feed`.

    def on_message_begin(self) -> None:
        if self.exchange is not None:
            raise ValueError("bytes after the end of the request")
        self._url, self._coding, self._expects = b"", b"", False
        self._headers: Headers = []
        self._hosts = self._length = 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in _NOTED:
            self._note(name, value)
        self._headers.append((name, value))

    def _note(self, name: bytes, value: bytes) -> None:
        if name == b"host":
            self._hosts += 1
        elif name == b"content-length":
            self._length = int(value)  # digits: llhttp has looked
        elif name == b"transfer-encoding":
            self._coding = value.strip(b" \t").lower()
        else:
            self._expects = value.lower() == b"100-continue"

    def on_headers_complete(self) -> None:
        parser = self._parser
        method, version = parser.get_method(), parser.get_http_version()
        self.wrong = self._flaw(method, version)
        if self.wrong is not None:
            return
        raw_path, _, query = self._url.partition(b"?")
        path = raw_path.decode("ascii")
        old = version == "1.0"
        exchange = HttpExchange(
            self._line, method.decode(), keep=parser.should_keep_alive(), old=old, expects=self._expects and not old
        )
        exchange.path = unquote(path) if "%" in path else path
        exchange.query = query.decode("latin-1")
        exchange.headers, exchange.client = self._headers, self.client
        self.exchange = exchange
        self.left, self._barren = self._length, 0
        self._headers = []  # trailers go there: nobody asked for them

    def _flaw(self, method: bytes, version: str) -> BadHttpError | None:
        """Say what is wrong with a head that llhttp has let through; put a URL with a host into its plain form."""
        url = self._url
        if len(url) > MAX_URL_BYTES or self._barren > MAX_HEAD_BYTES:
            return _too_large(url)
        if len(self._headers) > MAX_HEADERS:
            return BadHttpError(431, f"There are {len(self._headers)} headers. Send at most {MAX_HEADERS}.")
        if version not in ("1.1", "1.0"):
            return BadHttpError(505, f"This is HTTP/{version}. Speak HTTP/1.1.")
        if method not in METHODS:
            return BadHttpError(501, f"The method {method.decode()} is not known here.")
        if self._hosts > 1 or (self._hosts == 0 and version == "1.1"):
            return BadHttpError(400, f"There are {self._hosts} Host headers. Send one.")
        if self._coding and (self._coding != b"chunked" or version == "1.0"):
            return BadHttpError(400, "The only transfer-encoding here is `chunked`, and that with HTTP/1.1.")
        if url[:1] != b"/" and not self._plain_url():
            return BadHttpError(400, f"{self._url[:200]!r} is no path.")
        if _HASH in self._url:
            return BadHttpError(400, "A path ends before its `#`.")
        return None

    def _plain_url(self) -> bool:
        """Make `/path?query` of `http://host/path?query` (RFC 9112, 3.2.2); the host decides nothing here."""
        scheme, _, rest = self._url.partition(b"://")
        _, slash, path = rest.partition(b"/")
        self._url = slash + path
        return scheme.lower() in (b"http", b"https") and slash == b"/"

    def on_body(self, body: bytes) -> None:
        exchange, self._barren = self.exchange, 0
        if exchange is not None and not exchange.answered:
            exchange.pieces.append(body)
            exchange.size += len(body)

    def on_message_complete(self) -> None:
        if self.exchange is not None:
            self.exchange.whole = True


def _too_large(url: bytes) -> BadHttpError:
    if len(url) > MAX_URL_BYTES:
        return BadHttpError(414, f"The URL has more than {MAX_URL_BYTES} bytes.")
    return BadHttpError(
        431, f"The head of the request, or what is no content in its body, is over {MAX_HEAD_BYTES} bytes."
    )
