"""Tables with a trap each: what was read wrongly once stays read rightly, or refused."""

import pytest
from tables import held, write

from modiste.config import DataConfig
from modiste.data.manifest import Manifest
from modiste.errors import ManifestError

READ = {
    "a wholly blank label column": ("image,label,dress\na,,1\nb,,0\n", {}, {"a": {"dress"}, "b": set()}),
    "a list of nothing known": ("image,labels\na,\"['None']\"\nb,\"['blue']\"\n", {}, {"a": None, "b": {"blue"}}),
    "a rename of any spelling": (
        "image,class\na,Red\nb,red\nc,coat\n",
        {"rename": (("red", "rouge"),)},
        {"a": {"rouge"}, "b": {"rouge"}, "c": {"coat"}},
    ),
    "lists beside plain words": (
        "image,labels\na,\"['red', 'dress']\"\nb,\"red, dress\"\nc,red\n",
        {},
        {"a": {"red", "dress"}, "b": {"red", "dress"}, "c": {"red"}},
    ),
    "a value called like a column": (
        "image,red,label\na,1,red\nb,0,blue\n",
        {},
        {"a": {"red", "label=red"}, "b": {"label=blue"}},
    ),
    "a dash beside x": ("image,dress\na,x\nb,-\nc,\n", {}, {"a": {"dress"}, "b": None, "c": set()}),
    "one photo spelt twice": ("image,label\n./a.jpg,red\na.jpg,red\n", {}, {"a.jpg": {"red"}}),
    "codes that begin with 0 and 1": (
        "image,kind\n" + "".join(f"{k},{'0001122'[k]}\n" for k in range(7)),
        {"label_columns": ("kind",)},
        {str(k): {"0001122"[k]} for k in range(7)},
    ),
}


@pytest.mark.parametrize("name", READ)
def test_traps_that_are_read(tmp_path, name):
    text, config, expected = READ[name]
    assert held(Manifest.read(write(tmp_path, "a.csv", text), DataConfig(**config))) == expected


@pytest.mark.parametrize(
    ("text", "config", "words"),
    [
        ('image,labels\na,"[1, 0]"\nb,"[0, 1]"\n', {}, "the row of numbers"),
        ("image,status,failure,error,dress\na,ok,,,1\n,ok,,,0\n", {}, "row 3 of .* to name a photo"),
        (
            "image,pid\n" + "".join(f"{k},p{k // 3}\n" for k in range(15_003)),
            {"label_columns": ("pid",)},
            "to be a category, .* got 5,001 values",
        ),
    ],
)
def test_traps_that_are_refused(tmp_path, text, config, words):
    with pytest.raises(ManifestError, match=words):
        Manifest.read(write(tmp_path, "a.csv", text), DataConfig(**config))


def test_a_written_table_changes_nothing_about_one_of_another_suffix(tmp_path):
    path = write(tmp_path, "t.csv", "path,label\na.jpg,red\nb.jpg,blue\n")
    before = Manifest.read(path)
    before.write(tmp_path / "t.parquet")
    for one in (path, tmp_path / "t.parquet"):
        assert held(Manifest.read(one)) == held(before) == {"a.jpg": {"red"}, "b.jpg": {"blue"}}


def test_urls_of_a_column_with_any_name_are_parted(tmp_path):
    path = write(tmp_path, "a.csv", "foto,label\nhttp://q/a.jpg|http://q/b.jpg,red\nhttp://q/c.jpg,blue\n")
    assert Manifest.read(path).frame["url"].to_list() == ["http://q/a.jpg", "http://q/b.jpg", "http://q/c.jpg"]
