"""Rows of different lengths in one array, such as the tokens of texts."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths: row i is values[splits[i]:splits[i + 1]]."""

    values: np.ndarray
    splits: np.ndarray

    @classmethod
    def of(cls, rows, dtype="int32") -> "Ragged":
        rows = [np.asarray(r, dtype) for r in rows]
        splits = np.cumsum([0, *map(len, rows)])
        return cls(np.concatenate(rows) if rows else np.zeros(0, dtype), splits)

    def __len__(self) -> int:
        return len(self.splits) - 1

    def __getitem__(self, i) -> np.ndarray:
        return self.values[self.splits[i] : self.splits[i + 1]]

    def rows(self):
        return (self[i] for i in range(len(self)))

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.splits)

    def keep(self, rows) -> "Ragged":
        return Ragged.of([self[i] for i in rows], self.values.dtype)

    def join(self, other: "Ragged") -> "Ragged":
        return Ragged(
            np.concatenate([self.values, other.values]),
            np.concatenate([self.splits, other.splits[1:] + len(self.values)]),
        )

    def tensor(self):
        import tensorflow as tf

        return tf.RaggedTensor.from_row_splits(self.values, self.splits, validate=False)
