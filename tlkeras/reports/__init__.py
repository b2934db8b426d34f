"""The report: one HTML file that holds everything it shows and loads nothing."""

from pathlib import Path

from tlkeras.reports import adapted, facts, forgetting, measured, mistakes, page, record, results, several
from tlkeras.run import write_text


def report(folder) -> Path:
    """Writes report.html into a run folder and returns its path; what is not there yet is left out of it.

    Raises:
        UsageError: when `folder` is no run.
        ConfigError, ModelError: when its config or another of its files is damaged.
        StorageError: when the page cannot be written.
    """
    found = facts.read(folder)
    many = "tasks" in found.answer
    parts = [
        ("results", "How good it is", (several if many else measured).figures(found)),
        ("forgetting", "What was forgotten", forgetting.forgetting(found)),
        ("adaptation", "Before and after adapting", adapted.adapted(found)),
        ("training", "How it was trained", record.training(found)),
        ("mistakes", "What it gets wrong", (several if many else mistakes).pictured(found)),
        ("data", "The data", record.data(found)),
        ("artefacts", "What can be deployed", record.artefacts(found)),
        ("repeat", "To do it again", record.repeat(found)),
    ]
    shown = [(anchor, title, content) for anchor, title, content in parts if content]
    write_text(
        found.run.report,
        page.document(f"{found.run.name}: report", results.headline(found, {a for a, _, _ in shown}), shown),
    )
    return found.run.report
