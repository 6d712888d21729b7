"""The file of --web.config.file: what is read, and the sentence for what is not."""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import TYPE_CHECKING

import bcrypt
import pytest
import yaml
from certificates import Authority
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.errors import WrongSettingError
from exporter.web.config import read_web_config

if TYPE_CHECKING:
    from pathlib import Path

# The salt stands still: a test is known by its parameters, and two processes have to find the same tests.
HASH = bcrypt.hashpw(b"correct horse", b"$2b$04$abcdefghijklmnopqrstuu").decode()
TLS = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a directory with a CA, a server's certificate and key, and files that are neither."""
    directory = tmp_path_factory.mktemp("web-config")
    authority = Authority(directory)
    authority.sign("server")
    authority.sign("other")
    authority.sign("locked", password=b"secret")
    (directory / "empty.pem").write_bytes(b"")
    return directory


def written(directory: Path, text: str) -> str:
    """Write the file and return its path."""
    path = directory / "web.yml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def refused(directory: Path, text: str) -> str:
    """Return the sentence with which a file is refused, without the directory."""
    with pytest.raises(WrongSettingError) as caught:
        read_web_config(written(directory, text))
    assert caught.value.exit_code == 2
    sentence = str(caught.value).replace(f"{directory}/", "")
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("text", ["", "# nothing\n", "basic_auth_users: {}\n", "http_server_config:\n  http2: false\n"])
def test_a_file_that_asks_for_nothing_changes_nothing(directory: Path, text: str) -> None:
    """As with exporter-toolkit, an empty file means plain HTTP for everyone."""
    config = read_web_config(written(directory, text))
    assert (config.ssl_context, dict(config.users), dict(config.headers)) == (None, {}, {})


def test_a_whole_file_is_read(directory: Path) -> None:
    """Every supported key of exporter-toolkit's format takes effect; paths are relative to the file."""
    text = f"""\
tls_server_config:
  cert_file: server.pem
  key_file: {directory}/server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.pem
  min_version: TLS12
  max_version: TLS12
  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]
  prefer_server_cipher_suites: false
http_server_config:
  http2: true
  headers:
    Strict-Transport-Security: max-age=31536000
    X-Frame-Options: deny
basic_auth_users:
  alice: {HASH}
"""
    config = read_web_config(written(directory, text))
    context = config.ssl_context
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert (context.minimum_version, context.maximum_version) == (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2)
    assert "ECDHE-ECDSA-AES128-GCM-SHA256" in {cipher["name"] for cipher in context.get_ciphers()}
    assert "ECDHE-ECDSA-AES256-GCM-SHA384" not in {cipher["name"] for cipher in context.get_ciphers()}
    assert not context.options & ssl.OP_CIPHER_SERVER_PREFERENCE
    assert dict(config.users) == {"alice": HASH.encode()}
    assert dict(config.headers) == {"Strict-Transport-Security": "max-age=31536000", "X-Frame-Options": "deny"}
    assert HASH not in repr(config)


def test_defaults_are_tls_1_2_and_later_and_no_client_certificates(directory: Path) -> None:
    """What a file leaves out is what exporter-toolkit would do."""
    context = read_web_config(written(directory, TLS)).ssl_context
    assert context is not None
    assert context.verify_mode is ssl.CERT_NONE
    assert (context.minimum_version, context.maximum_version) == (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
    assert context.options & ssl.OP_CIPHER_SERVER_PREFERENCE


def test_certificates_may_be_asked_for_and_not_required(directory: Path) -> None:
    """VerifyClientCertIfGiven is what ssl calls optional."""
    text = TLS + "  client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: ca.pem\n"
    context = read_web_config(written(directory, text)).ssl_context
    assert context is not None
    assert context.verify_mode is ssl.CERT_OPTIONAL


def test_suites_of_tls_1_3_alone_leave_tls_1_2_out(directory: Path) -> None:
    """As in Go, a list without a suite of TLS 1.2 offers none."""
    context = read_web_config(written(directory, TLS + "  cipher_suites: [TLS_AES_128_GCM_SHA256]\n")).ssl_context
    assert context is not None
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("tls_server_confg: {}\n", "web.yml:1 (tls_server_confg) is not a known key; did you mean tls_server_config?"),
        (
            "frobnicate: 1\n",
            (
                "web.yml:1 (frobnicate) is not a known key; "
                "known are tls_server_config, http_server_config, basic_auth_users"
            ),
        ),
        (TLS + "  cert_fle: x\n", "web.yml:4 (tls_server_config.cert_fle) is not a known key; did you mean cert_file?"),
        ("tls_server_config:\n  cert_file: server.pem\n", "web.yml:1 (tls_server_config) lacks key_file"),
        ("tls_server_config: yes\n", "web.yml:1 (tls_server_config) is not a mapping: write keys with their values"),
        ("- a\n- b\n", "web.yml:1 (the file) is not a mapping: write keys with their values"),
        ("a: [1\n", "web.yml:2 is not YAML: "),
        ("basic_auth_users:\n  a: x\n  a: y\n", "web.yml:3 is not YAML: a key stands twice"),
        (TLS + "  min_version: TLS11\n", "web.yml:4 (tls_server_config.min_version) is TLS11, which is broken and"),
        (TLS + "  max_version: TLS10\n", "web.yml:4 (tls_server_config.max_version) is TLS10, which is broken and"),
        (TLS + "  min_version: TLS14\n", "web.yml:4 (tls_server_config.min_version) is wrong: it should be 'TLS12' or"),
        (
            TLS + "  min_version: TLS13\n  max_version: TLS12\n",
            "web.yml:1 (tls_server_config) has a min_version above its max_version: swap them",
        ),
        (
            TLS + "  max_version: TLS12\n  cipher_suites: [TLS_AES_128_GCM_SHA256]\n",
            "web.yml:1 (tls_server_config) has cipher_suites of TLS 1.3 alone and a max_version of TLS12: add one of",
        ),
        (
            TLS + "  client_auth_type: RequestClientCert\n",
            (
                "web.yml:4 (tls_server_config.client_auth_type) is RequestClientCert, which trusts certificates unseen "
                "and which Python's ssl can't do: use RequireAndVerifyClientCert or VerifyClientCertIfGiven"
            ),
        ),
        (TLS + "  client_auth_type: RequireAnyClientCert\n", "web.yml:4 (tls_server_config.client_auth_type) is Requ"),
        (TLS + "  client_auth_type: Always\n", "web.yml:4 (tls_server_config.client_auth_type) is wrong: it should be"),
        (
            TLS + "  client_auth_type: RequireAndVerifyClientCert\n",
            "web.yml:1 (tls_server_config) asks for RequireAndVerifyClientCert but lacks client_ca_file",
        ),
        (
            TLS + "  client_ca_file: ca.pem\n",
            "web.yml:1 (tls_server_config) has client_ca_file but asks for no client certificates",
        ),
        (TLS + "  curve_preferences: [X25519]\n", "web.yml:4 (tls_server_config.curve_preferences) is not supported: "),
        (TLS + "  client_allowed_sans: [a]\n", "web.yml:4 (tls_server_config.client_allowed_sans) is not supported: "),
        ("rate_limit:\n  burst: 1\n", "web.yml:1 (rate_limit) is not supported: remove it"),
        (
            TLS + "  cipher_suites:\n  - TLS_AES_128_GCM_SHA256\n  - TLS_RSA_WITH_RC4_128_SHA\n",
            "web.yml:6 (tls_server_config.cipher_suites.1) is not one of TLS_AES_128_GCM_SHA256, ",
        ),
        (TLS + "  prefer_server_cipher_suites: maybe\n", "web.yml:4 (tls_server_config.prefer_server_cipher_suites) "),
        (
            TLS.replace("server.pem", "gone.pem"),
            "web.yml:2 (tls_server_config.cert_file) (gone.pem) can't be read: No such file or directory",
        ),
        (
            TLS.replace("server.key", "other.key"),
            "web.yml:3 (tls_server_config.key_file) (other.key) is not the key of the certificate in cert_file",
        ),
        (
            TLS.replace("server.key", "locked.key").replace("server.pem", "locked.pem"),
            (
                "web.yml:2 (tls_server_config.cert_file) (locked.pem) and key_file (locked.key) are not a certificate "
                "and its unencrypted key in PEM form"
            ),
        ),
        (TLS.replace("server.pem", "empty.pem"), "web.yml:2 (tls_server_config.cert_file) (empty.pem) and key_file"),
        (
            TLS + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: empty.pem\n",
            "web.yml:5 (tls_server_config.client_ca_file) (empty.pem) holds no certificate in PEM form",
        ),
        (
            "http_server_config:\n  headers:\n    Server: me\n",
            "web.yml:2 (http_server_config.headers) sets a header that can't be set: use Content-Security-Policy, ",
        ),
        (
            "http_server_config:\n  headers:\n    X-Frame-Options: maybe\n",
            "web.yml:2 (http_server_config.headers) has a wrong value for X-Frame-Options: use deny or sameorigin",
        ),
        (
            'http_server_config:\n  headers:\n    X-XSS-Protection: "1\\r\\nSet-Cookie: a"\n',
            "web.yml:2 (http_server_config.headers) has a wrong value for X-XSS-Protection: use printable ASCII",
        ),
        (
            "basic_auth_users:\n  alice: hunter2\n",
            "web.yml:2 (basic_auth_users.alice) is not a bcrypt hash, as `htpasswd -nBC 10 NAME` writes it after",
        ),
        (
            f"basic_auth_users:\n  alice: {HASH.replace('$04$', '$15$')}\n",
            "web.yml:2 (basic_auth_users.alice) has a cost of 15: use 10, and never more than 14",
        ),
        (
            "basic_auth_users:\n  alice: 12345\n",
            "web.yml:2 (basic_auth_users.alice) is not text: write one value",
        ),
        ("basic_auth_users:\n  1: x\n", "web.yml:2 (basic_auth_users.1) is a key that is not text"),
    ],
)
def test_a_wrong_file_is_refused_with_the_line_and_what_would_be_right(
    directory: Path, text: str, sentence: str
) -> None:
    """Whoever wrote it learns where and what, in one sentence."""
    assert refused(directory, text).startswith(sentence)


@pytest.mark.parametrize("secret", ["hunter2", "$2b$04$tooshort", HASH.replace("$04$", "$15$")])
def test_no_password_or_hash_is_shown(directory: Path, secret: str) -> None:
    """The sentence goes to a log that more people read than the file."""
    assert secret not in refused(directory, f"basic_auth_users:\n  alice: {secret}\n")


def test_an_inline_key_is_refused_without_showing_it(directory: Path) -> None:
    """exporter-toolkit takes keys in the file itself, which Python's ssl can't; the way out is named."""
    sentence = refused(directory, "tls_server_config:\n  cert: AAAA\n  key: TOPSECRET\n")
    assert "TOPSECRET" not in sentence


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The flag and the variable that may have named it, the path and the reason."""
    with pytest.raises(
        WrongSettingError,
        match=r"--web.config.file \(EXPORTER_WEB__CONFIG__FILE\) is .*gone.yml', which can't be read: No such",
    ):
        read_web_config(str(tmp_path / "gone.yml"))


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\x00", b"a: !!python/object:os.system x", b"[" * 5_000])
def test_garbage_is_refused_with_a_sentence(tmp_path: Path, content: bytes) -> None:
    """No file brings a traceback."""
    path = tmp_path / "web.yml"
    path.write_bytes(content)
    with pytest.raises(WrongSettingError):
        read_web_config(str(path))


def test_any_of_the_files_changing_is_noticed(directory: Path) -> None:
    """The file itself, the certificate, the key and the CA are each looked at."""
    text = TLS + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n"
    path = written(directory, text)
    for name in ("web.yml", "server.pem", "server.key", "ca.pem"):
        config = read_web_config(path)
        assert config.current_stamps() == config.stamps
        with (directory / name).open("a", encoding="utf-8") as file:
            file.write("\n")
        assert config.current_stamps() != config.stamps, name


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("? [a, b]\n: c\n", "web.yml:1 is not YAML: a key is not text"),
        ("basic_auth_users:\n  {? {x: y}: z}\n", "web.yml:2 is not YAML: a key is not text"),
        ("{!!str [a]: 1}\n", "web.yml:1 is not YAML: a key is not text"),
        ("!!map [a]\n", "web.yml:1 is not YAML: it is not a mapping"),
        ("1: 2\n", "web.yml:1 (1) is a key that is not text: put it in quotes"),
        ("http_server_config:\n  headers: {1: 2}\n", "headers.1) is a key that is not text: put it in quotes"),
        ("basic_auth_users:\n  a: [b]\n", "web.yml:2 (basic_auth_users.a) is not text: write one value"),
        ("http_server_config:\n  http2: [1]\n", "web.yml:2 (http_server_config.http2) is neither true nor false"),
        ("tls_server_config: {cert_file: [x], key_file: {}}\n", "(tls_server_config.cert_file) is not the path of a"),
        ("tls_server_config: {cert_file: a, key_file: b, min_version: [TLS12]}\n", "(tls_server_config.min_version)"),
        ("tls_server_config: {cert_file: a, key_file: b, client_auth_type: {a: b}}\n", "config.client_auth_type) is"),
        ('tls_server_config: {cert_file: "a\\0b", key_file: b}\n', "can't be read: it is not the path of a file"),
        ("a: !!bool b\n", "which is not YAML"),
        ("a: !!timestamp b\n", "which is not YAML"),
        ("a: !!set [b]\n", "web.yml:1 is not YAML: it is not a mapping"),
    ],
)
def test_keys_and_values_of_the_wrong_kind_are_refused(directory: Path, text: str, sentence: str) -> None:
    """Whatever YAML can hold, a wrong file is one sentence."""
    assert sentence in refused(directory, text)


_SCALARS = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.dates() | st.sampled_from(["TLS12", "a"])
)
_KEYS = _SCALARS | st.sampled_from(
    ["tls_server_config", "http_server_config", "basic_auth_users", "cert_file", "key_file", "headers", "min_version"]
)
_ANYTHING = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS | st.tuples(_SCALARS), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=_ANYTHING, cut=st.integers(0, 300))
def test_any_yaml_is_read_or_refused(directory: Path, content: object, cut: int) -> None:
    """Nothing but the sentence comes out of a wrong file, whole or cut off."""
    text = yaml.dump(content)
    for part in (text, text[:cut]):
        with suppress(WrongSettingError):
            read_web_config(written(directory, part))
