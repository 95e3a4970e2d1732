"""The end of certificates, as OpenSSL makes them, and of files that hold none."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest

from raftkv.core.validity import KNOWN_S, Certificates, ends_at_s


def certificate(path: Path, days: int, kind: str = "ec") -> Path:
    """A certificate at ``path``."""
    key = {"ec": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"], "rsa": ["rsa:2048"]}[kind]
    command = ["openssl", "req", "-x509", "-newkey", *key, "-nodes", "-subj", "/CN=n1", "-days", str(days)]
    subprocess.run([*command, "-keyout", f"{path}.key", "-out", path], check=True, capture_output=True)
    return path


@pytest.mark.parametrize(("days", "kind"), [(30, "ec"), (30, "rsa"), (20_000, "ec")])  # the last is after 2050
def test_the_end_is_the_one_that_openssl_reads(tmp_path, days: int, kind: str) -> None:
    path = certificate(tmp_path / "c.pem", days, kind)
    told = subprocess.run(
        ["openssl", "x509", "-in", path, "-noout", "-enddate"], capture_output=True, text=True, check=True
    ).stdout

    assert ends_at_s(path) == ssl.cert_time_to_seconds(told.strip().removeprefix("notAfter="))


def test_of_a_chain_it_is_that_of_the_first(tmp_path) -> None:
    first, second = certificate(tmp_path / "a.pem", 10), certificate(tmp_path / "b.pem", 900)
    (tmp_path / "chain.pem").write_text("who made them\n" + first.read_text() + second.read_text())

    assert ends_at_s(tmp_path / "chain.pem") == ends_at_s(first)


def test_a_file_without_one_is_named(tmp_path) -> None:
    whole = certificate(tmp_path / "c.pem", 10).read_text()
    body = "".join(whole.splitlines()[1:-1])
    framed = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n"
    for text in ("", "hello", framed.format(""), framed.format("AAAA"), framed.format(body[:40]), framed.format("!")):
        (tmp_path / "bad.pem").write_text(text)
        with pytest.raises(ValueError, match=r"bad\.pem: no certificate"):
            ends_at_s(tmp_path / "bad.pem")


def test_a_certificate_that_is_replaced_is_found_after_a_while_and_one_that_is_gone_left_out(tmp_path) -> None:
    now_s = [0.0]
    path = certificate(tmp_path / "c.pem", 10)
    known = Certificates({"http": path, "peers": tmp_path / "none.pem"}, monotonic_s=lambda: now_s[0])
    first = dict(known.ends())
    certificate(path, 900)
    still = dict(known.ends())
    now_s[0] += KNOWN_S + 1

    assert first == still
    assert first.keys() == known.ends().keys() == {"http"}
    assert known.ends()["http"] > first["http"]
