"""Several tasks at once: heads of any kinds on one backbone, each with its own labels, loss and metrics.

A task among several is called a member here, and has a name. The hooks are those of every task (see tasks), with

    labels         {member: label}, None where a sample has none for it
    targets        {member: target}, without those that have none
    as learnt      float32 rows of a weight a member (its class weight, 0 without a label) and its targets, side by side;
                   a structured array with a field a member where places in pictures are among them
    raw, outputs   float32 (B, n): what the members give, flattened, side by side
    answer         {"tasks": {member: {"task", "answer", "target", "raw"}}, "split_by": the same of the member whose
                   classes the splits are balanced by, or None}; `heads` adds the shapes "raw"
    columns        `member/column`, and `member/labelled`: whether there was a label
"""

from typing import Any

import numpy as np

from tlkeras.errors import DataError
from tlkeras.tasks import balance, classification, object_detection, regression, semantic_segmentation
from tlkeras.tasks.members import MODULES, Options, annotations, bind, mistakes, taught, used

__all__ = ["MODULES", "Options", "annotations", "bind", "mistakes", "taught"]  # the hooks that are there already
# What the mean over the members takes of each: one that is 1 at best, and 0 for knowing nothing.
COMMON = {"rmse": "r2"}


def on_places(answer: dict) -> bool:
    return any(hasattr(module, "maps") for module, _, _ in members(answer).values())


def members(answer: dict) -> dict[str, tuple[Any, dict, dict]]:
    """{member: (module, the answer of its task, all that is known of it)}"""
    return {m: (MODULES[one["task"]], one["answer"], one) for m, one in answer["tasks"].items()}


# --- Targets


def targets(labels, options: Options, classes=None):
    """See above. `classes` are {member: names} where they are known.

    Raises:
        DataError: when a task has no label at all, or its labels are not what it needs.
    """
    rows: list[dict] = [{} for _ in labels]
    answers, split_by = {}, None
    for m, own in options.tasks.items():
        if classes is not None and m not in classes:
            continue  # of a run of one task alone that is opened again: the others were needed for the splits
        made, one = _own_targets(m, own, [label.get(m) for label in labels], own.classes or (classes or {}).get(m))
        known = [i for i, label in enumerate(labels) if label.get(m) is not None]
        for i in known:
            rows[i][m] = made[i]
        about = {"task": own.name, "answer": one}
        if options.only in (None, m):
            answers[m] = about
        module = MODULES[own.name]
        if split_by is None and (strata := module.strata(_stacked(rows, m, known), one)) is not None and strata:
            split_by = {"member": m, **about}
    return rows, {"tasks": answers, "split_by": split_by}


def _own_targets(m: str, own, labels: list, classes):
    """The targets of one member, anything where it has no label, and its answer."""
    module, known = MODULES[own.name], [i for i, label in enumerate(labels) if label is not None]
    if not known:
        raise DataError(f"task {m}: no sample has a label for it. Name its column with task.tasks.{m}.label.")
    if module is regression:  # which names rows by their number, so that none may be left out
        stand_in = ["0"] * len(labels[known[0]]) if isinstance(labels[known[0]], list) else "0"
        given, places = [stand_in if label is None else label for label in labels], list(range(len(labels)))
    else:
        given, places = [labels[i] for i in known], known
    if module is classification and classes:  # not every class must occur in what is judged; training asks for it
        given = [*given, *classes]
    try:
        made, answer = module.targets(given, own, classes)
    except DataError as e:
        raise DataError(f"task {m}: {e}") from e
    found: list = [None] * len(labels)
    for i, row in zip(places, made, strict=False):
        found[i] = row
    return found, answer


def _stacked(rows: list[dict], m: str, known):
    """The targets of a member at some rows, as its own task has them."""
    chosen = [rows[i][m] for i in known]
    return np.stack(chosen) if isinstance(chosen[0], np.ndarray) else chosen


def learnt(rows, train, answer, options: Options):
    """See above.

    Raises:
        DataError: when a task has no label in training, or a class of it none.
    """
    train, fields, weights, answers = set(map(int, train)), {}, [], {}
    for m, (module, one, about) in members(answer).items():
        known = [i for i, row in enumerate(rows) if m in row]
        here = [n for n, i in enumerate(known) if i in train]
        if not here:
            raise DataError(f"task {m}: none of the {len(train):,} training samples has a label for it.")
        own, made = options.tasks[m], _stacked(rows, m, known)
        if module is classification and not (seen := made[here].sum(0)).all():
            unseen = [c for c, n in zip(one["classes"], seen, strict=True) if not n]
            raise DataError(f"task {m}: every class needs training samples; without one: {', '.join(unseen[:10])}.")
        try:
            found, each, one = module.learnt(made, here, one, own)
        except DataError as e:
            raise DataError(f"task {m}: {e}") from e
        blank = -1 if module is object_detection else np.zeros((), found.dtype)
        fields[m] = np.full((len(rows), *found.shape[1:]), blank, found.dtype)
        fields[m][known] = found
        weights.append(np.zeros(len(rows), np.float32))
        weights[-1][known] = each
        answers[m] = {**about, "answer": one, "target": list(found.shape[1:])}
    answer, beside = {**answer, "tasks": answers}, np.stack(weights, 1)
    if not on_places(answer):
        return np.concatenate([beside, *fields.values()], 1), np.ones(len(rows), np.float32), answer
    kinds = [(m, field.dtype, field.shape[1:]) for m, field in fields.items()]
    table = np.zeros(len(rows), [("weights", np.float32, (len(fields),)), *kinds])
    for name, field in (("weights", beside), *fields.items()):
        table[name] = field
    return table, np.ones(len(rows), np.float32), answer


def strata(rows, answer):
    """The classes of one member, in words: splits hold the parts of no more than one."""
    by = answer.get("split_by")
    if by is None:
        return None
    known = [i for i, row in enumerate(rows) if by["member"] in row]
    if not known:
        return None
    found = ["no label"] * len(rows)
    numbers = MODULES[by["task"]].strata(_stacked(rows, by["member"], known), by["answer"])
    for i, number in zip(known, numbers, strict=True):
        found[i] = by["answer"]["classes"][number] if number >= 0 else "none of the classes"
    counts = {name: found.count(name) for name in set(found)}
    largest = max(counts, key=lambda name: (counts[name], name))
    # Too few to be split, and no class whose samples would be missed.
    few = {name for name in ("no label", "none of the classes") if counts.get(name, 3) < 3}
    return [largest if name in few else name for name in found]


# --- The network


def heads(pooled, levels, contract, answer, options: Options):
    """The raw outputs of all members, flattened, side by side; behind them, where the weights of the losses are learnt, a
    column for the weight of each and one for what is added (balance.py). `pooled()` gives features (B, c), `levels()`
    feature maps by stride. Notes the shapes of the raw outputs in the answer."""
    import keras
    from keras import layers

    all_, features, raw = members(answer), None, []
    held: set[int] = set()
    if any(not hasattr(module, "maps") for module, _, _ in all_.values()):
        features = pooled()
        if options.shared:
            features = layers.Dense(options.shared, activation="gelu", name="head_shared")(features)
    maps = levels() if on_places(answer) else {}
    below = {id(x) for x in [*maps.values(), *([] if features is None else [features])]}
    for m, (module, one, about) in all_.items():
        own = options.tasks[m]
        with keras.name_scope(m):  # which the paths of weights begin with
            if hasattr(module, "maps"):
                x = module.maps(maps, contract.size, one, own)
            else:
                x = module.head(features, one, own)
        _name(x, below, m, held)
        about["raw"] = [int(n) for n in x.shape[1:]]
        if module is semantic_segmentation:
            about["target"] = about["raw"][:2]
        raw.append(layers.Reshape((int(np.prod(about["raw"])),), dtype="float32", name=f"head_{m}")(x))
    joined = layers.Concatenate(dtype="float32", name="head_outputs")(raw) if len(raw) > 1 else raw[0]
    if options.weighting == "fixed" or len(raw) == 1:
        return joined
    return balance.layer(options.weighting, _halved(answer, options), name="head_balance")(joined)


def _halved(answer: dict, options: Options) -> list[float]:
    """Of a Gaussian's likelihood the squared error counts half (Kendall et al., equation 5)."""
    squares = [module is regression and options.tasks[m].loss != "mae" for m, (module, _, _) in members(answer).items()]
    return [0.5 if square else 1.0 for square in squares]


def _name(x, below: set[int], member: str, held: set[int]) -> None:
    """Puts the member's name into the names of its layers, since two heads may call theirs alike: head_logits becomes
    head_MEMBER_logits."""
    waiting = [x]
    while waiting:
        x = waiting.pop()
        if id(x) in below or id(x) in held:
            continue
        operation, node, _ = x._keras_history
        part, _, rest = operation.name.partition("_")
        if part in ("neck", "head") and id(operation) not in held:
            operation.name = f"{part}_{member}_{rest}"
        held |= {id(x), id(operation)}
        waiting += operation._inbound_nodes[node].input_tensors


def _apart(flat, shapes: dict, ops=np) -> dict:
    """{member: (B, *shape)} of what lies side by side in (B, n)."""
    found, start = {}, 0
    for m, shape in shapes.items():
        size = int(np.prod(shape)) if len(shape) else 1
        found[m] = ops.reshape(flat[:, start : start + size], (-1, *shape))
        start += size
    return found


def _raw(raw, answer) -> dict:
    from keras import ops

    return _apart(raw, {m: one["raw"] for m, one in answer["tasks"].items()}, ops)


def _given(answer: dict) -> dict:
    """The shapes of finished outputs."""
    shapes = {}
    for m, (module, one, about) in members(answer).items():
        shapes[m] = (
            (one["most"], 6)
            if module is object_detection
            else about["target" if module is semantic_segmentation else "raw"]
        )
    return shapes


def loss(options: Options):
    """The weighted sum of the members' mean losses, each over the rows that have its label."""
    return balance.loss(_terms(options), [own.weight for own in used(options).values()], _width(options._answer))


def metrics(options: Options) -> list:
    """The loss and the metrics of each member, on the rows that have its label."""
    return balance.metrics(_terms(options), {m: MODULES[own.name].metrics(own) for m, own in used(options).items()})


def _terms(options: Options):
    """f(y, raw) -> {member: (weights (B,), targets, raw outputs, loss of each row)}."""
    answer = options._answer
    each = {m: MODULES[own.name].loss(own).call for m, own in used(options).items()}
    shapes = {m: one["target"] for m, one in answer["tasks"].items()}

    def terms(y, raw):
        from keras import ops

        outputs, wanted = _raw(raw, answer), _apart(y[:, len(shapes) :], shapes, ops)
        return {m: (y[:, k], wanted[m], outputs[m], each[m]) for k, m in enumerate(shapes)}

    return terms


def _width(answer: dict) -> int:
    return sum(int(np.prod(one["raw"])) for one in answer["tasks"].values())


def balanced(trained, network, options: Options):
    """The model as it is trained: with gradnorm one that moves the weights of the losses in every step."""
    if options.weighting != "gradnorm" or len(options._answer["tasks"]) == 1:
        return trained
    return balance.paced(trained, network, _terms(options), options.pace, options.pace_rate)


def told(network, options: Options) -> dict[str, float]:
    """What is learnt of the weights, for the history."""
    return balance.told(network.model, options._answer["tasks"])


# --- Answers


def finish(raw, answer):
    from keras import ops

    parts = _raw(raw, answer)
    made = [module.finish(parts[m], one) for m, (module, one, _) in members(answer).items()]
    flat = [ops.reshape(x, (-1, int(np.prod(x.shape[1:])))) for x in made]
    return ops.concatenate([ops.cast(x, "float32") for x in flat], 1)


def columns(rows, outputs, answer) -> dict:
    import pyarrow

    found, parts = {}, _apart(np.stack(list(outputs)), _given(answer))
    for m, (module, one, about) in members(answer).items():
        labelled = [m in row for row in rows]
        told: Any = [row[m] if m in row else _stand_in(module, about) for row in rows]
        given = np.stack(told) if module in (classification, regression) else told
        found[f"{m}/labelled"] = labelled
        kept = pyarrow.array([i if known else None for i, known in enumerate(labelled)], pyarrow.int64())
        for name, values in module.columns(given, _as_given(module, parts[m]), one).items():
            values = values if isinstance(values, pyarrow.Array) else pyarrow.array(values)
            found[f"{m}/{name}"] = values.take(kept) if name.startswith(("label", "truth", "counts")) else values
    return found


def _as_given(module, part):
    return part.astype(np.uint8) if module is semantic_segmentation else part


def _stand_in(module, about: dict):
    """In place of a target that is not there. Where nothing is known of the picture, places are parts of it."""
    if module is object_detection:
        none = {"boxes": np.zeros((0, 4)), "classes": np.zeros(0, int), "crowd": np.zeros(0, bool)}
        return {"size": (1, 1), **none, "areas": np.zeros(0)}
    if module is semantic_segmentation:
        return np.full(about["target"], about["answer"]["ignore"], np.uint8)
    return np.zeros(about["target"], np.float32)


def MAIN(answer) -> tuple[str, bool]:
    return "mean", True


def score(table: dict, answer) -> dict:
    """The metrics of all members by `member/metric`, and 'tasks': the result of each. 'mean' is the mean of their main
    metrics; of regression of R2, which like the others is 1 at best."""
    results = {}
    for m, (module, one, _) in members(answer).items():
        if any(table[f"{m}/labelled"]):
            results[m] = {"main": module.MAIN(one)[0], **module.score(of_member(table, m), one)}
    metrics = {f"{m}/{k}": v for m, r in results.items() for k, v in r["metrics"].items()}
    main = [metrics[f"{m}/{COMMON.get(r['main'], r['main'])}"] for m, r in results.items()]
    known = [v for v in main if v is not None]
    return {
        "metrics": {"mean": float(np.mean(known)) if known else None, **metrics},
        "intervals": {f"{m}/{k}": v for m, r in results.items() for k, v in r["intervals"].items()},
        "n": len(table[f"{next(iter(answer['tasks']))}/labelled"]),
        "tasks": results,
    }


def of_member(table: dict, m: str) -> dict:
    """The columns of one member, of the samples that have its label; with their ids, where the table has them."""
    there = [i for i, known in enumerate(table[f"{m}/labelled"]) if known]
    names = {c.removeprefix(f"{m}/"): c for c in table if c.startswith(f"{m}/")} | (
        {"id": "id"} if "id" in table else {}
    )
    return {short: [table[c][i] for i in there] for short, c in names.items()}


def decode(output, answer, size=None) -> dict:
    """{member: the answer of its task}"""
    parts, found = _apart(np.asarray(output)[None], _given(answer)), {}
    for m, (module, one, _) in members(answer).items():
        sized = (size,) if hasattr(module, "maps") else ()
        found[m] = module.decode(parts[m][0], one, *sized)
    return found


def serving(outputs, answer, sizes=None) -> dict:
    """The named tensors of all members, as `member_name`."""
    import tensorflow as tf

    found: dict = {}
    parts = _apart(outputs, _given(answer), tf)
    for m, (module, one, _) in members(answer).items():
        part = tf.cast(parts[m], tf.uint8) if module is semantic_segmentation else parts[m]
        sized = (sizes,) if hasattr(module, "maps") else ()
        found |= {f"{m}_{name}": x for name, x in module.serving(part, one, *sized).items()}
    return found


def named(outputs, answer) -> dict:
    """The outputs by name, {`member_scores`: (B, k), ...}: those of an artefact that `joined` puts together again."""
    import tensorflow as tf

    parts = _apart(outputs, _given(answer), tf)
    return {f"{m}_{module.OUTPUT}": parts[m] for m, (module, _, _) in members(answer).items()}


def joined(named: dict, answer) -> np.ndarray:
    """Outputs (n, k) from those that an artefact gave by name."""
    found = [named[f"{m}_{module.OUTPUT}"] for m, (module, _, _) in members(answer).items()]
    return np.concatenate([x.reshape(len(x), -1).astype(np.float32) for x in found], 1)


def described(answer) -> dict:
    """Of each named output the answer of its task: {`member_scores`: (member, kind of task, answer)}."""
    return {f"{m}_{module.OUTPUT}": (m, about["task"], one) for m, (module, one, about) in members(answer).items()}


def apart(got, expected, answer) -> tuple[float, float]:
    """Of the member that is furthest from what was expected: how far, and how much of that rounding explains."""
    shapes, found = _given(answer), []
    pairs = _apart(np.asarray(got), shapes), _apart(np.asarray(expected), shapes)
    for m, (module, _, _) in members(answer).items():
        a, b = pairs[0][m], pairs[1][m]
        if hasattr(module, "apart"):
            found.append(module.apart(a, b))
        else:
            found.append((float(np.abs(a - b).max()), 1e-3 * max(1.0, float(np.abs(b).max()))))
    return max(found, key=lambda pair: pair[0] / pair[1])
