"""The published vectors: the package makes them, and an independent computation agrees."""

from __future__ import annotations

import json

import pytest

from tests.wire import make_vectors, straight_line

VECTORS = json.loads(make_vectors.PATH.read_text())["vectors"]


def test_the_published_file_is_what_the_package_computes() -> None:
    assert make_vectors.PATH.read_text() == make_vectors.text()


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_an_independent_computation_agrees(vector: dict[str, dict[str, object]]) -> None:
    assert straight_line.session(vector["given"]) == vector["then"]


def test_the_independent_x25519_agrees_with_rfc_7748_section_5_2() -> None:
    scalar = "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4"
    point = "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c"
    shared = "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"
    assert straight_line.x25519(bytes.fromhex(scalar), bytes.fromhex(point)).hex() == shared
