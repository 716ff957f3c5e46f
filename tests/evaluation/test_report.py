import base64
import operator
import re
import subprocess
import sys
from collections import Counter
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import url2pathname

import numpy as np
import pytest
from html_page import Page
from matplotlib.font_manager import fontManager
from PIL import Image
from sklearn.metrics import log_loss

from modiste.config import ImageConfig
from modiste.decisions.decision import Decision
from modiste.decisions.policies import Policy
from modiste.errors import UsageError
from modiste.evaluation import report, report_photos, report_plots
from modiste.evaluation.report import write_report
from modiste.evaluation.verdict import judge
from modiste.inference.predictor import Predictor
from modiste.labels import Group, Label, LabelSet
from modiste.metrics.bootstrap import Interval, intervals, replicate
from modiste.metrics.operating_points import operating_curve
from modiste.metrics.scores import score
from modiste.metrics.sweep import sweep
from modiste.metrics.weighted import flat_scores
from modiste.pages import plots
from modiste.pages.plots import _CJK, ScoredPhotos, drawable, plot_history, save_plot, small_multiples
from modiste.prediction import Decided, MapCells, NetworkOutput

EVIL = "<script>alert(1)</script>"
LABELS = LabelSet(
    "fashion",
    (
        Group("style", (Label("sports", {"en": "Sports", "zh": "运动"}), Label(EVIL), Label("民族"), Label("$5 $6"))),
        Group("../<b>garment</b>", tuple(map(Label, ("dress", "shirt", "skirt"))), exclusive=True),
    ),
)
HEADLINES = {"map": "mAP", "macro.f2": "macro F2", "micro.f1": "micro F1", "sample.f1": "per-photo F1"}
HISTORY = [
    {"epoch": e, "stage": "头" if e < 3 else "all", "loss": 1 / e, "val_loss": None, "val_map": 0.1 * e}
    for e in range(1, 6)
]


class Case:
    def __init__(self, folder: Path, n: int = 40, labels: LabelSet = LABELS, seed: int = 0, skill: float = 0.3):
        rng = np.random.default_rng(seed)
        self.folder, self.labels = folder, labels
        self.targets = (rng.random((n, len(labels))) < 0.4).astype(np.int8)
        for at in labels.exclusive.values():
            self.targets[:, at] = np.eye(len(at), dtype=np.int8)[rng.integers(0, len(at), n)]
        self.targets[rng.random(self.targets.shape) < 0.05] = -1
        self.probs = np.clip(rng.random(self.targets.shape) * 0.6 + skill * (self.targets == 1), 0, 1).astype(
            np.float32
        )
        self.decision = Decision.untuned("fixed:0.5", labels)
        self.decisions = self.decision.apply(self.probs, labels).decisions
        self.scores = score(self.targets, self.probs, self.decisions, labels)
        draws = replicate(self.targets, self.probs, self.decisions, labels, replicates=20) if n else {}
        self.intervals = intervals(draws, flat_scores(self.scores))
        self.photos = [folder / f"photo {i}.jpg" for i in range(n)]  # files that don't exist

    def write(self, **options) -> Page:
        path = write_report(
            self.folder / "run",
            title=options.pop("title", "A coat"),
            scores=self.scores,
            targets=self.targets,
            raw=self.probs,
            decided=Decided(self.probs, self.decisions),
            label_set=self.labels,
            photos=self.photos,
            decision=self.decision,
            verdict=judge(self.scores, self.targets, self.decisions, self.labels),
            intervals=self.intervals,
            facts=options.pop("facts", {"model": "mobilenet"}),
            **options,
        )
        assert path == self.folder / "run" / "report.html"
        return Page(path)


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    made = Case(tmp_path_factory.mktemp("report"))
    for i, path in enumerate(made.photos[:-5]):
        Image.new("RGB", (600, 400 + i), (200, 10 * (i % 20), 30)).save(path)
    made.photos[-6].write_bytes(b"not a photo")
    return made


@pytest.fixture(scope="module")
def page(case) -> Page:
    points = operating_curve(case.targets, case.probs, case.decisions, folds=np.arange(40) % 4)
    page = case.write(title=f"Coats {EVIL}", facts={"data": EVIL}, notes=[EVIL], history=HISTORY, operating=points)
    page.operating = points
    return page


def test_page_asks_nothing_of_the_network(page):
    links = [
        value for _, attributes in page.tags for key, value in attributes.items() if key in ("src", "href", "srcset")
    ]
    assert len(links) > 20
    photos = {f"../photo%20{i}.jpg" for i in range(40)}
    assert all(link.startswith(("data:image/", "#")) or link in photos for link in links)
    assert not re.search(r"https?:|@import|url\(", page.source)


def test_names_are_escaped(page):
    assert len(page.all("script")) == 1  # the sorting
    assert "alert(1)" in page.source
    tags = [tag for tag, _ in page.tags]
    ours = page.source.count('<b aria-hidden="true">') + page.source.count("<b>True:</b>")
    assert tags.count("b") == ours  # none of the group '../<b>garment</b>'


def test_page_is_accessible(page):
    assert page.all("html") == [{"lang": "en"}]
    assert all(attributes["alt"] for attributes in page.all("img"))
    assert all(attributes["scope"] in ("col", "row") for attributes in page.all("th"))
    targets = {attributes.get("id") for _, attributes in page.tags}
    inside = [link["href"][1:] for link in page.all("a") if link["href"].startswith("#")]
    assert inside and {*inside} <= targets
    assert "prefers-color-scheme: dark" in page.source
    assert "运动" in page.texts and "Sports" in page.texts


def test_plots_on_the_page_are_the_files_beside_it(case, page):
    files = {path.name for path in (case.folder / "run").iterdir()}
    assert files == {
        "report.html", "pr-curves.png", "labels.png", "co-errors.png", "curves.png", "confusion--b-garment-b-.png",
        "reliability.png", "thresholds.png", "operating.png",
    }  # fmt: skip
    shown = {img["src"] for img in page.all("img")}
    for path in (case.folder / "run").glob("*.png"):
        assert "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode() in shown


def test_headlines_stand_beside_their_baselines(case, page):
    text = " ".join(page.texts)
    yes, usual = case.scores.baselines["yes to everything"], case.scores.baselines["prevalence"]
    group = case.scores.groups["../<b>garment</b>"]
    below = {one.name for one in judge(case.scores, case.targets, case.decisions, case.labels).below}
    for path, name in HEADLINES.items():
        of = operator.attrgetter(path)
        low, high = case.intervals[path]
        beside = "no better than guessing " if path in below else ""
        beside += f"yes to everything {of(yes):.3f} prevalence {of(usual):.3f}"
        assert f"{name} {of(case.scores):.3f} {low:.3f}–{high:.3f} {beside}" in text
    low, high = case.intervals["groups.../<b>garment</b>.accuracy"]
    always = f"{group.accuracy:.3f} {low:.3f}–{high:.3f} always “{group.majority}” {group.majority_accuracy:.3f}"
    assert f"accuracy: ../<b>garment</b> {always}" in text


def test_the_verdict_stands_before_everything_else(tmp_path):
    case = Case(tmp_path, n=60, skill=0)
    found = judge(case.scores, case.targets, case.decisions, case.labels)
    page = case.write()
    assert page.texts[:3] == ["A coat", "A coat", found.sentence]  # the window's title, the page's, the verdict
    at = page.texts.index(found.sentence) + 1
    assert len(found.guesses) > 2 and page.texts[at : at + len(found.guesses)] == [*found.guesses]
    shown = Counter(tag["class"] for tag in page.all("span") if (tag.get("class") or "").startswith("mark "))
    assert shown == Counter("mark " + verdict.replace(" ", "-") for verdict in found.labels.values())
    labels = sum(found.below_guessing(label) for label in case.labels.ids)
    tiles = sum(one.name in (*HEADLINES, "groups.../<b>garment</b>.accuracy") for one in found.below)
    assert labels and tiles and page.texts.count("no better than guessing") == labels + tiles


def test_what_needs_no_review_stands_first_of_the_numbers(case, page):
    (point,) = [point for point in page.operating if point.wanted == 0.9]
    at = page.texts.index("without review")
    assert at < page.texts.index("mAP")
    assert page.texts[at + 1] == f"{100 * point.auto_approved:.0f} %"
    assert f"of 1,000 photos, {point.photos_to_review:.0f} need review" in page.texts[at + 2]
    bare = case.write()
    assert bare.texts[bare.texts.index("without review") + 1] == "–"


def test_photos_link_to_their_files(case, page):
    links = [link["href"] for link in page.all("a") if not link["href"].startswith("#")]
    files = {(case.folder / "run" / unquote(link)).resolve() for link in links}
    assert files <= {photo.resolve() for photo in case.photos[:-5]}  # the last five don't exist
    shown = {attributes["title"] for attributes in page.all("p") if attributes.get("class") == "file"}
    assert {file.name for file in files} == {name for name in shown if (case.folder / name).exists()}


def test_links_survive_odd_names_and_far_folders(tmp_path):
    for name in ("a b#c?d%20.jpg", "红色 连衣裙.jpg", "C:x.jpg", "javascript:alert(1)"):
        photo = tmp_path / "photos" / name
        photo.parent.mkdir(exist_ok=True)
        photo.write_bytes(b"")
        near = report_photos.photo_link(photo, tmp_path / "runs" / "coat" / "report-test")
        address = urljoin((tmp_path / "runs" / "coat" / "report-test" / "report.html").as_uri(), near)
        assert url2pathname(urlsplit(address).path) == str(photo) and near.startswith("../../../photos/")
        far = report_photos.photo_link(photo, Path("/elsewhere/report-test"))
        assert far == photo.as_uri()
    assert report_photos.photo_link(tmp_path / "missing.jpg", tmp_path) is None


def test_true_labels_come_first_on_a_card(case, page):
    cards = re.findall(r'<p class="file".*?</ul>', page.source, re.DOTALL)
    assert len(cards) == 24
    names = case.labels.names()
    for card in cards:
        photo = int(re.search(r"photo (\d+)", card)[1])
        true = [name for name, target in zip(names, case.targets[photo], strict=True) if target == 1]
        written = re.search(r"<b>True:</b> (.*?)</p>", card)[1]
        assert unescape(written) == (", ".join(true) or "nothing known")
        assert card.index("True:") < card.index('<ul class="chips">')
        kinds = re.findall(r'<li class="(\w+)">', card)
        assert kinds == sorted(kinds, key=["right", "wrong", "missed", "unknown"].index)


def test_worst_and_best_photos_by_loss(case, page):
    losses = []
    for target, prob in zip(case.targets, case.probs.astype(np.float64), strict=True):
        known = target >= 0
        losses.append(log_loss(target[known], prob[known], labels=[0, 1]))
    order = [f"photo {i}.jpg" for i in np.argsort(losses)[::-1]]
    shown = [attributes["title"] for attributes in page.all("p") if attributes.get("class") == "file"]
    assert shown == order[:12] + order[:-13:-1]
    assert f"loss {max(losses):.3f}" in page.texts


def test_a_photo_that_cannot_be_read_is_a_grey_box(case, page):
    shown = [attributes["title"] for attributes in page.all("p") if attributes.get("class") == "file"]
    broken = {f"photo {i}.jpg" for i in range(34, 40)}
    boxes = [attributes["aria-label"] for attributes in page.all("div") if attributes.get("class") == "unread"]
    assert len(boxes) == sum(name in broken for name in shown) > 0
    thumbnails = [img for img in page.all("img") if img["src"].startswith("data:image/jpeg")]
    assert len(boxes) + len(thumbnails) == len(shown)


def test_said_and_missed_under_the_worst_photo(case):
    worst = int(np.argmax([report_photos.mean_log_loss(t, p) for t, p in zip(case.targets, case.probs, strict=True)]))
    result = ScoredPhotos(case.scores, case.targets, Decided(case.probs, case.decisions), case.labels)
    card = report_photos.photo_cards(result, case.photos, None, case.folder)["worst"][0]
    assert card["name"] == f"photo {worst}.jpg"
    kinds = {(1, 1): "right", (1, 0): "missed", (0, 1): "wrong", (-1, 1): "unknown"}
    expected = Counter()
    for k, name in enumerate(case.labels.names()):
        kind = kinds.get((case.targets[worst, k], case.decisions[worst, k]))
        if kind:
            expected[kind, name, float(case.probs[worst, k])] += 1
    assert Counter((kind, *chip[1:]) for kind, chips in card["chips"].items() for chip in chips) == expected


def test_evidence_is_shown_for_what_was_said_first(case):
    def forward(photos, *, maps):
        assert maps
        probs = np.full((len(photos), len(LABELS)), 0.5, np.float32)
        return NetworkOutput(
            probs, probs, np.tile(photos[:, None, ::8, ::8, 0].astype(np.float32), (1, len(LABELS), 1, 1))
        )

    cells = MapCells(32, (0.125, 0.375, 0.6543, 0.875))
    tags = Predictor(forward, LABELS, ImageConfig(size=32, mode="crop"), case.decision, cells=cells)
    result = ScoredPhotos(case.scores, case.targets, Decided(case.probs, case.decisions), case.labels)
    cards = [card for way in report_photos.photo_cards(result, case.photos, tags, case.folder).values() for card in way]
    for card in cards:
        wanted = [name for kind in ("right", "wrong", "missed", "unknown") for _, name, _ in card["chips"][kind]][:3]
        readable = card["thumbnail"] is not None
        assert [name for name, _ in card["heatmaps"]] == (wanted if readable else [])
    assert sum(bool(card["heatmaps"]) for card in cards) > 10
    page = case.write(tags=tags)
    assert sum("Evidence for" in (img.get("alt") or "") for img in page.all("img")) == sum(
        len(card["heatmaps"]) for card in cards
    )


def test_co_errors_by_brute_force(case, page):
    counts: Counter[tuple[str, str]] = Counter()
    missed: Counter[str] = Counter()
    names = case.labels.names()
    for target, said in zip(case.targets, case.decisions, strict=True):
        for i in range(4):  # the free group
            if target[i] == 1 and not said[i]:
                missed[names[i]] += 1
                for j in range(4):
                    counts[names[i], names[j]] += int(target[j] == 0 and said[j])
    result = ScoredPhotos(case.scores, case.targets, Decided(case.probs, case.decisions), case.labels)
    rows = report._pairs(result)[""]
    assert rows
    assert {(true, said): photos for true, said, photos, _ in rows} == {k: v for k, v in counts.items() if v}
    assert all(share == pytest.approx(photos / missed[true]) for true, _, photos, share in rows)
    assert [row[2] for row in rows] == sorted((row[2] for row in rows), reverse=True)
    true, said, photos, share = rows[0]
    assert f"{true} {said} {photos} {100 * share:.0f} %" in " ".join(page.texts)


def test_nothing_to_show_is_still_a_page(tmp_path):
    case = Case(tmp_path, n=3)
    case.targets[:] = -1
    case.scores = score(case.targets, case.probs, case.decisions, case.labels)
    page = case.write()
    assert "–" in page.texts
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["report.html"]


def test_no_photo_is_still_a_page(tmp_path):
    assert "0 photos, 7 labels" in " ".join(Case(tmp_path, n=0).write().texts)


def test_a_large_exclusive_group_has_no_matrix(tmp_path):
    labels = LabelSet("many", (Group("colour", tuple(Label(f"c{k}") for k in range(61)), exclusive=True),))
    page = Case(tmp_path, n=90, labels=labels).write()
    assert not list((tmp_path / "run").glob("confusion-*"))
    assert "The 60 most frequent labels." in page.source


def test_names_that_the_font_lacks_become_numbers():
    assert drawable(["coat", "\U000f1234", "a" * 40, "$x$"]) == ["coat", "no. 2", "a" * 11 + "…" + "a" * 11, r"\$x\$"]


@pytest.mark.skipif(not {*_CJK} & {*fontManager.get_font_names()}, reason="no font with Chinese glyphs here")
def test_chinese_names_are_drawn_where_a_font_has_them(tmp_path):
    assert drawable(["民族", "街头/朋克"]) == ["民族", "街头/朋克"]
    for name in ("民族", "街头"):
        figure = small_multiples([name], "x", "y").figure
        save_plot(figure, tmp_path / f"{name}.png")  # a missing glyph would warn, which fails the test
    assert (tmp_path / "民族.png").read_bytes() != (tmp_path / "街头.png").read_bytes()


@pytest.mark.parametrize("count", [5, 21])
def test_long_names_stay_above_their_small_plot(count):
    names = ["W" * 70, "a label of forty letters, with spaces in it", "x" * 23, "short", "i" * 60]
    titles = drawable((names * 5)[:count])
    figure, axes, corners, _ = small_multiples([f"{title}\nAP 0.50" for title in titles], "recall", "precision")
    texts = {text.get_text().split("\n")[0]: text for text in axes.texts if "\nAP" in text.get_text()}
    assert {*texts} == {*titles}
    edges = [axes.transData.transform((x, y))[0] for x, y in corners]
    apart = edges[1] - edges[0]
    for text in (text for text in axes.texts if "\nAP" in text.get_text()):
        box = text.get_window_extent()
        assert box.width < apart - 5 and box.x1 <= figure.bbox.x1
    assert len({*texts}) == len({*drawable(names)})  # names that begin alike are told apart


def test_names_that_begin_alike_are_told_apart():
    begin = "a_category_with_a_long_name/"
    one, other = drawable([begin + "dresses", begin + "trousers"])
    assert one != other and len(one) == len(other) == 23


def test_small_plots_have_axes_with_ticks_and_names(case, tmp_path, monkeypatch):
    drawn = {}

    def keep(figure, path):
        (axes,) = figure.axes
        drawn[path.name] = Counter(text.get_text() for text in axes.texts)

    monkeypatch.setattr(plots, "save_plot", keep)
    monkeypatch.setattr(report_plots, "save_plot", keep)
    scored = ScoredPhotos(case.scores, case.targets, Decided(case.probs, case.decisions), case.labels)
    words = [f"label {k}" for k in range(7)]
    plots.plot_curves(scored, range(7), words, tmp_path / "pr")
    report_plots.plot_reliability(case.targets, case.probs, case.probs, words, tmp_path / "reliability")
    curves = [
        report_plots.ThresholdCurve(word, sweep(case.targets[:, k], case.probs[:, k]), 0.5, Interval(0.1, 0.2))
        for k, word in enumerate(words)
    ]
    report_plots.plot_thresholds(curves, 2, tmp_path / "thresholds")
    names = {
        "pr": ("recall", "precision"), "reliability": ("predicted probability", "share that has it"),
        "thresholds": ("threshold", "F2"),
    }  # fmt: skip
    for name, (across, up) in names.items():
        assert drawn[name][across] == 5 and drawn[name][up] == 2  # below each column, left of each row
    assert drawn["pr"]["0.5"] == 14
    assert all(drawn["thresholds"][tick] == 7 for tick in ("0.01", "0.1", "0.9", "0.99"))
    assert drawn["reliability"]["0"] == 14


def test_history_is_one_whole_png(tmp_path):
    plot_history(HISTORY, tmp_path / "curves.png")
    plot_history(HISTORY[:1], tmp_path / "one.png")
    assert {path.name for path in tmp_path.iterdir()} == {"curves.png", "one.png"}
    with Image.open(tmp_path / "curves.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    blue, vermillion = ((pixels == colour).all(axis=2) for colour in ([0, 114, 178], [213, 94, 0]))
    half = pixels.shape[1] // 2
    assert blue[:, :half].any() and not blue[:, half:].any()  # training loss on the left only
    assert vermillion[:, half:].any()


def test_refuses_another_number_of_photos(tmp_path):
    case = Case(tmp_path)
    case.photos.pop()
    with pytest.raises(UsageError, match="40, 40 and 39"):
        case.write()


def test_neither_pyplot_nor_torch_is_loaded():
    code = (
        "import sys, modiste.evaluation.report; print([m for m in ('matplotlib.pyplot', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_group_that_may_be_unsure_has_its_threshold_coverage_and_precision(tmp_path):
    case = Case(tmp_path)
    always = " ".join(case.write().texts)
    assert "Coverage" not in always and "unsure" not in always
    name = "../<b>garment</b>"
    thresholds = case.decision.thresholds.with_groups({name: 0.6543}, LABELS)
    case.decision = Decision(Policy.parse("precision:0.9"), thresholds, case.decision.calibration)
    case.decisions = case.decision.apply(case.probs, LABELS).decisions
    case.scores = score(case.targets, case.probs, case.decisions, LABELS)
    group = case.scores.groups[name]
    assert 0 < group.coverage < 1
    page = case.write()
    text = " ".join(" ".join(page.texts).split())
    assert f"{name} is said for {group.coverage:.1%} of the photos and unsure for the others" in text
    row = [f"{value:.3f}" for value in (group.coverage, group.precision, 0.6543)]
    assert " ".join(row) in text
    assert text.count("0.654") == 1 + 3  # of the group, and of each of its labels
