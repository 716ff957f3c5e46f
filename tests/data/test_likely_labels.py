"""Columns that look like labels: which are named, how many values they have, and what finding them costs."""

import polars as pl
import pytest

from modiste.config import DataConfig
from modiste.data import likely_labels
from modiste.data.label_columns import could_be_category
from modiste.data.likely_labels import likely_codes
from modiste.data.likely_labels import likely_labels as likely
from modiste.data.manifest import Manifest
from modiste.data.summary import describe, unused_label_columns
from modiste.errors import ManifestError

N = 1000


def table(n=N):
    return pl.DataFrame(
        {
            "sorted": [f"kind {k * 5 // n}" for k in range(n)],
            "note": [f"text number {k}" for k in range(n)],
            "many": [f"word {k % 600}" for k in range(n)],
            "in turn": [f"side {k % 5}" for k in range(n)],
            "flag": ["0" if k % 10 else "1" for k in range(n)],
            "sometimes": ["yes" if k % 7 == 0 else "no" if k % 7 == 1 else "" for k in range(n)],
            "code": [str(k % 4) for k in range(n)],
            "one": ["the same"] * n,
            "blank": [""] * n,
            "Published": ["true" if k % 2 else "false" for k in range(n)],
        }
    )


@pytest.mark.parametrize("rows", [10_000, 200, 7])
def test_a_sample_of_the_rows_finds_what_all_of_them_show(monkeypatch, rows):
    frame = table()
    whole = {name: could_be_category(frame[name]) for name in frame.columns}
    assert {name for name, values in whole.items() if values} == {
        "sorted",
        "in turn",
        "Published",
    }  # of which one is a shop's
    monkeypatch.setattr(likely_labels, "_SAMPLE", rows)
    found = likely(frame, frame.columns)
    if rows < 200:  # too few to tell, which may miss columns and makes none up
        assert set(found) <= {"sorted", "in turn", "flag", "sometimes"}
    else:
        assert found == {"sorted": 5, "in turn": 5, "flag": 2, "sometimes": 2}


def test_only_what_is_shown_is_read_whole(monkeypatch):
    frame = table(30_000).select(pl.col("sorted").alias(f"c{k}") for k in range(50))
    whole = []

    def counted(cells):
        whole.append(len(cells) == len(frame))
        return could_be_category(cells)

    monkeypatch.setattr(likely_labels, "could_be_category", counted)
    assert set(likely(frame, frame.columns, most=6).values()) == {5}
    assert sum(whole) == 6 and len(whole) == 56


def test_columns_of_ones_and_zeros_that_are_not_used_are_named(tmp_path):
    path = tmp_path / "a.csv"
    rows = "".join(f"{k}.jpg,{['coat', 'dress'][k % 2]},{k % 3 % 2},1\n" for k in range(12))
    path.write_text("image,garment,kids,sale\n" + rows)
    manifest = Manifest.read(path, DataConfig(label_columns=("garment",)))
    assert unused_label_columns(manifest) == {"kids": 2}
    assert any("Not taken for labels: 'kids' (2 values); --labels" in line for line in describe(manifest))
    both = Manifest.read(path, DataConfig(label_columns=("garment", "kids")))  # as it says
    assert both.label_set.ids == ("kids", "coat", "dress") and not unused_label_columns(both)


def test_class_numbers_are_named_where_nothing_else_looks_like_a_label(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("image,cc,price\n" + "".join(f"{k}.jpg,{k % 3},{k}.5\n" for k in range(12)))
    with pytest.raises(ManifestError, match=r"'cc' \(3 values\). Try --labels cc\.$"):
        Manifest.read(path)
    assert Manifest.read(path, DataConfig(label_columns=("cc",))).label_set.ids == ("0", "1", "2")
    assert likely_codes(table(), ["code", "note", "blank"]) == {"code": 4}
