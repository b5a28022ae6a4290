"""Replacing the CA: both are trusted for a while, and every step waits for the one before."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import pytest

from entropy.authority import certificate_fingerprint, issued_by
from entropy.errors import CredentialError
from module_utils.entropy_outcome import Outcome
from module_utils.entropy_store import Vault
from tests.ansible.fleet import NOW, SMALL, Fleet

DAY = datetime.timedelta(days=1)


@pytest.fixture
def fleet(tmp_path: Path, vault: Vault) -> Fleet:
    fleet = Fleet(tmp_path / "state", vault)
    fleet.ensure(SMALL, "b1")
    return fleet


def step(fleet: Fleet, *, overlap: str = "0s", now: datetime.datetime = NOW) -> Outcome:
    return fleet.do("authority_rolled", "b1", overlap=overlap, now=now)


def accepts(bundle: bytes, certificate: bytes, fleet: Fleet, folder: Path) -> bool:
    """Whether a machine that trusts `bundle` shakes hands with a broker's certificate."""
    key = folder / "key.pem"
    key.write_text(fleet.text("tls:b1"))
    (folder / "cert.pem").write_bytes(certificate)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "cert.pem", key)
    client = ssl.create_default_context(cadata=bundle.decode())
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    name = "b1.lab.entropy.internal"
    ours = client.wrap_bio(to_client, to_server, server_hostname=name)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for end in (ours, theirs, ours):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError:
            return False
    return True


def test_a_roll_in_three_steps(fleet: Fleet, tmp_path: Path) -> None:
    start = fleet.ensure(SMALL, "b1")
    only_old, old_certificate = start.ca_pem, start.certificate_pems["b1"]

    trusting = step(fleet)
    assert trusting.as_result()["authority"]["roll"] == "trusting"
    assert trusting.ca_pem.startswith(only_old)
    assert trusting.ca_pem.count(b"BEGIN CERTIFICATE") == 2
    assert trusting.certificate_pems["b1"] == old_certificate
    assert accepts(trusting.ca_pem, old_certificate, fleet, tmp_path)

    signing = step(fleet)
    assert signing.as_result()["authority"]["roll"] == "signing"
    assert sorted(pems(signing.ca_pem)) == sorted(pems(trusting.ca_pem))
    new_certificate = signing.certificate_pems["b1"]
    assert not accepts(only_old, new_certificate, fleet, tmp_path)
    assert accepts(trusting.ca_pem, new_certificate, fleet, tmp_path)
    assert not (fleet.state_dir / "ca/ca.key").exists()  # it signs no more

    done = step(fleet)
    assert done.as_result()["authority"]["roll"] == "none"
    assert done.ca_pem.count(b"BEGIN CERTIFICATE") == 1
    assert issued_by(new_certificate, done.ca_pem)
    assert not issued_by(old_certificate, done.ca_pem)
    assert done.certificate_pems["b1"] == new_certificate
    assert accepts(done.ca_pem, new_certificate, fleet, tmp_path)
    assert certificate_fingerprint(done.ca_pem) != certificate_fingerprint(only_old)
    assert done.after.generation == start.after.generation
    fleet.assert_sound()
    assert not fleet.ensure(SMALL, "b1").changed
    # And again, years later.
    for roll in ("trusting", "signing", "none"):
        assert step(fleet).as_result()["authority"]["roll"] == roll
    fleet.assert_sound()


def pems(bundle: bytes) -> list[bytes]:
    end = b"-----END CERTIFICATE-----\n"
    return [part + end for part in bundle.split(end)[:-1]]


def test_a_step_waits_until_the_overlap_has_passed(fleet: Fleet) -> None:
    step(fleet, overlap="7d")
    early = step(fleet, overlap="7d", now=NOW + 6 * DAY)
    assert not early.changed
    after = early.as_result()["authority"]["next_step_after"]
    assert after == f"{NOW + 7 * DAY:%Y-%m-%dT%H:%M:%SZ}"
    assert step(fleet, overlap="7d", now=NOW + 7 * DAY).changed
    assert not step(fleet, overlap="7d", now=NOW + 13 * DAY).changed
    assert step(fleet, overlap="7d", now=NOW + 14 * DAY).changed


def test_no_other_run_moves_a_roll(fleet: Fleet) -> None:
    for roll in ("trusting", "signing"):
        step(fleet)
        for outcome in (
            fleet.ensure(SMALL, "b1", now=NOW + 30 * DAY),
            fleet.do("rotated", "b1", rotate_after="100d", now=NOW + 30 * DAY),
        ):
            assert not outcome.changed
            assert outcome.as_result()["authority"]["roll"] == roll


def test_a_broker_that_was_not_named_is_given_its_certificate_later(fleet: Fleet) -> None:
    fleet.ensure(SMALL, "b1", "b2")
    step(fleet)
    step(fleet)
    outcome = fleet.ensure(SMALL, "b1", "b2")
    assert outcome.changed
    assert issued_by(outcome.certificate_pems["b2"], outcome.authorities.active_pem)


def test_who_was_revoked_is_known_in_a_roll_too(fleet: Fleet) -> None:
    """The hosts are given certificates in the same play, and this one has no secret to be given."""
    fleet.do("revoked", ids=["vm1"])
    wanted = {**SMALL, "vm2": {}}
    plan = fleet.ensure(wanted, "b1", state="authority_rolled", overlap="0s").plan
    assert (plan.denied, plan.issued, plan.orphans) == (["vm1"], [], [])


def test_check_mode_takes_no_step(fleet: Fleet) -> None:
    before = fleet.files()
    for roll in ("trusting", "signing", "none"):
        outcome = fleet.do("authority_rolled", "b1", overlap="0s", check=True)
        assert (outcome.changed, outcome.as_result()["authority"]["roll"]) == (True, roll)
        assert fleet.files() == before
        step(fleet)
        before = fleet.files()


def test_a_lost_next_authority_is_refused(fleet: Fleet) -> None:
    step(fleet)
    (fleet.state_dir / "ca/ca-2.key").unlink()
    with pytest.raises(CredentialError, match="does not hold the authority of this fleet"):
        fleet.ensure(SMALL, "b1")


def test_an_old_authority_is_advised_against(fleet: Fleet) -> None:
    for days, advised in ((2000, False), (2500, True)):
        outcome = fleet.ensure(SMALL, now=NOW + days * DAY)
        assert outcome.as_result()["authority"]["roll_advised"] is advised
