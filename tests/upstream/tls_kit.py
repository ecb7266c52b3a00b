"""Certificates made for one test run: an authority, a server of 127.0.0.1, a client; and a stranger's authority."""

import ssl
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme


class Certificates(NamedTuple):
    """Files in PEM."""

    ca: Path
    server_pem: Path
    client_cert: Path
    client_key: Path
    stranger_ca: Path

    def server(self, *, wants_client: bool = False) -> ssl.SSLContext:
        """A server's context; `wants_client`: it speaks only to those who show a certificate of the same authority."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.server_pem)
        if wants_client:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.ca)
        return context


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("tls")
    ca, stranger = trustme.CA(), trustme.CA()
    server, client = ca.issue_cert("127.0.0.1"), ca.issue_cert("client@example.com")
    made = Certificates(*(folder / name for name in ("ca.pem", "server.pem", "client.pem", "client.key", "other.pem")))
    ca.cert_pem.write_to_path(made.ca)
    stranger.cert_pem.write_to_path(made.stranger_ca)
    server.private_key_and_cert_chain_pem.write_to_path(made.server_pem)
    client.private_key_pem.write_to_path(made.client_key)
    made.client_cert.write_bytes(b"".join(blob.bytes() for blob in client.cert_chain_pems))
    return made
