"""Signatures that take texts for tasks whose answers are places in them: words are cut and tokenised in the graph, and
the answers are names, texts and places counted in characters.

Words are cut as the tasks cut them in Python, see `data.texts.places`. One window of a context is read; longer ones are for `tlkeras predict`.
"""

from tlkeras.backbones import words

SPACE = r"[\s\p{Z}]+"
OTHER = r"[^\s\p{Z}\p{L}\p{N}\p{M}_\x{ad}\x{200b}-\x{200d}]"


def signature(trained, answers):
    """The tf.function of texts for a task, or None where it has none. `answers` is the network and what makes sense of
    its outputs."""
    made = {"tlkeras.tasks.token_classification": _tags, "tlkeras.tasks.question_answering": _spans}
    make = made.get(trained.task.__name__)
    return make and make(trained, answers)


def _words(text, tokenizer):
    """Words of texts (n,): (texts, begins, ends in bytes), ragged (n, words)."""
    import tensorflow as tf
    import tensorflow_text as tf_text

    alone = f"[{apart}]|{OTHER}" if (apart := words.apart(tokenizer)) else OTHER
    found, begins, ends = tf_text.regex_split_with_offsets(text, f"{SPACE}|{alone}", keep_delim_regex_pattern=alone)
    # Whether a blank stands before tells byte pairs that a word begins.
    before = tf.concat([tf.zeros_like(begins[:, :1]), ends[:, :-1]], 1)
    gap = tf.ragged.map_flat_values(lambda b, e: b > e, begins, before)
    spaced = tf.ragged.map_flat_values(lambda w, a: tf.where(a, tf.strings.join([" ", w]), w), found, gap)
    return spaced, begins, ends


def _pieces(tokenizer, words):
    """Tokens of ragged words: (tokens (n, tokens), number of the word of each, first token of each word)."""
    import tensorflow as tf

    flat = tokenizer.tokenize(words.flat_values)
    nested = tf.RaggedTensor.from_row_splits(flat, words.row_splits)
    counts = tf.RaggedTensor.from_row_splits(flat.row_lengths(), words.row_splits)
    firsts = tf.ragged.map_flat_values(lambda c, s: s - c, counts, _running(counts))
    number = tf.ragged.range(words.row_lengths())
    owners = tf.repeat(number.flat_values, flat.row_lengths())
    ids = nested.merge_dims(1, 2)
    return tf.cast(ids, tf.int32), tf.RaggedTensor.from_row_splits(owners, ids.row_splits), firsts


def _running(counts):
    """Sums along each ragged row."""
    import tensorflow as tf

    total = tf.cumsum(counts.flat_values)
    start = tf.gather(tf.concat([[0], total], 0), counts.row_starts())
    return counts.with_flat_values(total - tf.repeat(start, counts.row_lengths()))


def _characters(text, bytes_):
    """Places in bytes as places in characters, ragged (n, k)."""
    import tensorflow as tf

    of = tf.repeat(text, bytes_.row_lengths())
    begin = tf.zeros_like(bytes_.flat_values, tf.int32)
    parts = tf.strings.substr(of, begin, tf.cast(bytes_.flat_values, tf.int32))
    return bytes_.with_flat_values(tf.strings.length(parts, unit="UTF8_CHAR"))


def _inputs(ids, segments, tokens):
    """Ragged ids and segments as the network's inputs."""
    import tensorflow as tf

    x = {"token_ids": ids.to_tensor(tokens.pad)}
    if tokens.masked:
        x["padding_mask"] = tf.sequence_mask(ids.row_lengths(), dtype=tf.int32)
    if tokens.segments:
        x["segment_ids"] = segments.to_tensor(0)
    return x


def _filled(ragged):
    """Dense, with a column more, so that there is one."""
    import tensorflow as tf

    return tf.pad(ragged.to_tensor(0), [[0, 0], [0, 1]])


def _special(ids, n):
    import tensorflow as tf

    return tf.RaggedTensor.from_tensor(tf.tile(tf.constant([ids], tf.int32, (1, len(ids))), (n, 1)))


def _tags(trained, answers):
    import tensorflow as tf

    reader, tokens = trained.network.reader, trained.network.reader.tokens
    room = tokens.length - len(tokens.start) - len(tokens.end)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")], autograph=False)
    def tag(text):
        words, begins, ends = _words(text, reader.tokenizer)
        pieces, _, firsts = _pieces(reader.tokenizer, words)
        n = tf.size(text)
        ids = tf.concat([_special(tokens.start, n), pieces[:, :room], _special(tokens.end, n)], 1)
        out = answers(_inputs(ids, tf.zeros_like(ids), tokens))
        inside = firsts < room
        firsts, begins, ends = (tf.ragged.boolean_mask(x, inside) for x in (firsts, begins, ends))
        place = firsts.to_tensor(0) + len(tokens.start)
        scores = tf.gather(out["scores"], place, batch_dims=1)
        real = tf.sequence_mask(firsts.row_lengths())
        best = tf.gather(tf.constant(trained.answer["classes"]), tf.argmax(scores, -1))
        return {
            "tags": tf.where(real, best, ""),
            "scores": tf.where(real, tf.reduce_max(scores, -1), 0.0),
            "start": _characters(text, begins).to_tensor(-1),
            "end": _characters(text, ends).to_tensor(-1),
        }

    return tag


def _spans(trained, answers):
    import tensorflow as tf

    from tlkeras.tasks.question_answering import most_question

    reader, tokens = trained.network.reader, trained.network.reader.tokens
    specs = [tf.TensorSpec([None], tf.string, name=name) for name in ("question", "context")]

    @tf.function(input_signature=specs, autograph=False)
    def span(question, context):
        words, begins, ends = _words(context, reader.tokenizer)
        pieces, owners, _ = _pieces(reader.tokenizer, words)
        asked = tf.cast(reader.tokenizer.tokenize(question), tf.int32)[:, : most_question(tokens)]
        n = tf.size(question)
        head = tf.concat([_special(tokens.start, n), asked, _special(tokens.middle, n)], 1)
        room = tokens.length - len(tokens.end) - head.row_lengths()
        fits = tf.ragged.range(pieces.row_lengths()) < room[:, None]
        pieces, owners = (tf.ragged.boolean_mask(x, fits) for x in (pieces, owners))
        tail = tf.concat([pieces, _special(tokens.end, n)], 1)
        ids = tf.concat([head, tail], 1)
        out = answers(_inputs(ids, tf.concat([tf.zeros_like(head), tf.ones_like(tail)], 1), tokens))["scores"]
        return {**_best(out, head, pieces, owners, begins, ends, context), "scores": out}

    def _best(out, head, pieces, owners, begins, ends, context):
        wide = tf.shape(out, tf.int64)[2]
        offset, count = head.row_lengths()[:, None], pieces.row_lengths()[:, None]
        here = tf.range(wide)[None]
        inside = (here >= offset) & (here < offset + count)
        first, last = (tf.where(inside, out[:, k], -1e9) for k in (0, 1))
        both = first[:, :, None] + last[:, None, :]
        most = tf.minimum(tf.constant(trained.answer["max_answer"] - 1, tf.int64), wide - 1)
        both = tf.where(tf.linalg.band_part(tf.ones_like(both, tf.bool), tf.zeros_like(most), most), both, -2e9)
        flat = tf.argmax(tf.reshape(both, (tf.shape(both)[0], -1)), 1)
        i, j = flat // wide, flat % wide
        score = tf.reduce_max(both, (1, 2))
        nothing = (
            (out[:, 0, 0] + out[:, 1, 0]) > score if trained.answer["unanswerable"] else tf.zeros_like(score, tf.bool)
        )
        # A context of blanks alone has no word.
        nothing |= count[:, 0] == 0
        word = [
            tf.gather(_filled(owners), tf.where(nothing, tf.zeros_like(k), k - offset[:, 0]), batch_dims=1)
            for k in (i, j)
        ]
        spots = [tf.gather(_filled(x), w, batch_dims=1) for x, w in ((begins, word[0]), (ends, word[1]))]
        start, end = (tf.where(nothing, tf.zeros_like(x), x) for x in spots)
        text = tf.strings.substr(context, start, end - start)
        chars = [
            tf.strings.length(tf.strings.substr(context, tf.zeros_like(x), x), unit="UTF8_CHAR") for x in (start, end)
        ]
        return {"answer": text, "start": chars[0], "end": chars[1], "score": tf.exp(score)}

    return span
