"""Whoever can reach the port is a stranger: what they get of the real program. test_web.py has the rest."""

from __future__ import annotations

import http.client
import os
import re
import ssl
import subprocess
from base64 import b64encode
from contextlib import closing, suppress
from pathlib import Path

import bcrypt
import pytest
from certificates import Authority
from exporter_process import PROGRAM, ExporterProcess
from fake_sqs import FakeSqs
from test_web import has_ipv6

PASSWORD = "right"  # noqa: S105 - of a test
LISTENING_STATE = "0A"


def listening_addresses(pid: int) -> set[str]:
    """Return the addresses, in hexadecimal as Linux keeps them, on which the process listens."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            inodes.update(re.findall(r"socket:\[(\d+)\]", str(descriptor.readlink())))
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING_STATE and fields[9] in inodes:
                addresses.add(fields[1].partition(":")[0])
    return addresses


def test_without_being_told_it_listens_on_loopback_alone_and_says_so(tmp_path: Path) -> None:
    """127.0.0.1:9797 is in the log or, where somebody has the port, in the sentence it ends with."""
    with FakeSqs() as sqs:
        process = subprocess.Popen(
            [PROGRAM, "run", "--queue", "events", "--ledger.path", tmp_path / "ledger.db"],
            env={"PATH": os.environ["PATH"], **sqs.environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stderr is not None
            try:
                said = process.stderr.readline()
                assert "127.0.0.1:9797" in said
                if "listening" in said:
                    assert listening_addresses(process.pid) == {"0100007F"}
            finally:
                process.kill()


@pytest.mark.parametrize("address", [":0", "[::]:0"])
def test_told_to_it_listens_on_every_address_and_says_so(tmp_path: Path, address: str) -> None:
    """An address without a host, or with IPv6's word for all of them, is a decision, and the log's first line shows it.

    As in Go, both mean both families.
    """
    arguments = ["--queue", "events", "--ledger.path", str(tmp_path / "ledger.db"), "--web.listen-address", address]
    with FakeSqs() as sqs:
        process = subprocess.Popen(
            [PROGRAM, "run", *arguments],
            env={"PATH": os.environ["PATH"], **sqs.environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stderr is not None
            try:
                said = next(line for line in process.stderr if "listening" in line)
                assert "http://localhost:" in said
                assert "00000000" in listening_addresses(process.pid)
                if has_ipv6():
                    assert "0" * 32 in listening_addresses(process.pid)
            finally:
                process.kill()


def ask(exporter: ExporterProcess, context: ssl.SSLContext, path: str, user: str | None = None) -> tuple[int, str]:
    """Ask for a page over TLS, with or without "user:password"."""
    headers = {"Authorization": f"Basic {b64encode(user.encode()).decode()}"} if user else {}
    with closing(http.client.HTTPSConnection("127.0.0.1", exporter.port, timeout=5, context=context)) as connection:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def test_tls_client_certificates_and_passwords_from_the_web_config_file(tmp_path: Path) -> None:
    """Nothing without TLS, nothing without a certificate of the authority, nothing without the password; then all."""
    authority = Authority(tmp_path)
    server, client = authority.sign("server"), authority.sign("client")
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    (tmp_path / "web.yml").write_text(
        f"tls_server_config:\n  cert_file: {server.certificate.name}\n  key_file: {server.key.name}\n"
        f"  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: {authority.certificate.name}\n"
        f"basic_auth_users:\n  admin: {hashed}\n"
    )
    unknown = ssl.create_default_context(cafile=str(authority.certificate))
    known = ssl.create_default_context(cafile=str(authority.certificate))
    known.load_cert_chain(client.certificate, client.key)
    flags = ("--web.config.file", str(tmp_path / "web.yml"), "--shutdown.timeout", "100ms")
    with FakeSqs() as sqs, ExporterProcess(sqs.environment, tmp_path / "ledger.db", *flags) as exporter:
        assert exporter.log[0]["listening"].startswith("https://")
        with pytest.raises(OSError, match=r"reset|closed|without response|Remote end"):
            exporter.get("/metrics")
        with pytest.raises(OSError, match=r"(?i)certificate required|closed|reset|eof"):
            ask(exporter, unknown, "/metrics", f"admin:{PASSWORD}")
        for path in ("/", "/metrics", "/-/healthy", "/-/ready", "/nothing"):
            for user in (None, "admin:wrong", f"other:{PASSWORD}", "admin:"):
                status, text = ask(exporter, known, path, user)
                assert (status, "sqs_" in text) == (401, False)
        status, text = ask(exporter, known, "/metrics", f"admin:{PASSWORD}")
        assert status == 200
        assert "sqs_exporter_build_info" in text
        assert exporter.terminate() == 0
        assert not any("Traceback" in line for line in exporter.stderr)
