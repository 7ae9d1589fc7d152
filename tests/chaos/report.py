"""What a run found: a table of figures, each beside what it must be."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import click

#: Complaints that are told one by one.
TOLD = 40


@dataclass(frozen=True)
class Row:
    """One figure; `wanted` says what it must be, where it must be something."""

    name: str
    found: str
    wanted: str = ""
    is_good: bool = True


@dataclass
class Report:
    """The figures so far, and every complaint."""

    rows: list[Row] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def note(self, name: str, found: object) -> None:
        """Add a figure that may be anything."""
        self.rows.append(Row(name, str(found)))

    def expect(self, name: str, found: object, wanted: object) -> None:
        """Add a figure that must be the one that is wanted."""
        self.rows.append(Row(name, str(found), f"must be {wanted}", found == wanted))

    def expect_none(self, name: str, faults: Sequence[str]) -> None:
        """Add a count that must be zero; each fault is told below the table."""
        self.expect(name, len(faults), 0)
        self.complaints += [f"{name}: {fault}" for fault in faults]

    def expect_at_most(self, name: str, found: float, wanted: float, unit: str) -> None:
        """Add a figure that must not be larger."""
        self.rows.append(Row(name, f"{found:.1f} {unit}", f"at most {wanted:g} {unit}", found <= wanted))

    @property
    def is_good(self) -> bool:
        """Whether every promise was kept."""
        return all(row.is_good for row in self.rows)

    def show(self) -> None:
        """Print the table, and what is wrong."""
        width = max(len(row.name) for row in self.rows)
        found = max(len(row.found) for row in self.rows if row.wanted)
        for row in self.rows:
            mark = f"   {row.wanted}   {'ok' if row.is_good else 'BROKEN'}" if row.wanted else ""
            line = f"  {row.name:<{width}}   {row.found:<{found if row.wanted else 0}}{mark}"
            click.secho(line, fg=None if row.is_good else "red")
        for complaint in self.complaints[:TOLD]:
            click.secho(f"  {complaint}", fg="red")
        if len(self.complaints) > TOLD:
            click.secho(f"  … and {len(self.complaints) - TOLD} more", fg="red")
