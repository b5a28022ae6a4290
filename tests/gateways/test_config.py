"""gateway.toml: what is read, and the one line that each mistake gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from entropy.errors import ConfigError
from entropy.gateways.config import is_loopback, load_gateway

WHOLE = """
[gateway]
site_id = "lab"
credential = "/etc/entropy/gateway/credential.json"
ca = "/etc/entropy/ca.pem"
brokers = ["10.0.0.11:25226", "10.0.0.12:25226"]
[egd]
listen = ["unix:/run/entropy-gateway/egd/socket", "127.0.0.1:25240"]
"""


def written(folder: Path, text: str) -> str:
    path = folder / "gateway.toml"
    path.write_text(text)
    return str(path)


def test_a_short_file_and_its_defaults(tmp_path: Path) -> None:
    config = load_gateway(written(tmp_path, WHOLE))
    assert config.brokers == ("10.0.0.11:25226", "10.0.0.12:25226")
    assert config.egd.listen == ("unix:/run/entropy-gateway/egd/socket", "127.0.0.1:25240")
    assert config.egd.rate_bytes_per_second == 128
    assert config.buffer_bytes == 1024
    assert config.admin.listen == ""
    assert config.clone.generation_file == ""


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("[egd]", "[edg]", "edg: unknown table; did you mean 'egd'?"),
        ("[gateway]", "[client]", "client: unknown table"),
        ("brokers", "broker", "gateway.broker: unknown key; did you mean 'brokers'?"),
        ('"127.0.0.1:25240"', '"0.0.0.0:25240"', "EGD knows no login"),
        ('"127.0.0.1:25240"', '"[::]:25240"', "EGD knows no login"),
        ('"127.0.0.1:25240"', '"[0:0:0:0:0:0:0:0]:25240"', "EGD knows no login"),
        ('"127.0.0.1:25240"', '"[::ffff:0.0.0.0]:25240"', "EGD knows no login"),
        ('"127.0.0.1:25240"', '"unix:run/x"', "must be an absolute path"),
        ('"127.0.0.1:25240"', f'"unix:/{"x" * 107}"', "too long for a socket"),
        ('"127.0.0.1:25240"', '"127.0.0.1"', "is not an endpoint"),
        ("[egd]", "[egd]\nrate_bytes_per_second = 0", "whole number from 1 to"),
        ("[egd]", "buffer_bytes = 1\n[egd]", "buffer_bytes: must be a whole number from 64"),
        ('site_id = "lab"', "", "gateway.site_id: is missing"),
    ],
)
def test_mistakes(tmp_path: Path, before: str, after: str, says: str) -> None:
    assert before in WHOLE
    path = written(tmp_path, WHOLE.replace(before, after))
    with pytest.raises(ConfigError) as error:
        load_gateway(path)
    assert str(error.value).startswith(f"{path}: ")
    assert says in str(error.value)


def test_what_only_this_machine_reaches() -> None:
    near = ("unix:/run/x", "127.0.0.1:1", "127.8.0.1:1", "[::1]:1")
    assert all(map(is_loopback, near))
    assert not any(map(is_loopback, ("10.0.0.1:1", "[fd00::1]:1", "localhost:1")))
