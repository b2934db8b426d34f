"""Perceptual hashes: 64 bits that stay nearly the same when a picture is scaled or compressed again.

The bits are the signs of the 8 x 8 lowest frequencies of the cosine transform of the picture as 32 x 32 greys
(after the pHash of C. Zauner, 'Implementation and Benchmarking of Perceptual Image Hash Functions', 2010).
Signs, and not the comparison with a median, make the hash of a turned or mirrored picture a matter of moving
and inverting bits: a horizontal mirror changes the sign of every odd horizontal frequency, no more.
"""

import numpy as np

SIZE, KEPT = 32, 8

# Below this spread, in grey levels, a picture has no shape to speak of, and the signs are noise.
PLAIN = 2.0

_N = np.arange(SIZE)
_COSINES = np.cos(np.pi * (2 * _N[None] + 1) * _N[:KEPT, None] / (2 * SIZE))
_BITS = np.uint64(1) << np.arange(KEPT * KEPT, dtype=np.uint64)


def phash(grey: np.ndarray) -> int | None:
    """The hash of a picture as (32, 32) grey levels 0..255; None where it is plain."""
    grey = np.asarray(grey, np.float64)
    if grey.std() < PLAIN:
        return None
    signs = (_COSINES @ grey @ _COSINES.T) > 0
    signs[0, 0] = False  # the mean, always positive
    return int(_BITS[signs.ravel()].sum(dtype=np.uint64))


def views(hashes: np.ndarray) -> np.ndarray:
    """The hashes of the eight turned and mirrored forms of each picture: uint64 (n,) -> (n, 8)."""
    signs = (hashes[:, None] & _BITS) != 0
    signs = signs.reshape(-1, KEPT, KEPT)
    odd = np.arange(KEPT) % 2 == 1
    # The mean's bit is 0 in every view; mirrors never touch it, since 0 is even.
    forms = [
        signs ^ (rows & odd[:, None]) ^ (columns & odd[None]) for rows in (False, True) for columns in (False, True)
    ]
    forms += [f.transpose(0, 2, 1) for f in forms]
    return np.stack([(f.reshape(len(f), -1) * _BITS).sum(1, dtype=np.uint64) for f in forms], 1)


def near(queries: np.ndarray, hashes: np.ndarray, distance: int = 4, chunk: int = 500_000):
    """For each query the nearest of `hashes` (sorted, distinct): (index or -1, differing bits), each (n,).

    Two hashes that differ in at most `distance` bits agree wholly in one of `distance + 1` bands of their
    bits, so that only pairs that share a band are compared: for 100,000 pictures thousands of times fewer.
    """
    best = np.full(len(queries), 65, np.int64)
    index = np.full(len(queries), -1, np.int64)
    edges = np.linspace(0, 64, distance + 2).astype(int)
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        shift, mask = np.uint64(low), np.uint64((1 << int(high - low)) - 1)
        bands = (hashes >> shift) & mask
        order = np.argsort(bands, kind="stable")
        wanted = (queries >> shift) & mask
        first = np.searchsorted(bands[order], wanted, "left")
        count = np.searchsorted(bands[order], wanted, "right") - first
        for start, stop in _pieces(count, chunk):
            query = np.repeat(np.arange(start, stop), count[start:stop])
            offset = np.arange(len(query)) - np.repeat(
                np.cumsum(count[start:stop]) - count[start:stop], count[start:stop]
            )
            other = order[first[query] + offset]
            bits = np.bitwise_count(queries[query] ^ hashes[other]).astype(np.int64)
            close = bits <= distance
            query, other, bits = query[close], other[close], bits[close]
            # Of several near ones the nearest, of equals the first: the last to be written wins.
            last = np.lexsort((-other, -bits))
            better = last[bits[last] < best[query[last]]]
            best[query[better]], index[query[better]] = bits[better], other[better]
    return index, np.where(index < 0, 65, best)


def _pieces(count: np.ndarray, chunk: int):
    """Ranges of queries whose pairs fit into memory together; a single query may exceed `chunk`."""
    total, start = np.cumsum(count), 0
    while start < len(count):
        done = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, done + chunk, "right")))
        yield start, stop
        start = stop
