"""What a secret may be, and the key it stands for."""

import secrets
import time

import pytest

from raftkv.core.errors import StartupError
from raftkv.core.secret import key_from, read_key, weakness


@pytest.mark.parametrize(
    "text", [secrets.token_hex(32).encode(), secrets.token_urlsafe(32).encode()], ids=["hexadecimal", "base64"]
)
def test_32_random_bytes_are_a_key_as_they_stand(text):
    assert weakness(text) is None
    assert key_from(text, "any") == text


def test_a_phrase_is_stretched_and_differs_by_cluster():
    phrase = b"correct horse battery staple, and so on"
    began_s = time.process_time()
    key = key_from(phrase, "a")

    assert weakness(phrase) is None
    assert len(key) == 32
    assert time.process_time() - began_s > 0.01  # what a guess costs, whatever the machine
    assert key == key_from(phrase, "a") != key_from(phrase, "b")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"password12345678",
        b"a" * 64,
        b"abcabc" * 20,
        b"password12345678" * 3,
        b"0123456789abcdef" * 4,
        b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ",
    ],
)
def test_what_can_be_guessed_is_refused_wherever_it_is_read(tmp_path, text):
    (tmp_path / "s").write_bytes(text + b"\n")

    assert weakness(text) is not None
    with pytest.raises(StartupError, match="openssl rand -hex 32"):
        read_key(tmp_path / "s", "any")


def test_a_secret_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StartupError, match="s: No such file"):
        read_key(tmp_path / "s", "any")
