"""The metrics as documentation: the table of docs/monitoring.md."""

from __future__ import annotations

from vectable.server.metrics.families import PREFIX, Counter, Gauge
from vectable.server.metrics.measure import Metrics
from vectable.server.metrics.sample import Sampler


def metrics_table() -> str:
    """Every metric, by name, with its kind and labels."""
    metrics = Metrics()
    Sampler(metrics)
    lines = ["| metric | kind | labels | |", "|---|---|---|---|"]
    for family in sorted(metrics.families, key=lambda family: family.name):
        counts = isinstance(family, Counter) and not isinstance(family, Gauge)
        kind = "gauge" if isinstance(family, Gauge) else "counter" if counts else "histogram"
        name = f"{PREFIX}{family.name}{'_total' if counts else ''}"
        labels = ", ".join(f"`{label}`" for label in family.labels)
        lines.append(f"| `{name}` | {kind} | {labels} | {family.about} |")
    return "\n".join(lines)
