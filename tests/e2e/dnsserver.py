"""A name server for tests: A and AAAA from a table that may change while it runs; counts questions."""
import socket
import struct
import threading


class DnsServer:
    """names: {"host": {"A": ["127.0.0.1"], "AAAA": [...], "ttl": 1}}; a name that is missing is NXDOMAIN;
    the value None is never answered."""

    def __init__(self, names, transcript):
        self.names, self.transcript = names, transcript
        self.questions = []
        self.asked = threading.Condition()
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                packet, peer = self.sock.recvfrom(4096)
            except OSError:
                return
            if not packet:
                return
            answer = self.answer(packet)
            if answer:
                self.sock.sendto(answer, peer)

    def answer(self, q):
        at, labels = 12, []
        while q[at]:
            labels.append(q[at + 1:at + 1 + q[at]].decode("latin-1"))
            at += 1 + q[at]
        at += 1
        kind, _ = struct.unpack("!HH", q[at:at + 4])
        name = ".".join(labels).lower()
        self.transcript.add("dns", "rx", "%s type %d" % (name, kind))
        with self.asked:
            self.questions.append((name, kind))
            self.asked.notify_all()
        entry = self.names.get(name, "nx")
        if entry is None:
            return None
        records = []
        if entry != "nx":
            for key, number, family in (("A", 1, socket.AF_INET), ("AAAA", 28, socket.AF_INET6)):
                if kind == number:
                    records = [socket.inet_pton(family, a) for a in entry.get(key, [])]
        flags = 0x8180 | (3 if entry == "nx" else 0)
        out = q[:2] + struct.pack("!HHHHH", flags, 1, len(records), 0, 0) + q[12:at + 4]
        for r in records:
            out += struct.pack("!HHHIH", 0xC00C, kind, 1, entry.get("ttl", 60), len(r)) + r
        return out

    def wait_for(self, count, timeout=10):
        """Until that many questions have come."""
        with self.asked:
            assert self.asked.wait_for(lambda: len(self.questions) >= count, timeout), \
                "only %d DNS questions: %r" % (len(self.questions), self.questions)

    def stop(self):
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.sendto(b"", ("127.0.0.1", self.port))
        finally:
            self.thread.join(2)
            self.sock.close()
