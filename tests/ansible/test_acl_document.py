"""The text of acl.json as the modules write it, against the reader of the broker."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropy.credentials import acl_entry, entry_as_json, new_credential, parse_acl
from module_utils.entropy_acl_document import document, dump, parse, shown


def entry(name: str, **limits: int | None) -> dict[str, Any]:
    return entry_as_json(acl_entry(new_credential(name, "lab", ["draw"]), **limits))


def test_the_broker_reads_what_is_written() -> None:
    entries = [entry("vm2", rate_bytes_per_second=64), entry("vm1"), entry("vm1")]
    acl = parse_acl(dump(document("lab", 7, entries)), "acl.json")
    assert (acl.site_id, acl.generation) == ("lab", 7)
    read = [entry_as_json(value) for value in acl.entries.values()]
    assert sorted(read, key=repr) == sorted(entries, key=repr)


def test_an_empty_list_is_a_list() -> None:
    assert parse_acl(dump(document("lab", 1, [])), "acl.json").entries == {}


@given(order=st.permutations(range(5)), unset=st.booleans())
def test_order_and_unset_limits_make_no_difference(order: list[int], unset: bool) -> None:
    entries = [{**_FIVE[i], "burst_bytes": None} if unset else _FIVE[i] for i in order]
    assert document("lab", 1, entries) == document("lab", 1, _FIVE)
    assert parse(dump(document("lab", 1, entries)).encode()) == document("lab", 1, _FIVE)


def test_the_same_key_twice_is_refused() -> None:
    with pytest.raises(ValueError, match=f"vm0 with key {_FIVE[0]['key_id']} is there twice"):
        document("lab", 1, [*_FIVE, _FIVE[0]])


def test_what_is_shown_holds_no_key() -> None:
    text = shown(document("lab", 3, [{**_FIVE[0], "burst_bytes": 99}]))
    assert text == (
        f"site_id: lab\ngeneration: 3\nvm0: key_id: {_FIVE[0]['key_id']}, [draw], burst_bytes: 99\n"
    )


@pytest.mark.parametrize(
    "text",
    [b"", b"\xff", b"[]", b"{}", b'{"version": 2}', b'{"version": 1, "entries": [{}]}', b"3"],
)
def test_what_is_no_list_protects_nothing(text: bytes) -> None:
    assert parse(text) is None


_FIVE = [entry(f"vm{i}") for i in range(5)]
