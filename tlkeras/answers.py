"""Predict: the answers of a run to files and texts that it has not seen."""

from pathlib import Path

import numpy as np

from tlkeras import config, data, mask_metrics, tasks
from tlkeras.config import Data
from tlkeras.data import pictures, scan, sound_sources, tables, text_sources, waveforms
from tlkeras.errors import DataError, UsageError
from tlkeras.evaluation import Trained, columns_of, judgements, open_trained, outputs
from tlkeras.progress import Progress
from tlkeras.run import open_run, read_json


def predict(folder, files=(), batch: int | None = None, quiet: bool = False, given=(), sets=()) -> list[dict]:
    """Answers for files and texts: [{'file', ..., the answer of the task} or {'file', 'error'}].

    Args:
        folder: the run.
        files: of a task on images or sounds such files and folders of them; sounds may be hours long. Of a text task .txt files, each one text, and tables
            (.csv, .tsv, .jsonl, .parquet) with the columns that the run was trained on, but no labels.
        batch: samples at a time. None: as many as this machine does best.
        given: texts themselves; where a sample is a pair, both behind each other.
        sets: overrides of the run's config, such as 'task.sampler=top_p' for what is written.
    """
    trained = open_trained(folder, sets=sets)
    if trained.network.kind == "text":
        return _of_texts(trained, files, given, batch, Progress(quiet))
    if given:
        kind = {"image": "images", "audio": "sounds"}[trained.network.kind]
        raise UsageError(f"{folder} is a run on {kind}; it answers to files of {kind}, not to texts.")
    if trained.network.kind == "audio":
        return _of_sounds(trained, files, batch, Progress(quiet))
    return _of_images(trained, files, batch, Progress(quiet))


def _of_images(trained: Trained, files, batch, progress) -> list[dict]:
    answers, found = _scanned(files)
    if good := list(found):
        prints = np.array([found[p].fingerprint for p in good], np.int64)
        empty = np.zeros((len(good), 1), np.float32)
        table = pictures.Table(good, empty, empty[:, 0], prints, [found[p].sha256 for p in good])
        rows = (row for output in outputs(trained, table, batch, progress) for row in output)
        places = tasks.on_places(trained.task, trained.answer)
        for name, output in zip(good, rows, strict=True):
            sized = ((found[name].height, found[name].width),) if places else ()
            answers[name] = {"file": name, **trained.task.decode(output, trained.answer, *sized)}
    return list(answers.values())


def _scanned(files) -> tuple[dict[str, dict], dict]:
    """Of image files and folders of them: {name: its answer}, which is what is wrong with those that cannot be read, and
    {name: facts} of the others."""
    paths: list[str] = []
    answers: dict[str, dict] = {}
    for path in map(Path, files):
        if path.is_dir():
            paths += map(str, scan.list_images(path)[0])
        elif path.exists():
            paths.append(str(path))
        else:
            answers[str(path)] = {"file": str(path), "error": "there is no such file"}
    found = data.scan_files(paths)
    answers |= {p: {"file": p, "error": found.bad[p]} for p in paths if p in found.bad}
    return answers, {p: found.good[p] for p in paths if p in found.good}


def pictures_of(files) -> tuple[dict[str, tuple[int, int]], dict[str, dict]]:
    """{name: (height, width)} of the image files that can be read, in folders too, and {name: {'file', 'error'}} of others."""
    answers, found = _scanned(files)
    return {name: (facts.height, facts.width) for name, facts in found.items()}, answers


def _of_sounds(trained: Trained, files, batch, progress) -> list[dict]:
    answers: dict[str, dict] = {}
    paths: list[str] = []
    for path in map(Path, files):
        paths += map(str, sound_sources.files(path)[0]) if path.is_dir() else [str(path)]
    for name in paths:
        try:
            told = waveforms.about(name)
            waveforms.check(name, told)
            answers[name] = {"file": name, "seconds": round(told.count / told.rate, 3)}
        except (DataError, OSError) as e:
            answers[name] = {"file": name, "error": str(e).removeprefix(f"{name}: ")}
    good = [p for p in answers if "error" not in answers[p]]
    if good:
        empty = np.zeros((len(good), 1), np.float32)
        table = trained.network.reader.table(good, empty, empty[:, 0])
        found = (output for part in judgements(trained, table, good, batch, progress) for output in part)
        for name, output in zip(good, found, strict=True):
            answers[name] |= trained.task.decode(output, trained.answer)
    return list(answers.values())


def _of_texts(trained: Trained, files, typed, batch, progress) -> list[dict]:
    wanted = tasks.Wanted(tuple(columns_of(trained)), labelled=False)
    given: list[tuple[str, tuple, str | None]] = []  # id, texts, what is wrong
    alone = hasattr(trained.task, "together")  # embeds each text, whatever pairs it learnt from
    many = 1 if alone else len(columns_of(trained))
    if len(typed) % many:
        raise UsageError(f"{many} texts make a sample ({', '.join(columns_of(trained))}); received {len(typed)}.")
    for n in range(0, len(typed), many):
        given.append((f"text {n // many + 1}", tuple(typed[n : n + many]), None))
    for path in map(Path, files):
        try:
            if path.suffix.lower() == ".txt":
                given.append((str(path), (tables.decoded(path),), None))
            else:
                section = Data(path=str(path), text=columns_of(trained)[0] if alone else trained.config.data.text)
                found = text_sources.read(section, tasks.Wanted(("text",), labelled=False) if alone else wanted)
                given += [(f"{path}: {i}", t, None) for i, t in zip(found.ids, found.inputs, strict=True)]
        except (DataError, OSError) as e:
            given.append((str(path), (), str(e)))
    for n, (i, t, wrong) in enumerate(given):
        if wrong is None:
            short = f"{many} texts make a sample; received {len(t)}" if len(t) != many else None
            given[n] = (i, t, short or text_sources.fault(t))
    good = [t for _, t, wrong in given if wrong is None]
    found = iter(_answers(trained, good, batch, progress))
    return [
        {"file": i, "error": wrong} if wrong else {"file": i, "text": t[0] if many == 1 else list(t), **next(found)}
        for i, t, wrong in given
    ]


def _answers(trained: Trained, samples: list[tuple[str, ...]], batch, progress):
    """The decoded answer of each sample of texts, in order."""
    if not samples:
        return
    if hasattr(trained.task, "respond"):
        yield from trained.task.respond(trained, samples, batch, progress)
        return
    if hasattr(trained.task, "judged"):
        raise UsageError(
            "A masked-lm run has no answers: it adapts a backbone. Train a task from it: backbone: {name: RUN}"
        )
    empty = np.zeros((len(samples), 1), np.float32)
    table = trained.network.reader.table(samples, empty, empty[:, 0])
    for part in judgements(trained, table, samples, batch, progress):
        yield from (trained.task.decode(output, trained.answer) for output in part)


def draw(folder, found: list[dict], into) -> list[Path]:
    """Draws the boxes or masks of answers into their pictures: PNG files in the folder `into`, which must not hold them
    yet; of masks the index mask too, NAME.mask.png. Returns the files.

    Raises:
        UsageError: when the run answers with neither, or a file is there already.
    """
    run = open_run(folder)
    answer, task = read_json(run.manifest)["answer"], tasks.get(config.load(run.config).task_name)
    if not tasks.on_places(task, answer):
        raise UsageError(f"{folder} answers with neither boxes nor masks; there is nothing to draw. Leave --draw out.")
    if "tasks" not in answer:
        return drawn(found, into, answer.get("classes", []))
    known = tasks.classes(answer)
    sample = next((a for a in found if "error" not in a), {})
    boxes, mask = (next((m for m in known if key in sample.get(m, {})), None) for key in ("boxes", "mask"))
    flat = [
        {
            "file": a["file"],
            **(a.get(mask) or {}),
            **(a.get(boxes) or {}),
            **({"error": a["error"]} if "error" in a else {}),
        }
        for a in found
    ]
    return drawn(flat, into, known.get(boxes, []), known.get(mask))


def drawn(found: list[dict], into, classes, of_masks=None) -> list[Path]:
    """As `draw`, for answers whose classes are called `classes`, those of masks `of_masks` where they are others. Boxes
    are drawn over a mask of the same picture.

    Raises:
        UsageError: when a file is there already.
    """
    from tlkeras.data import masks
    from tlkeras.reports import drawing

    into, written = Path(into), []
    into.mkdir(parents=True, exist_ok=True)
    for number, answer in enumerate(a for a in found if "error" not in a):
        path = Path(answer["file"])
        made = into / f"{path.stem}.png"
        if made in written:  # of two folders
            made = into / f"{number}-{path.stem}.png"
        if made.exists():
            raise UsageError(f"{made} is there already and is not overwritten. Name another folder with --draw.")
        shown = data.picture(path)
        if "mask" in answer:
            mask = mask_metrics.unrun(answer["mask"], answer["size"])
            shown = drawing.mask(shown, mask, of_masks or classes)
            masks.write(into / f"{made.stem}.mask.png", mask.astype(np.uint8))
        if "boxes" in answer:
            rows = answer["boxes"]
            boxes, labels, scores = ([row[key] for row in rows] for key in ("box", "label", "score"))
            shown = drawing.boxes(shown, boxes, labels, scores, classes=classes)
        shown.save(made)
        written.append(made)
    return written


def line(answer: dict) -> str:
    """One answer of `predict` as a line."""
    return f"{scan.printed(answer['file'])}: {_said(answer)}"


def _said(answer: dict) -> str:
    if "error" in answer:
        return f"error: {answer['error']}"
    if several := {m: one for m, one in answer.items() if isinstance(one, dict) and m not in ("scores", "shares")}:
        return "; ".join(f"{m}: {_said(one)}" for m, one in several.items())
    if "label" in answer:
        others = ", ".join(f"{c} {s:.3f}" for c, s in list(answer["scores"].items())[1:3])
        return f"{answer['label']} {answer['score']:.3f}   ({others})"
    if "boxes" in answer:
        named = [f"{b['label']} {b['score']:.3f} at {', '.join(f'{v:.0f}' for v in b['box'])}" for b in answer["boxes"]]
        return "; ".join(named) or "nothing found"
    if "shares" in answer:
        return ", ".join(f"{c} {100 * share:.1f} %" for c, share in answer["shares"].items())
    if "labels" in answer:
        return ", ".join(answer["labels"]) or "none"
    if "entities" in answer:
        return ", ".join(f"{e['text']} ({e['type']} {e['score']:.3f})" for e in answer["entities"]) or "no entity"
    if "answer" in answer:
        return f"{answer['answer'] or 'no answer'} {answer['score']:.3f}   (characters {answer['start']} to {answer['end']})"
    if "embedding" in answer:
        shown = ", ".join(f"{v:g}" for v in answer["embedding"][:4])
        return f"[{shown}, ...] of {len(answer['embedding'])}"
    return (
        (answer["text"] or "nothing is said")
        if "text" in answer and "values" not in answer
        else ", ".join(f"{v:g}" for v in answer["values"])
    )
