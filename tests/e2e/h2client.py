"""An HTTP/2 client for tests, on python3-h2: several streams on one connection, step by step."""
import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import socket
import ssl
import time

from peers import TIMEOUT, Fields, PeerError, Response


class H2Client:
    def __init__(self, sock, transcript, who="h2", auto_credit=True, settings=None):
        self.sock, self.transcript, self.who = sock, transcript, who
        self.auto_credit = auto_credit
        self.conn = h2.connection.H2Connection(h2.config.H2Configuration(
            client_side=True, header_encoding="utf-8", validate_outbound_headers=False,
            normalize_outbound_headers=False, validate_inbound_headers=True))
        if settings:
            self.conn.update_settings(settings)
        self.conn.initiate_connection()
        self.streams = {}
        self.goaway = None
        self.closed = False
        self.settings = False  # the other side's first SETTINGS have come
        self.flush()

    def flush(self):
        data = self.conn.data_to_send()
        if data:
            try:
                self.sock.sendall(data)
            except OSError as e:
                raise PeerError("%s: could not send: %s" % (self.who, e))

    def stream(self, sid):
        return self.streams.setdefault(sid, {"head": None, "data": b"", "trailers": Fields(),
                                             "end": False, "reset": None, "interim": []})

    def request(self, method="GET", path="/", *fields, body=None, end=None, scheme="http",
                authority="example.com"):
        """Opens a stream; with end=False its body follows by send()."""
        sid = self.conn.get_next_available_stream_id()
        heads = [(":method", method), (":scheme", scheme), (":authority", authority), (":path", path)]
        heads = [h for h in heads if h[1] is not None] + list(fields)
        end = body is None if end is None else end
        self.transcript.add(self.who, "tx", "stream %d %r%s" % (sid, heads, " END" if end else ""))
        self.conn.send_headers(sid, heads, end_stream=end)
        self.stream(sid)
        self.flush()
        if body is not None:
            self.send(sid, body, end=True)
        return sid

    def send(self, sid, data, end=False, timeout=TIMEOUT):
        """Data within the windows the other side grants."""
        stop = time.monotonic() + timeout
        self.transcript.add(self.who, "tx", "stream %d %d bytes%s" % (sid, len(data), " END" if end else ""))
        while True:
            room = min(self.conn.local_flow_control_window(sid), self.conn.max_outbound_frame_size)
            part, data = data[:room], data[room:]
            if part or not data:
                self.conn.send_data(sid, part, end_stream=end and not data)
                self.flush()
            if not data:
                return
            if self.conn.local_flow_control_window(sid) <= 0:
                self.step(stop, "room in the window of stream %d" % sid)

    def trailers(self, sid, *fields):
        self.conn.send_headers(sid, list(fields), end_stream=True)
        self.flush()

    def reset(self, sid, code=8):
        try:
            self.conn.reset_stream(sid, code)
        except h2.exceptions.StreamClosedError:
            return  # it had ended already
        self.transcript.add(self.who, "tx", "stream %d RST %d" % (sid, code))
        self.flush()

    def credit(self, n, sid=None):
        """Grants n more bytes (auto_credit=False)."""
        if sid is not None:
            self.conn.increment_flow_control_window(n, sid)
        self.conn.increment_flow_control_window(n)
        self.flush()

    def step(self, stop, what):
        left = stop - time.monotonic()
        if left <= 0:
            raise PeerError("%s: no %s in time" % (self.who, what))
        self.sock.settimeout(left)
        try:
            data = self.sock.recv(65536)
        except (socket.timeout, TimeoutError):
            raise PeerError("%s: no %s in time" % (self.who, what))
        except (ConnectionResetError, ssl.SSLError):
            data = b""
        if not data:
            self.closed = True
            self.transcript.add(self.who, "rx", "end of the connection")
            return
        for e in self.conn.receive_data(data):
            self.event(e)
        self.flush()

    def event(self, e):
        self.transcript.add(self.who, "rx", repr(e)[:300])
        if isinstance(e, h2.events.ResponseReceived):
            self.stream(e.stream_id)["head"] = Fields(e.headers)
        elif isinstance(e, h2.events.InformationalResponseReceived):
            self.stream(e.stream_id)["interim"].append(Fields(e.headers))
        elif isinstance(e, h2.events.TrailersReceived):
            self.stream(e.stream_id)["trailers"] = Fields(e.headers)
        elif isinstance(e, h2.events.DataReceived):
            self.stream(e.stream_id)["data"] += e.data
            if self.auto_credit and e.flow_controlled_length:
                try:
                    self.conn.acknowledge_received_data(e.flow_controlled_length, e.stream_id)
                except h2.exceptions.StreamClosedError:
                    pass
        elif isinstance(e, h2.events.StreamEnded):
            self.stream(e.stream_id)["end"] = True
        elif isinstance(e, h2.events.StreamReset):
            self.stream(e.stream_id)["reset"] = int(e.error_code)
        elif isinstance(e, h2.events.ConnectionTerminated):
            self.goaway = int(e.error_code)
            # python3-h2 takes nothing more after a GOAWAY; open streams go on all the same.
            self.conn.state_machine.state = h2.connection.ConnectionState.CLIENT_OPEN
        elif isinstance(e, h2.events.RemoteSettingsChanged):
            self.settings = True

    def wait(self, sid, done, what, timeout=TIMEOUT):
        stop = time.monotonic() + timeout
        s = self.stream(sid)
        while not done(s):
            if self.closed:
                raise PeerError("%s: the connection ended, no %s of stream %d (GOAWAY %s)" % (
                    self.who, what, sid, self.goaway))
            self.step(stop, "%s of stream %d" % (what, sid))
        return s

    def head(self, sid):
        """Waits for the head alone."""
        s = self.wait(sid, lambda s: s["head"] is not None or s["reset"] is not None, "head")
        assert s["reset"] is None, "stream %d was reset: %s" % (sid, s["reset"])
        return s["head"]

    def data(self, sid, n):
        """Waits for n bytes of body in all."""
        return self.wait(sid, lambda s: len(s["data"]) >= n or s["end"], "%d bytes" % n)["data"]

    def rx(self, sid):
        s = self.wait(sid, lambda s: s["end"] or s["reset"] is not None, "end")
        assert s["reset"] is None, "stream %d was reset: %s" % (sid, s["reset"])
        return Response(int(s["head"].get(":status")), s["data"], headers=s["head"],
                        trailers=s["trailers"], interim=s["interim"])

    def rx_reset(self, sid):
        return self.wait(sid, lambda s: s["reset"] is not None, "reset")["reset"]

    def rx_goaway(self, timeout=TIMEOUT):
        stop = time.monotonic() + timeout
        while self.goaway is None and not self.closed:
            self.step(stop, "GOAWAY")
        return self.goaway

    def rx_settings(self, timeout=TIMEOUT):
        stop = time.monotonic() + timeout
        while not self.settings:
            assert not self.closed, "%s: the connection ended before SETTINGS" % self.who
            self.step(stop, "SETTINGS")
        return self.conn.remote_settings

    def rx_close(self, timeout=TIMEOUT):
        stop = time.monotonic() + timeout
        while not self.closed:
            self.step(stop, "end of the connection")

    def close(self):
        self.sock.close()
