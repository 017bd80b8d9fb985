"""Both peers of a gateway as scripts on raw sockets: what they send is said byte by byte in the test.

Text given to tx() is written with plain newlines: up to and including the first empty line each becomes
CR LF, what follows (the body) goes out as it stands. Bytes always go out as they stand.
Every wait ends after TIMEOUT seconds with an error that names what was waited for.
"""
import re
import select
import socket
import ssl
import time

TIMEOUT = 10.0


class PeerError(AssertionError):
    pass


def wire(data):
    if isinstance(data, bytes):
        return data
    head, sep, body = data.partition("\n\n")
    if "\r" in head:
        return data.encode("latin-1")
    return (head + sep).replace("\n", "\r\n").encode("latin-1") + body.encode("latin-1")


def shown(data, limit=2000):
    text = data[:limit].decode("latin-1").replace("\r\n", "↵\n")
    text = re.sub(r"[^\x20-\x7e\n↵]", lambda m: "\\x%02x" % ord(m.group()), text)
    more = "… (%d bytes)" % len(data) if len(data) > limit else ""
    return "\n".join("      " + line for line in (text + more).split("\n"))


class Transcript:
    """Everything that was exchanged, in order."""

    def __init__(self):
        self.rows = []
        self.start = time.monotonic()

    def add(self, who, arrow, data):
        self.rows.append((time.monotonic() - self.start, who, arrow, data))

    def text(self):
        out = []
        for at, who, arrow, data in self.rows[-60:]:
            body = shown(data) if isinstance(data, bytes) else "      (%s)" % data
            out.append("%7.3f %s %s\n%s" % (at, who, arrow, body))
        return "\n".join(out)


class Fields(list):
    """Header fields in order: (name, value) pairs of text."""

    def all(self, name):
        return [v for n, v in self if n.lower() == name.lower()]

    def get(self, name, default=None):
        found = self.all(name)
        assert len(found) < 2, "%s stands %d times: %r" % (name, len(found), found)
        return found[0] if found else default

    def __contains__(self, name):
        return bool(self.all(name))

    def names(self):
        return [n.lower() for n, _ in self]


def parse_fields(lines):
    fields = Fields()
    for line in lines:
        m = re.fullmatch(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*(.*?)[ \t]*", line, re.S)
        if not m or re.search(rb"[\r\n\0]", line):
            raise PeerError("not a header field: %r" % line)
        fields.append((m.group(1).decode(), m.group(2).decode("latin-1")))
    return fields


class Request:
    def __init__(self, line, headers):
        m = re.fullmatch(r"(\S+) (\S+) (HTTP/1\.[01])", line)
        if not m:
            raise PeerError("not a request line: %r" % line)
        self.line, self.headers = line, headers
        self.method, self.target, self.version = m.groups()
        self.body, self.trailers = b"", Fields()


class Response(tuple):
    """Compares as (status, body)."""

    def __new__(cls, status, body, **more):
        self = super().__new__(cls, (status, body))
        self.status, self.body = status, body
        self.__dict__.update(more)
        return self


class Wire:
    """One end of a connection, with a buffer."""

    def __init__(self, sock, who, transcript):
        self.sock, self.who, self.transcript = sock, who, transcript
        self.buf = b""
        self.closed = False  # the other side has sent FIN or RST
        self.reset = False
        sock.settimeout(TIMEOUT)

    def tx(self, data):
        data = wire(data)
        self.transcript.add(self.who, "tx", data)
        try:
            self.sock.sendall(data)
        except OSError as e:
            self.transcript.add(self.who, "tx", "failed: %s" % e)
            raise PeerError("%s: could not send: %s" % (self.who, e))

    def try_tx(self, data):
        """As tx, but the other side may have closed."""
        try:
            self.tx(data)
        except PeerError:
            pass

    def half_close(self):
        self.transcript.add(self.who, "tx", "FIN")
        self.sock.shutdown(socket.SHUT_WR)

    def close(self):
        self.transcript.add(self.who, "tx", "close")
        try:
            self.sock.close()
        except OSError:
            pass

    def abort(self):
        """Closes with RST."""
        self.transcript.add(self.who, "tx", "RST")
        raw = self.sock
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        raw.close()

    def more(self, timeout=None):
        """Reads once. False at the end of the stream."""
        if self.closed:
            return False
        self.sock.settimeout(TIMEOUT if timeout is None else timeout)
        try:
            data = self.sock.recv(65536)
        except (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
            self.reset = True
            data = b""
        except ssl.SSLZeroReturnError:
            data = b""
        except (socket.timeout, TimeoutError):
            raise PeerError("%s: nothing came within %.1f s; unread: %r" % (
                self.who, self.sock.gettimeout(), self.buf[:120]))
        if not data:
            self.closed = True
            self.transcript.add(self.who, "rx", "RST" if self.reset else "FIN")
            return False
        self.transcript.add(self.who, "rx", data)
        self.buf += data
        return True

    def pending(self):
        return bool(self.buf) or (isinstance(self.sock, ssl.SSLSocket) and self.sock.pending() > 0)

    def until(self, mark):
        while mark not in self.buf:
            if not self.more():
                raise PeerError("%s: the connection ended before %r; got %r" % (
                    self.who, mark, self.buf))
        out, self.buf = self.buf.split(mark, 1)
        return out

    def take(self, n):
        while len(self.buf) < n:
            if not self.more():
                raise PeerError("%s: the connection ended %d bytes short" % (
                    self.who, n - len(self.buf)))
        out, self.buf = self.buf[:n], self.buf[n:]
        return out

    def rest(self, timeout=None):
        """All bytes until the other side closes."""
        while self.more(timeout):
            pass
        out, self.buf = self.buf, b""
        return out

    def eof(self):
        """The other side closes now, and sends nothing before."""
        rest = self.rest()
        assert rest == b"", "%s: unexpected bytes before the end: %r" % (self.who, rest)

    def silent(self, seconds=0.3):
        """Nothing arrives for a short while (use sparingly: it costs the time)."""
        assert not self.pending(), "%s: unexpected bytes: %r" % (self.who, self.buf)
        r, _, _ = select.select([self.sock], [], [], seconds)
        if r:
            self.more()
        assert not self.pending() and not self.closed, "%s: unexpected: %r" % (self.who, self.buf)

    def head(self):
        lines = self.until(b"\r\n\r\n").split(b"\r\n")
        return lines[0].decode("latin-1"), parse_fields(lines[1:])

    def chunk(self):
        """One chunk's data; b"" is the last one, whose trailers are left unread."""
        size = self.until(b"\r\n")
        if not re.fullmatch(rb"[0-9a-fA-F]+", size):
            raise PeerError("%s: not a chunk size: %r" % (self.who, size))
        n = int(size, 16)
        if n == 0:
            return b""
        data = self.take(n)
        if self.take(2) != b"\r\n":
            raise PeerError("%s: no CR LF after a chunk" % self.who)
        return data

    def trailers(self):
        fields = []
        while True:
            line = self.until(b"\r\n")
            if not line:
                return parse_fields(fields)
            fields.append(line)

    def body(self, headers, until_close):
        """(body, trailers, framing) by the message's own framing."""
        coding = headers.all("transfer-encoding")
        length = headers.all("content-length")
        assert not (coding and length), "%s: both framings at once: %r" % (self.who, headers)
        assert len(coding) < 2 and len(length) < 2, "%s: framing stands twice: %r" % (self.who, headers)
        if coding:
            assert coding == ["chunked"], coding
            parts = []
            while True:
                data = self.chunk()
                if not data:
                    return b"".join(parts), self.trailers(), "chunked"
                parts.append(data)
        if length:
            assert length[0].isdigit(), length
            return self.take(int(length[0])), Fields(), "length"
        if until_close:
            return self.rest(), Fields(), "close"
        return b"", Fields(), "none"


class Client(Wire):
    def __init__(self, sock, who, transcript):
        super().__init__(sock, who, transcript)
        self.methods = []  # of requests that have no answer yet

    def tx(self, data):
        m = re.match(rb"(?:\r\n)?([A-Z]+) \S+ HTTP/", wire(data))
        if m:
            self.methods.append(m.group(1).decode())
        super().tx(data)

    def get(self, target, *fields, host="example.com"):
        self.tx("GET %s HTTP/1.1\nHost: %s\n%s\n" % (
            target, host, "".join(f + "\n" for f in fields)))
        return self

    def rx_head(self):
        """Status line and fields of the next head, also of an interim answer; the body stays unread."""
        line, headers = self.head()
        m = re.fullmatch(r"HTTP/1\.1 (\d{3}) ?(.*)", line)
        if not m:
            raise PeerError("not a status line: %r" % line)
        return Response(int(m.group(1)), b"", headers=headers, reason=m.group(2))

    def rx(self):
        interim = []
        while True:
            head = self.rx_head()
            if head.status >= 200 or head.status == 101:
                break
            interim.append(head)
        method = self.methods.pop(0) if self.methods else "GET"
        headers = head.headers
        if method == "HEAD" or head.status in (101, 204, 304):
            body, trailers, framing = b"", Fields(), "none"
        else:
            body, trailers, framing = self.body(headers, until_close=True)
        return Response(head.status, body, headers=headers, reason=head.reason, trailers=trailers,
                        framing=framing, interim=interim)


class OriginConn(Wire):
    def rx(self, starts=""):
        line, headers = self.head()
        assert line.startswith(starts), "%s: wanted %r, got %r" % (self.who, starts, line)
        r = Request(line, headers)
        if "upgrade" not in headers:
            r.body, r.trailers, r.framing = self.body(headers, until_close=False)
        return r

    def rx_head(self, starts=""):
        line, headers = self.head()
        assert line.startswith(starts), "%s: wanted %r, got %r" % (self.who, starts, line)
        return Request(line, headers)


class Origin:
    """A scripted origin. rx() takes the next request from whichever connection brings one; tx() answers
    on that connection. conns counts the connections accepted so far."""

    def __init__(self, name, transcript, tls=None, path=None, host="127.0.0.1"):
        self.name, self.transcript, self.tls = name, transcript, tls
        self.path = path
        family = socket.AF_UNIX if path else socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listener = socket.socket(family, socket.SOCK_STREAM)
        self.listener.bind(path or (host, 0))
        self.listener.listen(256)
        self.host = host
        self.port = None if path else self.listener.getsockname()[1]
        self.open, self.conns, self.last = [], 0, None
        self.snis = []

    def accept(self, timeout=TIMEOUT):
        self.listener.settimeout(timeout)
        try:
            sock, _ = self.listener.accept()
        except (socket.timeout, TimeoutError):
            raise PeerError("%s: nobody connected within %.1f s" % (self.name, timeout))
        self.conns += 1
        who = "%s#%d" % (self.name, self.conns)
        sock.settimeout(TIMEOUT)
        if self.tls:
            try:
                sock = self.tls.wrap_socket(sock, server_side=True)
            except (ssl.SSLError, OSError) as e:
                self.transcript.add(who, "rx", "TLS handshake failed: %s" % e)
                raise PeerError("%s: TLS handshake failed: %s" % (who, e))
            self.transcript.add(who, "rx", "TLS, SNI %s, ALPN %s" % (
                getattr(sock, "sni", None), sock.selected_alpn_protocol()))
            self.snis.append(self.tls.last_sni)
        if not self.path:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        conn = OriginConn(sock, who, self.transcript)
        self.open.append(conn)
        self.last = conn
        return conn

    def ready(self, timeout=TIMEOUT):
        """The connection that has bytes of a request; accepts and forgets closed ones on the way."""
        end = time.monotonic() + timeout
        while True:
            for c in self.open:
                if c.pending():
                    return c
            left = end - time.monotonic()
            r, _, _ = select.select([self.listener] + [c.sock for c in self.open], [], [],
                                    max(left, 0))
            if not r:
                raise PeerError("%s: no request came within %.1f s" % (self.name, timeout))
            for s in r:
                if s is self.listener:
                    self.accept()
                    continue
                c = [c for c in self.open if c.sock is s][0]
                if not c.more():
                    self.open.remove(c)
                    c.sock.close()

    def rx(self, starts="", timeout=TIMEOUT):
        self.last = self.ready(timeout)
        return self.last.rx(starts)

    def rx_head(self, starts=""):
        self.last = self.ready()
        return self.last.rx_head(starts)

    def tx(self, data):
        self.last.tx(data)

    def answer(self, starts="", status="200 OK", body="", *fields):
        """The next request is read and answered; returns the request."""
        r = self.rx(starts)
        self.tx("HTTP/1.1 %s\n%sContent-Length: %d\n\n%s" % (
            status, "".join(f + "\n" for f in fields), len(body), body))
        return r

    def untouched(self, seconds=0.2):
        """No request and no connection arrives for a short while."""
        r, _, _ = select.select([self.listener] + [c.sock for c in self.open], [], [], seconds)
        for s in r:
            if s is self.listener:
                raise PeerError("%s: an unexpected connection" % self.name)
            c = [c for c in self.open if c.sock is s][0]
            if c.more():
                raise PeerError("%s: unexpected bytes %r" % (self.name, c.buf))

    def stop(self):
        for c in self.open:
            c.sock.close()
        self.listener.close()
        self.open = []
