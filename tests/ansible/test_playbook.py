"""The modules and plugins in real runs of ansible-playbook: twice, in check mode, nothing shown."""

from __future__ import annotations

import base64
import grp
import itertools
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible.parsing.vault import VaultSecret

from entropy.credentials import fingerprint, load_acl, load_credential
from entropy.wire.keys import derive
from module_utils.entropy_vault import AnsibleVault

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PASSWORD = "a vault password that no log may hold"
# Plays the lookup of the collection that the documentation names for HashiCorp Vault: it is given
# paths, and returns for each what it found, the text of ours under the key of the example.
HASHI_VAULT = """
import pathlib
from ansible.plugins.lookup import LookupBase
class LookupModule(LookupBase):
    def run(self, terms, variables=None, **options):
        here = pathlib.Path(__file__).parent
        (here / "asked").write_text(" ".join(terms))
        texts = [(here / f"{term}.json").read_text() for term in terms]
        return [{"secret": {"text": text}, "metadata": {}} for text in texts]
"""


class Site:
    """A directory with a state directory and a host's files, and runs of playbooks on them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state_dir = directory / "state"
        self.output = ""
        self.vault = AnsibleVault([("default", VaultSecret(PASSWORD.encode()))])
        (directory / "vault-password").write_text(PASSWORD)

    def run(self, *options: str, lookups: str = "", passes: int = 1) -> str:
        """One run that shows all that there is to see; what it printed, which is kept too."""
        home = self.directory / "home"
        ours = ROOT / "plugins/lookup"
        environment = {
            "PATH": os.environ["PATH"],
            "LC_ALL": "C.UTF-8",
            "HOME": str(home),
            "ANSIBLE_HOME": str(home),
            "ANSIBLE_REMOTE_TMP": str(home / "remote"),
            "ANSIBLE_LIBRARY": str(ROOT / "library"),
            "ANSIBLE_MODULE_UTILS": str(ROOT / "module_utils"),
            "ANSIBLE_ACTION_PLUGINS": str(ROOT / "plugins/action"),
            "ANSIBLE_LOOKUP_PLUGINS": f"{lookups}:{ours}" if lookups else str(ours),
            "ANSIBLE_COLLECTIONS_PATH": str(self.directory / "collections"),
        }
        variables = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "directory": str(self.directory),
            "owner": pwd.getpwuid(os.getuid()).pw_name,
            "group": grp.getgrgid(os.getgid()).gr_name,
            "passes": passes,
        }
        command = [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "-vvv"]
        command += ["--diff", "--vault-password-file", str(self.directory / "vault-password")]
        command += ["-e", json.dumps(variables), str(HERE / "play.yml"), *options]
        done = subprocess.run(
            command, cwd=self.directory, env=environment, capture_output=True, text=True
        )
        output = done.stdout + done.stderr
        self.output += output
        assert done.returncode == 0, output
        return output

    def secrets(self) -> Iterator[bytes]:
        """Every secret of the store, raw, and the password that protects it."""
        yield PASSWORD.encode()
        for path in sorted(self.state_dir.glob("credentials/*.json")):
            data = json.loads(self.vault.decrypt(path.read_bytes(), path.name))
            for key in data.get("keys", [data]):
                secret = base64.b64decode(key["secret"])
                yield from (secret, derive(secret).private, derive(secret).psk)
        for path in sorted(self.state_dir.glob("*/*.key")):
            pem = self.vault.decrypt(path.read_bytes(), path.name)
            yield base64.b64decode(b"".join(pem.splitlines()[1:-1]))


def recap(output: str) -> dict[str, int]:
    """The sum of a run, after its last playbook: how many tasks changed, failed and so on."""
    *_, line = re.findall("^localhost +: (ok=.*)", output, re.MULTILINE)
    return {name: int(n) for name, n in re.findall(r"(\w+)=(\d+)", line)}


def shapes(secret: bytes) -> set[str]:
    """The texts under which a secret could show up. Of base64 the part that no padding touches."""
    whole = len(secret) // 3 * 4
    standard = base64.b64encode(secret).decode()[:whole]
    url_safe = base64.urlsafe_b64encode(secret).decode()[:whole]
    return {standard, url_safe, secret.hex(), secret.hex().upper(), repr(secret)[2:-1]}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site that was checked when there was nothing, and then deployed twice in one run.

    What an operator may get wrong follows in that run, because each costs a second to start.
    """
    site = Site(tmp_path_factory.mktemp("site"))
    checked = recap(site.run("--check"))
    assert (checked["changed"], checked["failed"]) == (3, 0)
    assert sorted(path.name for path in site.directory.iterdir()) == ["home", "vault-password"]
    output = site.run(str(HERE / "wrong.yml"), str(HERE / "lifecycle.yml"), passes=2)
    twice = recap(output)
    # Three tasks of the first pass; then rotate, issue, revoke, publish, roll, save, restore.
    assert (twice["changed"], twice["failed"], twice["ignored"]) == (3 + 7, 0, 6)
    return site


def test_what_was_installed_is_what_the_daemons_read(site: Site) -> None:
    credential = load_credential(site.directory / "credential.json")
    assert (credential.id, credential.site_id) == ("vm1", "lab")
    acl = load_acl(site.directory / "acl.json")
    assert acl.generation == 4  # after a rotation, a customer who came, and went
    entry = acl.entries["vm1", credential.key_id]
    assert (entry.public_key, entry.psk) == derive(credential.secret)[1:]
    assert (site.directory / "tls.key").read_text().startswith("-----BEGIN PRIVATE KEY-----")
    assert (site.directory / "tls.key").read_text().endswith("-----END PRIVATE KEY-----\n")


def test_wrong_input_is_told_plainly(site: Site) -> None:
    for message in (
        "belongs to the site lab and berlin was asked for",
        "the id vm1 is there 2 times",
        "bootstrap=true",
        "brokres",
        "has no credential for vm9: run playbooks/credentials.yml",
        "lost/ledger.json does not exist: run playbooks/credentials.yml first",
    ):
        assert message in site.output
    assert "Traceback" not in site.output


def example_for_vault() -> str:
    """The plugin that docs/credentials.md gives users of HashiCorp Vault."""
    lines = (ROOT / "docs/credentials.md").read_text().splitlines()
    start = lines.index("    # lookup_plugins/entropy_secret.py")
    block = itertools.takewhile(lambda line: not line or line[:4] == "    ", lines[start:])
    return "\n".join(line[4:] for line in block) + "\n"


def test_another_store_of_secrets_can_take_over(site: Site, tmp_path: Path) -> None:
    other = Site(tmp_path)
    shutil.copytree(site.state_dir, other.state_dir)
    (other.state_dir / "acl.json").unlink()
    instead = tmp_path / "instead"
    instead.mkdir()
    (instead / "entropy_secret.py").write_text(example_for_vault())
    plugins = tmp_path / "collections/ansible_collections/community/hashi_vault/plugins/lookup"
    elsewhere = plugins / "entropy"
    elsewhere.mkdir(parents=True)
    (plugins / "vault_kv2_get.py").write_text(HASHI_VAULT)
    for path in site.state_dir.glob("credentials/*.json"):
        data = json.loads(site.vault.decrypt(path.read_bytes(), path.name))
        for key in data.get("keys", [data]):  # the last is the newest, which goes by the id alone
            for term in (f"key:{key['key_id']}:{key['id']}", key["id"]):
                (elsewhere / f"{term}.json").write_text(json.dumps(key))
    output = other.run("--check", "--skip-tags", "install", lookups=str(instead))
    # Of an id with two keys the store elsewhere is asked for both.
    asked = (plugins / "asked").read_text()
    assert re.fullmatch("entropy/rng1 entropy/key:[0-9a-f]{16}:vm1 entropy/vm1", asked)
    key_id = load_credential(site.directory / "credential.json").key_id.hex()
    assert f"+vm1: key_id: {key_id}, [draw], not_after_unix: " in output
    site.output += output


def test_no_run_showed_a_secret_or_left_one_behind(site: Site) -> None:
    secrets = list(site.secrets())
    assert len(secrets) == 1 + 3 * 3 + 3  # two keys of vm1, and two authorities
    left = [path for path in (site.directory / "home").rglob("*") if path.is_file()]
    texts = [site.output, *(path.read_text(errors="replace") for path in left)]
    for secret in secrets:
        for shape in shapes(secret) | ({PASSWORD} if secret == PASSWORD.encode() else set()):
            assert not any(shape in text for text in texts)
    # That it was looked for in the right place: what is public is there.
    credential = load_credential(site.directory / "credential.json")
    assert fingerprint(derive(credential.secret).public) in site.output
    assert credential.key_id.hex() in site.output
