"""Splits: what belongs together stays on one side, and a split depends on the files and the seed alone."""

import hashlib
import random
import time
from collections import Counter

import pytest

from tlkeras.data import splits
from tlkeras.errors import DataError

N = 600
HASHES = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(N)]
STRATA = ["cat" if i % 3 else "dog" if i % 2 else "mouse" for i in range(N)]
NONE = [None] * N


def assign(hashes=HASHES, strata=STRATA, groups=NONE, given=NONE, val=0.2, test=0.2, seed=0):
    n = len(hashes)
    return splits.assign(list(hashes), list(strata)[:n], list(groups)[:n], list(given)[:n], val, test, seed)


def test_every_sample_gets_one_split_of_the_right_size_in_every_class():
    made = assign()
    assert set(made) == {"train", "val", "test"}
    for name, n in Counter(STRATA).items():
        counts = Counter(s for s, stratum in zip(made, STRATA, strict=True) if stratum == name)
        assert counts == {"val": round(0.2 * n), "test": round(0.2 * n), "train": n - 2 * round(0.2 * n)}


@pytest.mark.parametrize(
    ("val", "test"), [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.1, 0.3), (0.45, 0.45), (0.001, 0.001), (0.9, 0.09)]
)
def test_parts_are_what_was_asked_for(val, test):
    counts = Counter(assign(strata=NONE, val=val, test=test))
    assert counts["val"] == (max(1, round(val * N)) if val else 0) and counts["test"] == (
        max(1, round(test * N)) if test else 0
    )


def test_splits_repeat_and_another_seed_gives_others():
    assert assign() == assign()
    moved = sum(a != b for a, b in zip(assign(), assign(seed=1), strict=True))
    assert 0.3 * N < moved < 0.8 * N


def test_the_order_of_the_samples_does_not_matter():
    groups = [f"g{i // 4}" if i % 5 else None for i in range(N)]
    hashes = [HASHES[i // 2] if i % 7 == 0 else h for i, h in enumerate(HASHES)]
    made = assign(hashes, groups=groups)
    for seed in range(5):
        order = random.Random(seed).sample(range(N), N)
        again = assign([hashes[i] for i in order], [STRATA[i] for i in order], [groups[i] for i in order])
        assert again == [made[i] for i in order]


def test_names_of_groups_and_classes_do_not_matter():
    groups = [f"g{i // 4}" for i in range(N)]
    renamed = {"cat": "a", "dog": "b", "mouse": "c"}
    assert assign(groups=groups) == assign(
        strata=[renamed[s] for s in STRATA], groups=[g.replace("g", "patient ") for g in groups]
    )


def test_groups_and_equal_bytes_stay_together():
    groups = [f"g{i // 4}" if i % 5 else None for i in range(N)]
    hashes = [HASHES[i - 50] if i % 11 == 0 and i >= 50 else h for i, h in enumerate(HASHES)]
    made = assign(hashes, groups=groups)
    for keys in (groups, hashes):
        for key in set(keys) - {None}:
            assert len({s for s, k in zip(made, keys, strict=True) if k == key}) == 1
    assert len(set(made)) == 3


def test_what_hangs_together_through_others_stays_together():
    # 0 and 1 share a group, 1 and 2 bytes, 2 and 3 a group, ...: one unit.
    hashes = [HASHES[(i + 1) // 2] for i in range(20)] + HASHES[100:120]
    groups = [f"g{i // 2}" for i in range(20)] + [None] * 20
    made = assign(hashes, strata=NONE, groups=groups)
    assert len(set(made[:20])) == 1 and set(made) == {"train", "val", "test"}


def test_rows_without_a_group_do_not_hang_together():
    assert Counter(assign(groups=NONE)) == Counter(assign(groups=[f"g{i}" for i in range(N)]))


@pytest.mark.parametrize(
    "sizes",
    [
        [50] + [5] * 10,
        [90] + [1] * 10,
        list(range(1, 25)),
        [33, 33, 33],
        [1, 1, 100],
        [7] * 20,
        [60, 20, 20],
        [2, 3, 95],
    ],
)
def test_a_large_group_does_not_swell_a_split(sizes):
    for seed in range(30):
        hashes = [hashlib.sha256(f"{seed} {g} {i}".encode()).hexdigest() for g, n in enumerate(sizes) for i in range(n)]
        groups = [str(g) for g, n in enumerate(sizes) for _ in range(n)]
        counts = Counter(splits.assign(hashes, [None] * len(hashes), groups, [None] * len(hashes), 0.2, 0.2, seed))
        # Never past twice the part that was asked for, unless every group is larger than that.
        most = max(0.4 * len(hashes), sorted(sizes)[1])
        assert 0 < counts["test"] <= most and 0 < counts["val"] <= most and counts["train"] >= 0.3 * len(hashes), counts


def test_splits_that_the_data_states_are_kept():
    given = ["test" if i % 10 == 0 else "val" if i % 10 == 1 else "train" if i % 10 == 2 else None for i in range(N)]
    made = assign(given=given)
    assert all(m == (g if g in ("val", "test") else "train") for m, g in zip(made, given, strict=True))


def test_a_split_that_the_data_does_not_state_comes_out_of_training():
    given = ["test" if i % 10 == 0 else "train" for i in range(N)]
    made = assign(given=given)
    assert [m == "test" for m in made] == [g == "test" for g in given]
    assert Counter(made)["val"] == pytest.approx(0.2 * 0.9 * N, abs=3)


def test_what_shares_bytes_or_a_group_with_a_stated_split_follows_it():
    given = ["test", *[None] * (N - 1)]
    groups = ["g", "g", *[None] * (N - 2)]
    hashes = [HASHES[0], HASHES[1], HASHES[0], *HASHES[3:]]
    assert assign(hashes, groups=groups, given=given)[:3] == ["test"] * 3


def test_a_group_in_two_stated_splits_is_refused_by_name():
    given, groups = ["train", "test", *[None] * (N - 2)], ["patient 7", "patient 7", *[None] * (N - 2)]
    with pytest.raises(
        DataError, match=r"The group patient 7 lies in test and train; what belongs together must stay in one split\."
    ):
        assign(groups=groups, given=given)
    with pytest.raises(DataError, match=r"The 2 files with the same bytes lies in test and train"):
        assign([HASHES[0], HASHES[0], *HASHES[2:]], given=given)


@pytest.mark.parametrize(
    ("n", "val", "test", "enough"),
    [(2, 0.2, 0.2, False), (3, 0.2, 0.2, True), (1, 0.2, 0.0, False), (2, 0.2, 0.0, True), (1, 0.0, 0.0, True)],
)
def test_too_few_samples_of_a_class_are_refused_by_name(n, val, test, enough):
    strata = ["rare"] * n + ["other"] * (N - n)
    if enough:
        counts = Counter(assign(strata=strata, val=val, test=test)[:n])
        assert counts["train"] >= 1 and counts["val"] == bool(val) and counts["test"] == bool(test)
    else:
        with pytest.raises(
            DataError,
            match=rf"at least {1 + bool(val) + bool(test)} different samples .* too few: rare: {n}\. Add samples, leave the class out, or set",
        ):
            assign(strata=strata, val=val, test=test)


def test_copies_do_not_count_as_samples():
    with pytest.raises(DataError, match="too few: rare: 2"):
        assign([HASHES[0], HASHES[0], HASHES[2], *HASHES[3:]], strata=["rare"] * 3 + ["other"] * (N - 3))
    with pytest.raises(DataError, match=r"too few: rare: 1"):
        assign(strata=["rare"] * 9 + ["other"] * (N - 9), groups=["g"] * 9 + [None] * (N - 9))
    with pytest.raises(DataError, match="too few: 2 in all"):
        assign(HASHES[:2], strata=NONE)


def test_all_classes_that_are_too_few_are_named():
    with pytest.raises(DataError, match="too few: a: 1, b: 2"):
        assign(strata=["b", "a", "b"] + ["other"] * (N - 3))


def test_adding_files_moves_few_of_the_others():
    for extra, most in ((1, 2), (10, 6), (60, 30)):
        more = HASHES + [hashlib.sha256(f"new {i}".encode()).hexdigest() for i in range(extra)]
        before, after = (
            assign(strata=NONE),
            assign(more, strata=[None] * len(more), groups=[None] * len(more), given=[None] * len(more))[:N],
        )
        assert sum(a != b for a, b in zip(before, after, strict=True)) <= most


def test_taking_a_file_away_moves_few_of_the_others():
    moved = [
        sum(
            a != b
            for a, b in zip(
                assign()[:i] + assign()[i + 1 :],
                assign(HASHES[:i] + HASHES[i + 1 :], STRATA[:i] + STRATA[i + 1 :]),
                strict=True,
            )
        )
        for i in range(0, N, 40)
    ]
    assert max(moved) <= 3


def test_chance_decides_and_not_the_name_of_the_hash():
    # Hashes that begin alike must not fall on one side.
    made = assign([f"{i:064x}" for i in range(N)], strata=NONE)
    for start in range(0, N, 100):
        assert 5 <= Counter(made[start : start + 100])["test"] <= 40


def test_a_hundred_thousand_samples_are_split_in_seconds():
    n = 100_000
    hashes = [hashlib.sha256(str(i % 90_000).encode()).hexdigest() for i in range(n)]
    started = time.monotonic()
    made = splits.assign(
        hashes, [i % 10 for i in range(n)], [f"g{i // 3}" if i % 2 else None for i in range(n)], [None] * n, 0.2, 0.2, 0
    )
    assert Counter(made)["test"] == pytest.approx(0.2 * n, rel=0.02) and time.monotonic() - started < 20
    one = splits.assign(
        ["a", "b", "c", *hashes[3:]], [None] * n, [None, None, None] + ["all"] * (n - 3), [None] * n, 0.2, 0.2, 0
    )
    assert Counter(one)["train"] >= n - 5
