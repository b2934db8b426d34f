"""Held-out samples that an earlier run knows: what a run begins with, or is taught by, may have been trained on them."""

from pathlib import Path

from tlkeras import config
from tlkeras.run import Run, read_json, write_json


def note(cfg, held, run: Run, progress) -> None:
    """Says how many samples that are to judge a run were trained on by runs of the same task that it learns from, and
    keeps it in data_report.json. Words and masked words that were learnt without labels are left out."""
    told = [cfg.backbone.name, *([cfg.distill.run] if cfg.distill else [])]
    found = {}
    for folder in dict.fromkeys(told):
        other = Run(folder)
        if not Path(other.splits).is_file() or config.load(other.config).task_name != cfg.task_name:
            continue
        trained = _trained(other)
        for split in ("test", "val"):
            rows = held.rows(split)
            if seen := sum(held.hashes[i] in trained for i in rows):
                found.setdefault(str(folder), {})[split] = seen
                progress.line(
                    f"warning   {folder} was trained on {seen:,} of the {len(rows):,} {split} samples, so their figures flatter; split as it does: data.seed, val, test"
                )
    write_json(run.data_report, {**read_json(run.data_report), "known": found})


def _trained(run: Run) -> set[str]:
    """The content hashes of the samples that a run was trained on."""
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(run.splits, columns=["sha256", "split"]).to_pydict()
    return {h for h, s in zip(table["sha256"], table["split"], strict=True) if s == "train"}
