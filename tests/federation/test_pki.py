"""Transport keys: who can read them, what the certificates allow, and that TLS accepts them."""

import http.client
import ssl
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from synthkit.errors import InputError
from synthkit.federation.pki import create_authority, create_node_key, create_server_certificate


@pytest.fixture
def files(tmp_path):
    return create_server_certificate(tmp_path, create_authority(tmp_path))


class Quiet(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments):
        pass


def get(port, context):
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=context)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status
    finally:
        connection.close()


def test_only_the_pinned_authority_is_accepted(tmp_path, files):
    other = tmp_path / "other"
    other.mkdir()
    create_authority(other)
    server = HTTPServer(("127.0.0.1", 0), Quiet)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        assert get(server.server_port, ssl.create_default_context(cafile=str(files.authority))) == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            get(server.server_port, ssl.create_default_context(cafile=str(other / "ca.pem")))
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_private_keys_are_for_their_owner_alone(tmp_path, files):
    create_node_key(tmp_path / "node")
    for name in ("ca.key", "server.key", "node"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_the_server_certificate_cannot_sign_and_names_loopback(files):
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


def test_the_authority_signs_servers_but_no_further_authority(files):
    certificate = x509.load_pem_x509_certificate(files.authority.read_bytes())
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (True, 0)


def test_a_node_key_is_what_flower_reads(tmp_path):
    """OpenSSH form on P-384; the PEM handed back is the same key's public half."""
    pem = create_node_key(tmp_path / "node")
    private = serialization.load_ssh_private_key((tmp_path / "node").read_bytes(), None)
    line = serialization.load_ssh_public_key((tmp_path / "node.pub").read_bytes())
    assert isinstance(private.curve, ec.SECP384R1)
    public = serialization.load_pem_public_key(pem)
    assert private.public_key().public_numbers() == public.public_numbers() == line.public_numbers()


def test_no_key_is_ever_overwritten(tmp_path, files):
    before = (tmp_path / "ca.key").read_bytes()
    with pytest.raises(InputError, match=r"ca\.key: already there"):
        create_authority(tmp_path)
    assert (tmp_path / "ca.key").read_bytes() == before
    create_node_key(tmp_path / "node")
    with pytest.raises(InputError, match="node: already there"):
        create_node_key(tmp_path / "node")
