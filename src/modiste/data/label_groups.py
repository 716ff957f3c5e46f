"""Groups of labels by name: what --labels chooses where each label has a column of its own, as in written manifests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from modiste.data.table import Table
from modiste.errors import ManifestError
from modiste.labels import Group, LabelSet


def choose_labels(table: Table, names: Sequence[str]) -> tuple[Table, tuple[str, ...] | None]:
    """Choose labels by the names of columns, of groups, or of both.

    A group is one of the table's label set, else what columns `name=value` have in common. A column wins over a group
    of its name.

    Args:
        table: with the label set that its file names, if any.
        names: as --labels has them.

    Returns:
        The table, and the columns to take labels from; None where its label set, which has the chosen labels alone,
        says that.

    Raises:
        ManifestError: a name is neither, or a group stands beside a column that is no label.
    """
    columns = table.frame.columns
    if all(name in columns for name in names):
        return replace(table, label_set=None), tuple(names)
    if table.label_set is None:
        return table, tuple(column for name in names for column in _columns_of(name, columns))
    known = {group.name: [label.id for label in group.labels] for group in table.label_set.groups}
    known |= {label: [label] for label in table.label_set.ids}
    strange = [name for name in names if name not in known]
    if strange:
        got, groups = ", ".join(f"'{name}'" for name in strange), [group.name for group in table.label_set.groups]
        raise ManifestError.expected(
            f"--labels to name groups or labels of {table.path}, whose labels have a column each",
            got,
            f"--labels {','.join(groups[:3])}, or without it",
        )
    chosen = {label for name in names for label in known[name]}
    return replace(table, label_set=_part(table.label_set, chosen)), None


def _columns_of(name: str, columns: Sequence[str]) -> list[str]:
    """The column of this name, else those called `name=value`, else the name, which the reader then refuses."""
    found = [name] if name in columns else [column for column in columns if column.startswith(f"{name}=")]
    return found or [name]


def _part(label_set: LabelSet, chosen: set[str]) -> LabelSet:
    """The set with these labels alone; a group that lacks some is free."""
    groups = []
    for group in label_set.groups:
        kept = tuple(label for label in group.labels if label.id in chosen)
        if kept:
            groups.append(Group(group.name, kept, group.exclusive and len(kept) == len(group.labels)))
    return LabelSet(label_set.name, tuple(groups))


def renamed(label_set: LabelSet, renames: Mapping[str, str]) -> LabelSet:
    """The set with labels under new names; one that gets the name of another is that label, in the other's place."""
    taken = {label for label in label_set.ids if label not in renames}
    groups = []
    for group in label_set.groups:
        kept = []
        for label in group.labels:
            new = renames.get(label.id, label.id)
            if new == label.id:
                kept.append(label)
            elif new not in taken:
                kept.append(replace(label, id=new))
                taken.add(new)
        if kept:
            groups.append(Group(group.name, tuple(kept), group.exclusive))
    return LabelSet(label_set.name, tuple(groups))
