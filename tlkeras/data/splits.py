"""Splits by content: train, val and test from hashes, so that the same bytes never sit on both sides.

A unit is what must stay together: files with the same bytes, and rows of one group. Within each class the
units are ordered by a hash of (seed, content) and dealt out, so a split depends on the files and the seed,
not on names, order or the machine; adding files moves few of the others.
"""

import hashlib
from collections import Counter, defaultdict

from tlkeras.errors import DataError


def assign(hashes: list[str], strata: list, groups: list, given: list, val: float, test: float, seed: int) -> list[str]:
    """Gives each sample 'train', 'val' or 'test'.

    Args:
        hashes: content hash per sample.
        strata: class per sample, or None where classes mean nothing (regression); proportions hold within each.
        groups: name of the group per sample, or None.
        given: the split that the data itself states, or None. A split that is stated at all is not added to.
        val, test: parts of the samples that are to be split.

    Raises:
        DataError: when a group lies in two stated splits, or a class has too few samples for the splits asked for.
    """
    unit = together(hashes, groups)
    stated = {s for s in given if s}
    val = 0.0 if "val" in stated else val
    test = 0.0 if "test" in stated else test
    members = defaultdict(list)
    for i, u in enumerate(unit):
        members[u].append(i)
    splits: list[str] = [""] * len(hashes)
    waiting = defaultdict(list)
    for u, rows in members.items():
        fixed = {given[i] for i in rows if given[i]}
        if len(fixed) > 1:
            names = sorted({str(groups[i]) for i in rows if groups[i] is not None})
            what = f"group {', '.join(names[:3])}" if names else f"{len(rows)} files with the same bytes"
            raise DataError(
                f"The {what} lies in {' and '.join(sorted(fixed))}; what belongs together must stay in one split."
            )
        if fixed and fixed != {"train"}:
            for i in rows:
                splits[i] = next(iter(fixed))
        else:
            # Of classes that are equally frequent in a unit the first by name: the order of the rows must not matter.
            counts = Counter(strata[i] for i in rows)
            stratum = min(counts, key=lambda name: (-counts[name], str(name)))
            waiting[stratum].append((hashlib.sha256(f"{seed}:{min(hashes[i] for i in rows)}".encode()).digest(), u))
    parts = {side: part for side, part in (("test", test), ("val", val)) if part}
    too_few = []
    for stratum, units in sorted(waiting.items(), key=lambda item: str(item[0])):
        if len(units) < 1 + len(parts):
            too_few.append(f"{stratum}: {len(units)}" if stratum is not None else f"{len(units)} in all")
            continue
        for u, side in _deal({u: len(members[u]) for _, u in sorted(units)}, parts).items():
            for i in members[u]:
                splits[i] = side
    if too_few:
        raise DataError(
            f"Each class needs at least {1 + len(parts)} different samples for the splits asked for (val {val:g}, test {test:g}), "
            f"rows of one group counting as one; "
            f"too few: {', '.join(too_few)}. Add samples, leave the class out, or set data.val or data.test to 0."
        )
    return splits


def _deal(units: dict[int, int], parts: dict[str, float]) -> dict[int, str]:
    """Deals out units, {unit: its size} in their order: {unit: split}. Every split gets at least one, train what is left.

    A unit goes where it fits; then one that misses the aim by less than leaving it out would. So a large group
    does not swell a split far beyond its part.
    """
    left, sides, total = dict(units), {}, sum(units.values())
    for n, (side, part) in enumerate(parts.items()):
        want, keep = max(1, round(part * total)), len(parts) - n
        for slack in (1, 2):
            for u, size in list(left.items()):
                if want > 0 and len(left) > keep and (size == want or size < slack * want):
                    want -= left.pop(u)
                    sides[u] = side
        if side not in sides.values():
            smallest = min(left, key=left.get)
            sides[smallest] = side
            del left[smallest]
    return sides | dict.fromkeys(left, "train")


def together(hashes, groups) -> list[int]:
    """A number per sample; equal for samples that share bytes or a group, directly or through others."""
    parent = list(range(len(hashes)))

    def find(i):
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first = {}
    for kind, keys in (("bytes", hashes), ("group", groups)):
        for i, key in enumerate(keys):
            if key is not None:
                parent[find(i)] = find(first.setdefault((kind, key), i))
    return [find(i) for i in range(len(hashes))]
