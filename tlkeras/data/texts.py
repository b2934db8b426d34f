"""Texts as a pipeline reads them: token ids, tokenised once, in batches of like length that are padded together.

Tokenising and packing run as TensorFlow operators, the very ones that a SavedModel holds: keras-hub's tokenizers
take another path outside of a graph.
"""

import functools
import hashlib
import itertools
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlkeras.backbones import Tokens, words
from tlkeras.data import pipeline
from tlkeras.data.pipeline import batches, mapped, steady
from tlkeras.data.ragged import Ragged

CHUNK = 1000  # texts that are tokenised at a time
# What tokenizers take apart no further: ideographs between their marks are shorter.
LONG_WORD = re.compile(r"\w{100}|[^\w\s]{100}")


@dataclass(frozen=True)
class Table:
    """What a pipeline reads: `inputs` are the network's by name, those that end in token_ids and segment_ids; masks
    follow from them. `targets` are float32 (n, k), or Ragged with one number per token and -1 where none is learnt.
    `weights` (n,) float32 and `hashes`, SHA-256 as hex, are per row. Row i came from sample `owners[i]`; `spans` tell
    where in the sample its tokens stand, for tasks that answer with places. `together` rows at a time stay side by side
    in every batch."""

    inputs: dict[str, Ragged]
    targets: Any
    weights: np.ndarray
    hashes: list[str]
    owners: np.ndarray
    spans: list | None = None
    together: int = 1

    def __len__(self) -> int:
        return len(self.hashes)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, the longer input's where there are two."""
        return np.max([r.lengths for r in self.inputs.values()], axis=0)

    def keep(self, rows) -> "Table":
        """The rows at these positions."""
        targets = self.targets.keep(rows) if isinstance(self.targets, Ragged) else self.targets[rows]
        spans = self.spans and [self.spans[i] for i in rows]
        inputs = {name: r.keep(rows) for name, r in self.inputs.items()}
        hashes = [self.hashes[i] for i in rows]
        return Table(inputs, targets, self.weights[rows], hashes, self.owners[rows], spans, self.together)

    def join(self, other: "Table") -> "Table":
        """Both, this one first; targets and owners are this one's kind."""
        if isinstance(self.targets, Ragged):
            targets = self.targets.join(other.targets)
        else:
            targets = np.concatenate([self.targets, other.targets])
        return Table(
            {name: r.join(other.inputs[name]) for name, r in self.inputs.items()},
            targets,
            np.concatenate([self.weights, other.weights]),
            self.hashes + other.hashes,
            np.concatenate([self.owners, other.owners]),
            together=self.together,
        )


@dataclass(frozen=True)
class Reader:
    """How texts become rows: the input contract, keras-hub's tokenizer, and the encoding of the task.

    `encode(samples, targets, reader)` gives (inputs, targets, owners, spans) as Table has them, `together(samples)` how
    many rows stay side by side; None: one.
    """

    tokens: Tokens
    tokenizer: Any
    encode: Callable
    together: Callable | None = None

    def table(self, samples: list[tuple[str, ...]], targets, weights) -> Table:
        """The rows of samples, one tuple of texts each, with targets and weights (n,) for each sample."""
        inputs, targets, owners, spans = self.encode(samples, targets, self)
        names = sorted(inputs)
        made = [hashlib.sha256() for _ in owners]
        for name in names:
            for one, row in zip(made, inputs[name].rows(), strict=True):
                one.update(len(row).to_bytes(4, "little") + row.tobytes())
        weights = np.asarray(weights, np.float32)[owners]
        beside = self.together(samples) if self.together else 1
        return Table(inputs, targets, weights, [one.hexdigest() for one in made], owners, spans, beside)

    def ids(self, texts: list[str]) -> Ragged:
        """The tokens of each text, without special ones."""
        import tensorflow as tf

        rows: list[np.ndarray] = [np.zeros(0, np.int32)] * len(texts)
        for some in _calls(texts):
            found = self._tokenise(tf.constant([texts[i].encode() for i in some]))
            part = Ragged(found.values.numpy().astype("int32"), found.row_splits.numpy())
            for i, row in zip(some, part.rows(), strict=True):
                rows[i] = row
        return Ragged.of(rows)

    @functools.cached_property
    def _tokenise(self):
        import tensorflow as tf

        spec = tf.TensorSpec([None], tf.string)
        return tf.function(self.tokenizer.tokenize, input_signature=[spec], autograph=False)


def places(text: str, tokenizer) -> list[tuple[int, int]]:
    """Where the words of a text begin and end: letters and digits with the marks on them, or one other character; an
    ideograph alone where the tokenizer takes it so. Tokenizers leave together some of what is cut here: BERT's symbols
    ("€5"), byte pairs endings ("'s"), SentencePiece all between blanks."""
    return [found.span() for found in _word(words.apart(tokenizer)).finditer(text)]


@functools.cache
def _word(apart: str) -> re.Pattern:
    # `re` has no class of marks. Joiners and the soft hyphen cannot be seen, and BERT leaves them out.
    marks = "".join(chr(c) for c in range(0x300, 0xE01F0) if unicodedata.category(chr(c))[0] == "M")
    letter = rf"[\w\xad\u200b-\u200d{marks}]"
    if not apart:
        return re.compile(rf"{letter}+|[^\w\s]")
    apart = re.sub(r"\\x\{(\w+)\}", lambda code: chr(int(code[1], 16)), apart)
    return re.compile(rf"[{apart}]|(?:(?![{apart}]){letter})+|[^\w\s]")


def _calls(texts: list[str]):
    """Numbers of the texts that are tokenised by one call: those with a long word by themselves, since byte pairs are
    merged in all words of a call until the longest is done."""
    long = [LONG_WORD.search(t) is not None for t in texts]
    usual = [i for i, alone in enumerate(long) if not alone]
    yield from (usual[start : start + CHUNK] for start in range(0, len(usual), CHUNK))
    yield from ([i] for i, alone in enumerate(long) if alone)


def encode(samples, targets, reader: Reader):
    """The usual encoding: one row a sample, of one text or of two behind each other; see `pack`."""
    parts = [reader.ids([s[k] for s in samples]) for k in range(len(samples[0]) if samples else 1)]
    ids, segments = pack([p.tensor() for p in parts], reader.tokens)
    inputs = {"token_ids": Ragged(ids.values.numpy(), ids.row_splits.numpy())}
    if reader.tokens.segments:
        inputs["segment_ids"] = Ragged(segments.values.numpy(), segments.row_splits.numpy())
    return inputs, targets, np.arange(len(samples)), None


def chunks(samples, reader: Reader) -> tuple[Ragged, np.ndarray]:
    """Single texts cut into as many rows as they fill, each between the special ids: (ids, number of the sample)."""
    tokens = reader.tokens
    room = tokens.length - len(tokens.start) - len(tokens.end)
    rows, owners = [], []
    for n, ids in enumerate(reader.ids([s[0] for s in samples]).rows()):
        for start in range(0, max(len(ids), 1), room):
            rows.append([*tokens.start, *ids[start : start + room], *tokens.end])
            owners.append(n)
    return Ragged.of(rows), np.array(owners, int)


def plain_inputs(ids: Ragged, tokens: Tokens) -> dict[str, Ragged]:
    """The network's inputs of rows of one text each."""
    return {"token_ids": ids} | ({"segment_ids": Ragged(ids.values * 0, ids.splits)} if tokens.segments else {})


def pack(parts: list, tokens: Tokens):
    """Puts the special ids around and between one or two ragged (n, None) parts: (ids, segments), ragged int32.

    What is too long loses tokens off the end of the longer part, one at a time, until it fits.
    """
    import tensorflow as tf

    room = tokens.length - len(tokens.start) - len(tokens.end) - (len(tokens.middle) if len(parts) > 1 else 0)
    lengths = [tf.cast(p.row_lengths(), tf.int64) for p in parts]
    if len(parts) == 1:
        kept = [tf.minimum(lengths[0], room)]
    else:
        first = tf.minimum(lengths[0], tf.maximum(room - lengths[1], (room + 1) // 2))
        kept = [first, tf.minimum(lengths[1], room - first)]
    parts = [_first(p, n) for p, n in zip(parts, kept, strict=True)]
    n = tf.size(kept[0])

    def special(ids):
        return tf.RaggedTensor.from_tensor(tf.tile(tf.constant([ids], tf.int32, (1, len(ids))), (n, 1)))

    pieces = [special(tokens.start), parts[0]]
    segment = [0, 0]
    if len(parts) > 1:
        pieces += [special(tokens.middle), parts[1]]
        segment += [0, 1]
    pieces.append(special(tokens.end))
    segment.append(segment[-1])
    pieces = [tf.cast(p, tf.int32) for p in pieces]
    ids = tf.concat(pieces, 1)
    return ids, tf.concat([tf.ones_like(p) * s for p, s in zip(pieces, segment, strict=True)], 1)


def packed(parts: list, tokens: Tokens) -> dict:
    """`pack` as the inputs of a network: int32 (n, length of the longest) by name."""
    import tensorflow as tf

    ids, segments = pack(parts, tokens)
    wide = tokens.length if tokens.padding == "length" else tf.reduce_max(ids.row_lengths())
    rows = tf.range(ids.nrows())
    x = {"token_ids": _dense(ids, rows, wide, tokens.pad)}
    if tokens.masked:
        x["padding_mask"] = tf.sequence_mask(ids.row_lengths(), wide, tf.int32)
    if tokens.segments:
        x["segment_ids"] = _dense(segments, rows, wide, 0)
    return x


def lengths(table: Table, tokens: Tokens) -> str:
    """How long the rows of a table are, and how many were cut off, in words."""
    n = table.lengths
    low, middle, high, most = (int(np.percentile(n, p)) for p in (0, 50, 95, 100))
    cut = int((n >= tokens.length).sum())
    off = f"; {cut:,} of {len(n):,} reach {tokens.length} and may be cut off" if cut else "; none is cut off"
    return f"{low} to {most} a text, median {middle}, 95 % up to {high}{off}"


def _first(ragged, kept):
    import tensorflow as tf

    places = tf.ragged.range(ragged.row_lengths())
    return tf.ragged.boolean_mask(ragged, places < tf.expand_dims(kept, 1))


def bucket(lengths):
    """Lengths to pad to, so that few different shapes come up: less than a quarter longer, or one token."""
    lengths = np.maximum(np.asarray(lengths, np.int64), 1)
    step = np.maximum(2, np.exp2(np.ceil(np.log2(lengths)) - 3).astype(np.int64))
    return -(-lengths // step) * step


def padded(table: Table, tokens: Tokens) -> np.ndarray:
    """What each row is padded to, when alone."""
    if tokens.padding == "length":
        return np.full(len(table), tokens.length, np.int64)
    return np.minimum(bucket(table.lengths), max(tokens.length, table.lengths.max(initial=1)))


def answering(table: Table):
    """Returns `f(rows, wide) -> (targets, weights)` for tf.data: per row, or per token and padded to `wide`."""
    import tensorflow as tf

    weights = tf.constant(table.weights, tf.float32)
    if not isinstance(table.targets, Ragged):
        targets = tf.constant(np.asarray(table.targets, np.float32))
        return lambda rows, wide: (tf.gather(targets, rows), tf.gather(weights, rows))
    ragged = table.targets.tensor()

    def per_token(rows, wide):
        y = _dense(ragged, rows, wide, -1)
        return tf.maximum(y, 0), tf.cast(y >= 0, tf.float32) * tf.gather(weights, rows)[:, None]

    return per_token


def _dense(ragged, rows, wide, fill: int):
    import tensorflow as tf

    found = tf.gather(ragged, rows).to_tensor(fill)
    return tf.pad(found, [[0, 0], [0, tf.cast(wide, tf.int64) - tf.shape(found, tf.int64)[1]]], constant_values=fill)


def reading(table: Table, tokens: Tokens):
    """Returns `f(rows) -> (inputs by name, targets, weights)`, padded to the longest of these rows, for tf.data."""
    import tensorflow as tf

    ragged = {name: r.tensor() for name, r in table.inputs.items()}
    answers, longest = answering(table), tf.constant(padded(table, tokens))

    def batch(rows):
        wide = tf.reduce_max(tf.gather(longest, rows))
        x = {}
        for name, tensor in ragged.items():
            ids = name.endswith("token_ids")
            x[name] = _dense(tensor, rows, wide, tokens.pad if ids else 0)
            if ids and tokens.masked:
                lengths = tf.gather(tensor, rows).row_lengths()
                x[name.replace("token_ids", "padding_mask")] = tf.sequence_mask(lengths, wide, tf.int32)
        return x, *answers(rows, wide)

    return batch


def training(table: Table, tokens: Tokens, batch: int, seed: int, first: int, epochs: int, options=None, change=None):
    """Batches of (inputs, targets, weights) for the epochs first, ..., epochs - 1, each in its own order.

    `change(x, y, w, key)` draws something new for a batch from a key (2,) int64, e.g. which tokens are masked.
    """
    import tensorflow as tf

    read, n = reading(table, tokens), len(table)

    def epoch(e):
        rows = batches(table, batch, seed, e)
        if change is None:
            return mapped(rows, read)
        keyed = rows.enumerate().map(lambda k, r: (r, tf.stack([tf.cast(seed, tf.int64) + 1, e * n + k])))
        return mapped(keyed, lambda r, key: change(*read(r), key))

    return steady(pipeline.epochs(first, epochs, epoch))


def held_out(table: Table, tokens: Tokens, batch: int, change=None):
    """Batches once, each row with others of like length; the order is that of length."""
    import tensorflow as tf

    read = reading(table, tokens)
    rows = pipeline.in_turn(table, batch)
    if change is not None:
        keyed = rows.enumerate()
        return steady(mapped(keyed, lambda k, r: change(*read(r), tf.stack([tf.constant(0, tf.int64), k]))))
    return steady(mapped(rows, read))


def arranged(table: Table, tokens: Tokens, numbers: list) -> list:
    """(row, view) pairs in an order in which rows of one padded length follow each other."""
    wide = padded(table, tokens)
    return sorted(numbers, key=lambda pair: wide[pair[0]])


def rows_at_a_time(n: int) -> int:
    """Rows a call of a pass over so many: few, since the last call of every length is filled up. More pay less than they
    fill: a token of MiniLM takes 0.264 ms by 8, 0.251 by 16 and 0.242 by 32 (docs/log.md)."""
    return 16 if n >= 1000 else 8


def views(table: Table, tokens: Tokens, numbers: list, batch: int, seed: int, options=None):
    """Batches of the network's inputs as tuples of arrays, in the order of the names, for (row, view) pairs in their
    order. A batch holds rows of one padded length, so that what a row gives does not depend on its neighbours."""
    wide = padded(table, tokens)
    for length, group in itertools.groupby([row for row, _ in numbers], key=lambda row: wide[row]):
        rows = list(group)
        for start in range(0, len(rows), batch):
            yield _arrays(table, tokens, rows[start : start + batch], int(length))


def _arrays(table: Table, tokens: Tokens, rows: list[int], wide: int) -> tuple:
    """As `reading`, in NumPy and without targets: ten times as fast for a few rows."""
    x = {}
    for name, ragged in table.inputs.items():
        ids = name.endswith("token_ids")
        x[name] = np.full((len(rows), wide), tokens.pad if ids else 0, np.int32)
        for line, row in zip(x[name], rows, strict=True):
            line[: len(ragged[row])] = ragged[row]
        if ids and tokens.masked:
            lengths = ragged.lengths[rows]
            x[name.replace("token_ids", "padding_mask")] = (np.arange(wide) < lengths[:, None]).astype(np.int32)
    return tuple(x[name] for name in sorted(x))
