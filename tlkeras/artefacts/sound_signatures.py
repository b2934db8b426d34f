"""What a SavedModel takes of sound: WAV files, decoded, resampled and cut into windows in the graph, and samples."""

from dataclasses import replace

from tlkeras.data import sound_graph


def signatures(trained) -> dict:
    """{name: tf.function} for the network of a run on sounds; see saved_model."""
    import tensorflow as tf

    model, task, answer, takes = trained.network.model, trained.task, trained.answer, trained.network.input

    def outputs(samples, count):
        given = samples if takes.fixed else {"samples": samples, "count": count}
        return task.finish(model(given, training=False), answer)

    def heard(contents):
        x = sound_graph.decode(contents, takes.rate)
        return x if takes.trim is None else sound_graph.trimmed(x, takes.rate, takes.trim)

    def rows_of(files):
        """Samples (n, m) and how many of each row are sound, of files that fit into the network."""
        rows = tf.map_fn(heard, files, fn_output_signature=tf.RaggedTensorSpec([None], tf.float32, 0))
        count = tf.cast(rows.row_lengths(), tf.int32)
        said = f"a sound must be at most {takes.seconds:g} s long; cut it into utterances"
        most = tf.reduce_max(count)
        short = tf.debugging.Assert(most <= takes.length, [said, "samples of one that is longer:", most])
        with tf.control_dependencies([short]):
            return rows.to_tensor(shape=[None, takes.length if takes.fixed else None]), tf.identity(count)

    if hasattr(task, "writer"):
        return _written(trained, rows_of)
    if hasattr(task, "frame_head"):

        def of_files(files):
            found = task.serving(outputs(*rows_of(files)), answer)
            return {name: x for name, x in found.items() if name != task.OUTPUT}
    else:

        def mean(contents):
            x = heard(contents)
            n = tf.size(x)
            size = takes.length if takes.fixed else tf.minimum(n, takes.length)
            hop = max(int(takes.length * (1 - takes.overlap)) // takes.step, 1) * takes.step
            more = tf.maximum(0, -(-(n - takes.length) // hop))
            starts = tf.range(more + 1) * hop
            x = tf.pad(x, [[0, tf.maximum(0, more * hop + size - n)]])
            windows = tf.gather(x, tf.expand_dims(starts, 1) + tf.range(size))
            return tf.reduce_mean(outputs(windows, tf.minimum(size, n - starts)), 0)

        def of_files(files):
            width = trained.network.model.output.shape[-1]
            found = tf.map_fn(mean, files, fn_output_signature=tf.TensorSpec([width], tf.float32))
            return task.serving(found, answer)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="audio_bytes")], autograph=False)
    def from_files(audio_bytes):
        return of_files(audio_bytes)

    samples = tf.TensorSpec([None, None], tf.float32, name="samples")
    if takes.fixed:

        @tf.function(input_signature=[samples], autograph=False)
        def from_samples(samples):
            missing = tf.maximum(0, takes.length - tf.shape(samples)[1])
            cut = tf.ensure_shape(tf.pad(samples, [[0, 0], [0, missing]])[:, : takes.length], [None, takes.length])
            return task.serving(outputs(cut, None), answer)
    else:

        @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="count"), samples], autograph=False)
        def from_samples(count, samples):
            return task.serving(outputs(samples, count), answer)

    return {"serving_default": from_files, "pcm": from_samples}


def _written(trained, rows_of) -> dict:
    """Of a network that writes: `text` as the run's options say, and `greedy`, by which it can be held against another."""
    import tensorflow as tf

    greedy = replace(trained, options=trained.options.model_copy(update={"sampler": "greedy"}))
    write, surest = (trained.task.writer(t) for t in (trained, greedy))
    drawn, takes = trained.options.sampler != "greedy", trained.network.input

    def both(samples, count):
        found = surest(samples, count)
        return {"text": write(samples, count) if drawn else tf.identity(found), "greedy": found}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="audio_bytes")], autograph=False)
    def from_files(audio_bytes):
        return both(*rows_of(audio_bytes))

    wide = takes.length if takes.fixed else None
    given = [tf.TensorSpec([None], tf.int32, name="count"), tf.TensorSpec([None, wide], tf.float32, name="samples")]

    @tf.function(input_signature=given, autograph=False)
    def from_samples(count, samples):
        return both(samples, count)

    return {"serving_default": from_files, "pcm": from_samples}
