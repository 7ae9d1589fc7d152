"""As much of PromQL as tells which metrics and labels an expression relies on."""

import re
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

#: What comes with every scrape.
FROM_PROMETHEUS = {"instance", "job"}
_SELECTOR = re.compile(r"\b((?:darkroom_\w+)|up)\b(?:\{([^}]*)\})?")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')


@dataclass
class Exposed:
    """What scrapes have shown: sample name -> label -> its values."""

    samples: dict[str, dict[str, set[str]]] = field(default_factory=dict)

    def add(self, text: str) -> None:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = self.samples.setdefault(sample.name, {})
                for name, value in sample.labels.items():
                    labels.setdefault(name, set()).add(value)


def faults(expression: str, exposed: Exposed) -> list[str]:
    """Return what an expression asks for and no scrape has shown."""
    found, known, names = [], set(FROM_PROMETHEUS), _SELECTOR.findall(_GROUPING.sub("", expression))
    if not names:
        return [f"no metric in {expression!r}"]
    for name, matchers in names:
        if name == "up":
            continue
        if name not in exposed.samples:
            found.append(f"{name} is not exposed")
            continue
        labels = exposed.samples[name]
        known |= set(labels)
        found += [f"{name} has no label {label}" for label, *_ in _MATCHER.findall(matchers) if label not in labels]
    for group in _GROUPING.findall(expression):
        found += [f"no label {label} in {expression!r}" for label in re.findall(r"\w+", group) if label not in known]
    return found
