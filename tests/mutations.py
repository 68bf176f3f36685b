# Damaged copies of a file: cut off, bits turned, bytes replaced, pieces taken out and put in.
from __future__ import annotations

import random
from collections.abc import Iterator


def mutations(content: bytes, count: int, seed: int, *, head: int | None = None) -> Iterator[bytes]:
    """Yield ``count`` damaged copies; half of the damage is in the first ``head`` bytes."""
    rng = random.Random(seed)
    head = len(content) if head is None else min(head, len(content))

    def place() -> int:
        return rng.randrange(head if rng.random() < 0.5 else len(content))

    for k in range(count):
        made = bytearray(content)
        kind = k % 7
        if kind == 0:
            made = made[: rng.randrange(len(made))]
        elif kind == 1:
            made[place()] ^= 1 << rng.randrange(8)
        elif kind == 2:
            made[place()] = rng.choice(b'0123456789"[]{}:,')
        elif kind == 3:
            for _ in range(20):
                made[place()] = rng.randrange(256)
        elif kind == 4:
            first = place()
            made[first : first + 8] = rng.choice([b"\xff" * 8, b"\0" * 8, b"\xff\xff\xff\x7f" * 2])
        elif kind == 5:
            first, second = sorted((place(), place()))
            del made[first:second]
        else:
            first = place()
            made[first:first] = made[place() :][: rng.randrange(1, 40)]
        if bytes(made) != content:
            yield bytes(made)
