from __future__ import annotations

import pytest

from nstd.jobs.roles import Part, part_of


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("beach.jpg", Part("photo", "beach")),
        ("beach.content.jpg", Part("content", "beach")),
        ("my.beach_CONTENT.JPEG", Part("content", "my.beach")),
        ("beach-style.png", Part("style", "beach")),
        ("beach.Style12.png", Part("style", "beach", 12)),
        ("beach.mask.png", Part("mask", "beach")),
        ("beach.mask2.png", Part("photo", "beach.mask2")),
        ("content.jpg", Part("photo", "content")),
        (".content.jpg", Part("photo", ".content")),
        ("discontent.jpg", Part("photo", "discontent")),
        ("beach.yaml", Part("sidecar", "beach")),
        ("beach.jpg.json", Part("sidecar", "beach")),
        ("beach.content.yml", Part("sidecar", "beach.content")),
    ],
)
def test_a_name_says_its_part(name: str, part: Part) -> None:
    assert part_of(name) == part


def test_clients_spellings_share_a_key() -> None:
    assert part_of("CAFÉ.content.jpg").key == part_of("cafe\u0301_style.jpg").key
