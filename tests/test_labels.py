"""Label sets: order, groups, files, and what is refused."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modiste.errors import LabelError
from modiste.labels import Group, Label, LabelSet

words = st.text(min_size=1, max_size=8)


@st.composite
def label_sets(draw):
    ids = draw(st.lists(words, min_size=1, max_size=8, unique=True))
    cuts = sorted(draw(st.lists(st.integers(0, len(ids)), max_size=3)))
    parts = [ids[a:b] for a, b in zip([0, *cuts], [*cuts, len(ids)], strict=True)]
    groups = [
        Group(
            f"g{k}", tuple(Label(i, draw(st.dictionaries(words, words, max_size=2))) for i in part), draw(st.booleans())
        )
        for k, part in enumerate(parts)
    ]
    return LabelSet(draw(words), tuple(groups))


@settings(max_examples=60, deadline=None)
@given(label_sets())
def test_written_and_read_back_it_is_equal(tmp_path_factory, labels):
    path = tmp_path_factory.mktemp("labels") / "labels.json"
    labels.write(path)
    assert LabelSet.read(path) == labels


@settings(max_examples=60, deadline=None)
@given(label_sets())
def test_positions_follow_the_groups(labels):
    assert [labels.index(label) for label in labels.ids] == list(range(len(labels)))
    flat = [label.id for group in labels.groups for label in group.labels]
    assert list(labels.ids) == flat
    for group in labels.groups:
        if group.exclusive:
            assert [flat[k] for k in labels.exclusive[group.name]] == [label.id for label in group.labels]
        else:
            assert group.name not in labels.exclusive


def test_the_challenge_in_its_official_order():
    labels = LabelSet.read("jd2018")
    official = "运动, 休闲, OL/通勤, 日系, 韩版, 欧美, 英伦, 少女, 名媛/淑女, 简约, 自然, 街头/朋克, 民族"
    assert labels.names("zh") == official.split(", ")
    assert labels.ids[:3] == ("sports", "casual", "commuting")
    assert labels.names()[5] == "European/American"
    assert not labels.exclusive


def test_toml_and_json_say_the_same(tmp_path):
    (tmp_path / "a.toml").write_text(
        """
        name = "shop"
        [[groups]]
        name = "garment"
        exclusive = true
        labels = ["coat", { id = "dress", names = { en = "Dress", zh = "连衣裙" } }]
        [[groups]]
        name = "style"
        labels = ["casual"]
        """,
        encoding="utf-8",
    )
    dress = {"id": "dress", "names": {"en": "Dress", "zh": "连衣裙"}}
    data = {
        "name": "shop",
        "groups": [
            {"name": "garment", "exclusive": True, "labels": ["coat", dress]},
            {"name": "style", "labels": [{"id": "casual"}]},
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(data), encoding="utf-8")
    labels = LabelSet.read(tmp_path / "a.toml")
    assert labels == LabelSet.read(str(tmp_path / "a.json"))
    assert labels.names("zh") == ["coat", "连衣裙", "casual"]
    assert {name: where.tolist() for name, where in labels.exclusive.items()} == {"garment": [0, 1]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"name": "x"}', "KeyError: 'groups'"),
        ('{"name": "x", "groups": []}', "to have labels, but got none"),
        ('{"name": "x", "groups": [{"name": "g", "labels": ["a", "a"]}]}', "unique words, but got 'a' twice"),
        ('{"name": "x", "groups": [{"name": "g", "labels": [""]}]}', "unique words, but got an empty id"),
        ('{"name": "x", "groups": [{"name": "g", "labels": [3]}]}', "the layout in docs/reference/labels.md"),
        ('{"name": ', "a TOML or JSON label set"),
        ("[]", "the layout in docs/reference/labels.md"),
    ],
)
def test_malformed_files_are_refused(tmp_path, text, words):
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    with pytest.raises(LabelError, match=f"^Expected .*{words}"):
        LabelSet.read(tmp_path / "a.json")


def test_a_missing_file_is_refused():
    with pytest.raises(LabelError, match="'jd2019' to be 'jd2018' or a TOML or JSON label set"):
        LabelSet.read("jd2019")


def test_an_unknown_label_names_the_closest():
    with pytest.raises(LabelError, match=r"a label of 'jd2018', but got 'casaul'\. Try one of 'casual'"):
        LabelSet.read("jd2018").index("casaul")
