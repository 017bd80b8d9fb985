"""Throw-away certificates, made by the openssl command once per run."""
import ssl
import subprocess

NAMES = ["a.example", "b.example", "origin.example", "client.example"]


def run(*args, **kw):
    p = subprocess.run(["openssl"] + list(args), capture_output=True, text=True, **kw)
    assert p.returncode == 0, p.stderr


class Certs:
    def __init__(self, folder):
        self.folder = folder
        self.ca = folder / "ca.pem"
        self.make_ca("ca")
        self.make_ca("other-ca")
        for n in NAMES:
            self.make(n, [n])
        self.make("wild", ["*.wild.example"])
        self.make("stranger", ["origin.example"], ca="other-ca")

    def make_ca(self, name):
        run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", str(self.folder / (name + ".key")), "-out", str(self.folder / (name + ".pem")),
            "-days", "30", "-subj", "/CN=" + name,
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=keyCertSign,cRLSign")

    def make(self, name, hosts, ca="ca"):
        """name.pem and name.key for the hosts, signed by the CA."""
        key, csr, pem = (self.folder / (name + e) for e in (".key", ".csr", ".pem"))
        ext = self.folder / (name + ".ext")
        alt = ",".join(("IP:" if h[0].isdigit() else "DNS:") + h for h in hosts)
        ext.write_text("subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n" % alt)
        run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", str(key), "-out", str(csr), "-subj", "/CN=" + hosts[0])
        run("x509", "-req", "-in", str(csr), "-CA", str(self.folder / (ca + ".pem")),
            "-CAkey", str(self.folder / (ca + ".key")), "-CAcreateserial", "-days", "30",
            "-extfile", str(ext), "-out", str(pem))

    def pem(self, name):
        return self.folder / (name + ".pem")

    def key(self, name):
        return self.folder / (name + ".key")

    def client(self, alpn=None, cert=None, version=None, ca="ca"):
        """A client's context that trusts our CA."""
        c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        c.load_verify_locations(self.pem(ca))
        if alpn:
            c.set_alpn_protocols(alpn)
        if cert:
            c.load_cert_chain(self.pem(cert), self.key(cert))
        if version:
            c.minimum_version = c.maximum_version = version
        return c

    def server(self, name="origin.example", alpn=None, client_ca=None, version=None):
        """An origin's context; remembers the last SNI in last_sni."""
        c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        c.load_cert_chain(self.pem(name), self.key(name))
        c.last_sni = None

        def saw(sock, sni, context):
            c.last_sni = sni
        c.sni_callback = saw
        if alpn:
            c.set_alpn_protocols(alpn)
        if client_ca:
            c.load_verify_locations(self.pem(client_ca))
            c.verify_mode = ssl.CERT_REQUIRED
        if version:
            c.minimum_version = c.maximum_version = version
        return c
