"""TLS as exporter-toolkit's `tls_server_config` describes it, for Python's ssl."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_TLS13_SUITES = frozenset({"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"})
_SUITES = {
    f"TLS_ECDHE_{signature}_WITH_{go}": f"ECDHE-{signature}-{openssl}"
    for signature in ("ECDSA", "RSA")
    for go, openssl in (
        ("AES_128_CBC_SHA", "AES128-SHA"),
        ("AES_256_CBC_SHA", "AES256-SHA"),
        ("AES_128_GCM_SHA256", "AES128-GCM-SHA256"),
        ("AES_256_GCM_SHA384", "AES256-GCM-SHA384"),
        ("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305"),
    )
}
"""Go's names (https://pkg.go.dev/crypto/tls#CipherSuites) and OpenSSL's."""


class TlsError(Exception):
    """What is wrong with the value of `key`, as the rest of a sentence that begins with the key's name."""

    def __init__(self, key: str, what: str) -> None:
        super().__init__(what)
        self.key = key


def _version(text: object) -> object:
    if text in ("TLS10", "TLS11"):
        raise ValueError(f"is {text}, which is broken and not offered (RFC 8996): use TLS12 or TLS13")
    return text


def _client_auth_type(text: object) -> object:
    if text in ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert"):
        raise ValueError(
            f"is {text}, which trusts certificates unseen and which Python's ssl can't do: "
            "use RequireAndVerifyClientCert or VerifyClientCertIfGiven"
        )
    return text


def _suite(name: str) -> str:
    if name not in _SUITES and name not in _TLS13_SUITES:
        raise ValueError(f"is not one of {', '.join(sorted({*_SUITES, *_TLS13_SUITES}))}")
    return name


_Version = Annotated[Literal["TLS12", "TLS13"], BeforeValidator(_version)]
_File = Annotated[Path, Field(strict=False)]


class TlsSettings(BaseModel):
    """The keys of `tls_server_config`. Raises pydantic's ValidationError for what can't be offered."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    cert_file: _File
    key_file: _File
    client_auth_type: Annotated[
        Literal["NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"],
        BeforeValidator(_client_auth_type),
    ] = "NoClientCert"
    client_ca_file: _File | None = None
    min_version: _Version = "TLS12"
    max_version: _Version = "TLS13"
    cipher_suites: list[Annotated[str, AfterValidator(_suite)]] = []
    prefer_server_cipher_suites: bool = True

    @model_validator(mode="after")
    def _fits_together(self) -> TlsSettings:
        if self.client_ca_file is not None and self.client_auth_type == "NoClientCert":
            raise ValueError(
                "has client_ca_file but asks for no client certificates: "
                "add client_auth_type: RequireAndVerifyClientCert, or remove it"
            )
        if self.client_ca_file is None and self.client_auth_type != "NoClientCert":
            raise ValueError(
                f"asks for {self.client_auth_type} but lacks client_ca_file: name the CA that signs clients"
            )
        if self.min_version > self.max_version:
            raise ValueError("has a min_version above its max_version: swap them")
        if self.max_version == "TLS12" and self.cipher_suites and not _SUITES.keys() & self.cipher_suites:
            raise ValueError(
                "has cipher_suites of TLS 1.3 alone and a max_version of TLS12: add one of TLS 1.2, "
                "such as TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, or remove max_version"
            )
        return self

    def beside(self, directory: Path) -> TlsSettings:
        """Return the same with its relative paths taken as beside the file, in `directory`."""
        paths = {key: directory / path for key, path in self._paths().items()}
        return self.model_copy(update=paths)

    def files(self) -> tuple[Path, ...]:
        """Return the files it names."""
        return tuple(self._paths().values())

    def _paths(self) -> dict[str, Path]:
        named = {"cert_file": self.cert_file, "key_file": self.key_file, "client_ca_file": self.client_ca_file}
        return {key: path for key, path in named.items() if path is not None}


def make_context(tls: TlsSettings) -> ssl.SSLContext:
    """Load certificate, key and CA. Raises TlsError where a file can't be read or does not hold what it should."""
    for key, path in (("cert_file", tls.cert_file), ("key_file", tls.key_file), ("client_ca_file", tls.client_ca_file)):
        if path is not None:
            _check_readable(key, path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[tls.min_version]
    context.maximum_version = _VERSIONS[tls.max_version]
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if tls.prefer_server_cipher_suites:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    else:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    _choose_suites(context, tls)
    context.set_alpn_protocols(["http/1.1"])
    try:
        # The empty password keeps OpenSSL from asking for one on the terminal.
        context.load_cert_chain(tls.cert_file, tls.key_file, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsError("key_file", f"({tls.key_file}) is not the key of the certificate in cert_file") from None
        raise TlsError("cert_file", _unusable(tls)) from None
    except (OSError, ValueError):
        raise TlsError("cert_file", _unusable(tls)) from None
    if tls.client_ca_file is not None:
        try:
            context.load_verify_locations(tls.client_ca_file)
        except OSError:
            raise TlsError("client_ca_file", f"({tls.client_ca_file}) holds no certificate in PEM form") from None
        required = tls.client_auth_type == "RequireAndVerifyClientCert"
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    return context


def _unusable(tls: TlsSettings) -> str:
    return f"({tls.cert_file}) and key_file ({tls.key_file}) are not a certificate and its unencrypted key in PEM form"


def _check_readable(key: str, path: Path) -> None:
    try:
        with path.open("rb") as file:
            file.read(1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not the path of a file"
        raise TlsError(key, f"({path}) can't be read: {why}") from None


def _choose_suites(context: ssl.SSLContext, tls: TlsSettings) -> None:
    suites = [_SUITES[name] for name in tls.cipher_suites if name in _SUITES]
    if suites:
        context.set_ciphers(":".join(suites))
    elif tls.cipher_suites:
        # As in Go, a list of TLS 1.3's suites alone leaves TLS 1.2 with none.
        context.minimum_version = ssl.TLSVersion.TLSv1_3
