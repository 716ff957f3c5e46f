"""What a prediction shows of itself: one line, and a card that needs no network and can't run anything."""

from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from modiste.decisions.decision import Decision
from modiste.labels import Group, Label, LabelSet
from modiste.prediction import Prediction
from modiste.runs.load import load

LABELS = LabelSet(
    "wear",
    (
        Group("kind", (Label("dress", {"en": "Dress <b>"}), Label("coat")), exclusive=True),
        Group("style", (Label("casual"), Label("street"))),
    ),
)


def prediction(**changes):
    settings = {
        "photo": "a<script>.jpg",
        "label_set": LABELS,
        "prob_array": np.array([0.7, 0.2, 0.9, 0.4], np.float32),
        "labels": ("dress", "casual"),
        "thresholds": np.array([np.nan, np.nan, 0.3, 0.6], np.float32),  # of kind the most probable is chosen
    }
    return Prediction(**{**settings, **changes})


class Tags(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.titles, self.sources, self.open = [], [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.titles += [value for name, value in attrs if name == "title"]
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        self.open += [] if tag == "img" else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_a_prediction_is_one_short_line():
    assert repr(prediction()) == "Prediction('a<script>.jpg', casual 0.90, dress 0.70)"
    assert repr(prediction(labels=())) == "Prediction('a<script>.jpg', no label)"
    assert repr(prediction(error="Expected so.", labels=())) == "Prediction('a<script>.jpg', error='Expected so.')"


def test_its_card_has_bars_thresholds_and_names_and_nothing_foreign():
    seen = Tags(prediction()._repr_html_())
    assert not seen.open
    assert set(seen.tags) == {"div", "span", "b", "i"}  # nothing of what the names spell
    assert seen.titles == ["threshold 0.30", "threshold 0.60"]
    assert [one for one in seen.text if one.startswith("0.")] == ["0.90", "0.70", "0.40", "0.20"]
    assert "a<script>.jpg" in seen.text
    assert "Dress <b> ✓" in seen.text


def test_a_group_that_may_abstain_has_a_line_and_is_named_where_it_is_unsure():
    said = prediction(
        labels=("casual",), unsure=("kind", "street"), thresholds=np.array([0.8, 0.8, 0.3, 0.6], np.float32)
    )
    assert Tags(said._repr_html_()).titles == ["threshold 0.30", "threshold 0.80", "threshold 0.60", "threshold 0.80"]
    assert repr(said) == "Prediction('a<script>.jpg', casual 0.90, kind unsure (dress 0.70))"
    assert said.words == "casual 0.90, kind unsure (dress 0.70)"
    assert said.review and not prediction().review
    assert prediction(error="Expected so.", labels=()).review


def test_its_card_shows_what_is_probable_and_all_that_is_chosen():
    many = LabelSet.free("many", [f"label{k}" for k in range(40)])
    probs = np.linspace(1, 0, 40, dtype=np.float32)
    seen = Tags(
        prediction(label_set=many, prob_array=probs, thresholds=None, labels=("label0", "label39"))._repr_html_()
    )
    names = [one for one in seen.text if one.startswith("label")]
    assert names == ["label0 ✓", *(f"label{k}" for k in range(1, 12)), "label39 ✓"]
    assert "and 27 less probable" in seen.text


def test_a_broken_photo_shows_why():
    seen = Tags(prediction(labels=(), error="Expected <it>.", prob_array=np.full(4, np.nan, np.float32))._repr_html_())
    assert "Expected <it>." in seen.text


@pytest.mark.parametrize("kind", ["path", "array"])
def test_a_photo_that_was_tagged_is_in_its_card(kind, tmp_path):
    pixels = np.full((300, 900, 3), 120, np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    said = load().predict(tmp_path / "a.png" if kind == "path" else pixels)
    [source] = Tags(said._repr_html_()).sources
    assert source.startswith("data:image/jpeg;base64,")
    assert len(said._repr_html_()) < 20_000
    (tmp_path / "a.png").unlink()
    assert len(Tags(said._repr_html_()).sources) == (kind == "array")  # its file has gone: the bars are still there


def test_what_holds_arrays_says_so_in_one_short_line(drawn):
    from modiste.data.manifest import Manifest

    manifest, tagger = Manifest.read(drawn), load()
    assert repr(LABELS) == "LabelSet('wear', kind (one of 2), style (2))"
    counted = f"Manifest({str(drawn)!r}, 240 photos, 13 labels of 'jd2018'"
    assert repr(manifest) == f"{counted}, test 49, train 167, val 24)"
    assert repr(manifest.without("split")) == f"{counted})"
    assert repr(Decision.untuned("fixed:0.5", LABELS)) == "Decision('fixed:0.5', 4 labels)"
    size = tagger.image.size
    words = f"{len(tagger.label_set)} labels of '{tagger.label_set.name}', {size} px {tagger.image.mode}"
    assert repr(tagger) == f"Predictor({words}, views '{tagger.views}', policy '{tagger.decision.policy}')"
    assert repr(load(["garments", "garments"], thresholds="fixed:0.5")).startswith(f"Ensemble(2 members, {words}")
