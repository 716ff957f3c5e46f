"""Standings against a simulation, scipy's t test and the bootstrap; and the page, read as a browser would."""

import json
import math
import re

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from scipy import stats

from modiste.errors import UsageError
from modiste.experiments import page as drawing
from modiste.experiments.page import write_comparison_page
from modiste.experiments.ranking import Outcome, rank_candidates
from modiste.labels import Group, Label, LabelSet
from modiste.metrics.bootstrap import Interval, compare_decided, draw, replicate
from modiste.metrics.scores import score
from modiste.metrics.weighted import flat_scores
from modiste.prediction import Decided

EVIL = "<b>$a|b$</b>"
NONE = np.zeros(50)  # replicates that say that other photos change nothing


def run(candidate: str, seed: int, value: float, draws: np.ndarray = NONE, **known) -> Outcome:
    """A run that reaches one value by all scores, on validation photos too."""
    backbone = known.pop("backbone", "net")
    kept = {"folder": f"runs/{candidate}-{seed}", "val_map": value, "seconds": 60.0, "cache_seconds": 30.0}
    kept |= {"scores": {"map": value, "macro.f2": value}, "replicates": {"map": draws, "macro.f2": draws}}
    kept |= {"parameters": 1_500_000, "ms_a_photo": 4.0}
    return Outcome(candidate, backbone, "adamw", seed, **(kept | known))


def runs(candidate: str, values, draws: np.ndarray = NONE, **known) -> list[Outcome]:
    return [run(candidate, seed, value, draws + value, **known) for seed, value in enumerate(values)]


def photos(seed: int, sd: float = 0.01, size: int = 50) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, sd, size)


@pytest.fixture(scope="module")
def six():
    """Six candidates of two backbones and three seeds, one named by an attacker."""
    made = []
    for k, name in enumerate([EVIL, "卷积网络特大号预训练权重二十二千类加随机梯度下降优化器", *"cdef"]):
        values = 0.5 - 0.02 * k + photos(k, 0.003, 3)
        made += runs(name, values, photos(k), backbone=f"net {k // 2}", seconds=10.0 * 2**k, ms_a_photo=3.0 + k // 2)
    return made


# What is true of intervals.


@pytest.mark.parametrize("seed_luck, candidates", [(0.004, 2), (0.02, 2), (0.02, 3)])
def test_intervals_cover_the_truth_as_often_as_they_say(seed_luck, candidates):
    n, rng = 60, np.random.default_rng(2)
    weights = np.stack([draw(n, 0, number) for number in range(100)]) / n
    differences, means, times = 0, 0, 500
    for _ in range(times):  # new photos and new seeds each time; all candidates are equally good
        shared, made = rng.normal(0, 0.2, n), []
        for name in "abc"[:candidates]:
            own = shared + rng.normal(0, 0.1, n)
            for seed in range(3):
                each = 0.5 + own + rng.normal(0, seed_luck)
                made.append(run(name, seed, each.mean(), weights @ each, val_map=rng.random()))
        found = rank_candidates(made)
        differences += all(one.interval.low <= 0 <= one.interval.high for one in found.differences)
        mean = found.ranked[0].scores["map"]
        means += mean.interval.low <= 0.5 <= mean.interval.high
    assert differences / times == pytest.approx(0.95, abs=0.03)  # three standard errors
    assert means / times == pytest.approx(0.945, abs=0.035)


def test_a_lucky_leader_is_no_winner_more_often_than_said():
    rng, wins, times = np.random.default_rng(3), 0, 1000
    for _ in range(times):  # validation shows the very luck of the test photos
        wins += (
            rank_candidates([one for name in "ab" for one in runs(name, rng.normal(0.5, 0.02, 3))]).winner is not None
        )
    assert wins / times <= 0.05 + 0.02
    assert wins / times >= 0.02  # nor does it say nothing


def test_without_chance_of_photos_it_is_welch():
    first, second = [0.51, 0.53, 0.55, 0.52], [0.48, 0.50]
    found = rank_candidates(runs("a", first) + runs("b", second), level=0.9)
    expected = stats.ttest_ind(first, second, equal_var=False)
    for gap in found.differences:
        low, high = expected.confidence_interval(0.9)
        assert tuple(gap.interval) == pytest.approx((low, high), abs=1e-9)
        assert gap.freedom == pytest.approx(expected.df)
        assert gap.value == pytest.approx(np.mean(first) - np.mean(second))
    mean = found.ranked[0].scores["map"]
    half = stats.t.ppf(0.95, 3) * stats.sem(first)
    assert tuple(mean.interval) == pytest.approx((np.mean(first) - half, np.mean(first) + half))
    assert mean.sd == pytest.approx(np.std(first, ddof=1))


def test_without_chance_of_seeds_it_is_the_bootstrap():
    shared, own = photos(1, 0.03, 20000), photos(2, 0.005, 20000)
    found = rank_candidates(runs("a", [0.52] * 3, shared) + runs("b", [0.5] * 3, shared + own))
    gap = found.behind("b")
    assert gap.freedom == math.inf
    assert gap.error == pytest.approx(own.std(ddof=1))  # what all share doesn't part the two
    assert tuple(gap.interval) == pytest.approx([0.02 - 1.959964 * gap.error, 0.02 + 1.959964 * gap.error])
    np.testing.assert_allclose(gap.interval, np.percentile(0.02 - own, [2.5, 97.5]), atol=3e-4)


def test_photos_and_seeds_together_by_hand():
    first, second, draws = [0.6, 0.62, 0.61], [0.55, 0.5], photos(3)
    gap = rank_candidates(runs("a", first, draws) + runs("b", second)).behind("b")
    parts = [draws.var(ddof=1), np.var(first, ddof=1) / 3, np.var(second, ddof=1) / 2]
    freedom = sum(parts) ** 2 / (parts[1] ** 2 / 2 + parts[2] ** 2 / 1)
    half = stats.t.ppf(0.975, freedom) * np.sqrt(sum(parts))
    assert (gap.error, gap.freedom) == pytest.approx((np.sqrt(sum(parts)), freedom))
    assert tuple(gap.interval) == pytest.approx((0.085 - half, 0.085 + half))


def test_the_level_is_shared_among_comparisons():
    rng = np.random.default_rng(5)
    values = {name: rng.normal(0.5 - 0.1 * k, 0.01, 3) for k, name in enumerate("abcd")}
    found = rank_candidates([one for name, each in values.items() for one in runs(name, each)])
    for name in "bcd":
        expected = stats.ttest_ind(values["a"], values[name], equal_var=False).confidence_interval(1 - 0.05 / 3)
        assert tuple(found.behind(name, "macro.f2").interval) == pytest.approx(tuple(expected))
    assert [one.name for one in found.differences] == ["map", "macro.f2"] * 3
    alone = rank_candidates(runs("a", values["a"])).ranked[0].scores["map"]
    assert found.ranked[0].scores["map"] == alone  # each mean for itself


def test_real_replicates_agree_with_a_comparison_of_two():
    rng, labels = np.random.default_rng(0), LabelSet("s", (Group("g", tuple(map(Label, "xyz"))),))
    targets = (rng.random((200, 3)) < 0.4).astype(np.int8)
    made, said = [], {}
    for name, noise in (("a", 0.5), ("b", 0.6)):
        probs = np.clip(0.3 * targets + noise * rng.random(targets.shape), 0, 1).astype(np.float32)
        said[name] = Decided(probs, (probs > 0.4).astype(np.int8))
        draws = replicate(targets, *said[name], labels, replicates=200)
        scores = flat_scores(score(targets, *said[name], labels))
        made.append(run(name, 0, 1 - noise, scores=scores, replicates=draws))
    gap, other = (
        rank_candidates(made).behind("b"),
        compare_decided(said["b"], said["a"], targets, labels, replicates=200),
    )
    assert gap.value == pytest.approx(other.difference)
    np.testing.assert_allclose(gap.interval, other.interval, atol=0.3 * gap.error)  # normal beside percentiles


# Who is called what.


def test_a_clear_winner():
    found = rank_candidates(
        runs("good", [0.7, 0.71, 0.705]) + runs("bad", [0.5, 0.51, 0.505]) + runs("worse", [0.3] * 3)
    )
    assert (found.leader, found.winner, found.best.seed) == ("good", "good", 1)
    assert found.sentence.startswith(
        "Winner: good. It is best in validation mAP, and in test mAP bad is behind by 0.200 (0.1"
    )
    assert found.sentence.endswith("), more than chance, and so is worse.")


def test_equals_have_no_winner():
    draws = photos(0)
    made = runs("a", [0.5, 0.52, 0.51]) + runs("b", [0.506, 0.5, 0.512], draws) + runs("c", [0.1, 0.11, 0.1])
    found = rank_candidates([*made, *runs("d", [0.505, 0.5, 0.512])])
    assert (found.leader, found.winner) == ("a", None)
    low, high = found.behind("b").interval
    assert found.sentence == (
        f"No winner: a and b differ by 0.004 in test mAP ({low:.3f} to {high:.3f}), which is within chance. "
        "Nor can a be told from d. Surely behind a: c."
    )
    same = rank_candidates(runs("a", [0.1 + 0.2, 0.3, 0.3]) + runs("b", [0.3, 0.3, 0.1 + 0.2]))
    assert (same.winner, same.behind("b").value) == (None, 0)
    tie = rank_candidates(runs("a", [0.3]) + runs("b", [0.3]))  # nothing varies at all
    assert (tie.leader, tie.winner, tie.behind("b").interval) == ("a", None, Interval(0, 0))


def test_validation_ranks_and_test_photos_do_not():
    made = runs("a", [0.5, 0.5], val_map=0.8) + runs("b", [0.9, 0.9], val_map=0.7) + runs("c", [0.1, 0.1], val_map=0.75)
    found = rank_candidates(made)
    assert [one.candidate for one in found.ranked] == ["a", "c", "b"]
    assert (found.leader, found.winner, found.best.candidate) == ("a", None, "a")
    assert found.sentence == (
        "No winner: a is best in validation mAP, but in test mAP b is ahead by 0.400 (0.400 to 0.400), "
        "more than chance. Surely behind a: c."
    )
    noisy = [*runs("a", [0.5, 0.5], val_map=0.8), *runs("b", [0.51, 0.49 + 0.03], photos(1, 0.1), val_map=0.7)]
    assert rank_candidates(noisy).sentence.startswith("No winner: b and a differ by 0.015 in test mAP (-0.")


def test_one_seed_counts_other_photos_alone_and_says_so():
    found = rank_candidates([run("a", 0, 0.6, photos(0)), run("b", 0, 0.4, photos(1))])
    assert (found.winner, found.behind("b").freedom) == ("a", math.inf)
    assert math.isnan(found.ranked[0].scores["map"].sd)
    assert "With one seed a candidate, chance means other photos" in found.sentence
    mixed = rank_candidates([*runs("a", [0.6, 0.61], photos(0)), run("b", 0, 0.4, photos(1))])
    assert mixed.behind("b").freedom < math.inf
    assert mixed.sentence.endswith("As b has one seed, what other seeds would change there is not counted.")
    assert "0.400 (0.3" in mixed.to_markdown()


def test_one_candidate():
    found = rank_candidates(runs("a", [0.6, 0.62]))
    assert (found.leader, found.winner, found.differences, found.best.seed) == ("a", None, (), 1)
    assert found.sentence == "Nothing to compare: a is the only candidate."


def test_scores_that_are_not_known():
    nan = math.nan
    made = [*runs("a", [0.5, 0.5], photos(0)), *runs("b", [nan, nan], val_map=0.4), *runs("c", [0.9, nan])]
    found = rank_candidates(made)
    assert [one.candidate for one in found.ranked] == ["a", "b", "c"]  # c has no validation mAP in one run
    words = "the test mAP of a and that of b and c can't be compared, as it is not all known."
    assert found.sentence == f"No winner: {words}"
    some = rank_candidates([*made, *runs("d", [0.4, 0.4]), *runs("e", [0.5, 0.5], photos(1), val_map=0.2)])
    assert some.sentence.endswith(f"within chance. T{words[1:]} Surely behind a: d.")
    assert found.to_dict()["candidates"][1]["scores"]["map"] == {"mean": None, "sd": None, "interval": None}
    nobody = rank_candidates(runs("a", [nan]) + runs("b", [nan]))
    assert (nobody.leader, nobody.winner, nobody.best, nobody.differences) == (None, None, None, ())
    assert nobody.sentence.startswith("No winner: no candidate has a validation mAP in all of its runs.")
    draws = photos(0)
    holes = np.append(draws, [nan, nan])
    whole, part = (rank_candidates([run("a", 0, 0.5, each), run("b", 0, 0.4, 0 * each)]) for each in (draws, holes))
    assert part.behind("b").interval == whole.behind("b").interval


def test_time_counts_a_cache_once():
    made = runs("a", [0.5, 0.5]) + runs("b", [0.5]) + runs("c", [0.5], backbone="other", cache_seconds=7.0)
    assert rank_candidates(made).seconds == 4 * 60 + 30 + 7


def test_plain_data_and_markdown(six):
    found = rank_candidates(six)
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert [one["candidate"] for one in data["candidates"]] == [one.candidate for one in found.ranked]
    assert data["differences"][0]["interval"] == list(found.differences[0].interval)
    assert len(data["runs"]) == 18 and "replicates" not in data["runs"][0]
    assert (data["best"], data["sentence"]) == (found.best.folder, found.sentence)
    numpy = rank_candidates([run("a", np.int64(3), np.float32(0.5))])  # as a caller's arrays hold them
    assert json.loads(json.dumps(numpy.to_dict(), allow_nan=False))["runs"][0]["seed"] == 3
    head, rule, first, *rest = found.to_markdown().splitlines()
    assert {len(re.split(r"(?<!\\)\|", line)) for line in (head, rule, first, *rest[:5])} == {15}
    assert first.startswith(r"| \<b\>$a\|b$\</b\> | net 0 | adamw | 3 | 0.5")
    assert first.count(" – |") == 2 and first.endswith("| 10.0 | 30.0 | 1.50 | 3.0 |")
    assert r"\<b\>" in rest[-1] and "<b>" not in found.to_markdown().replace("\\<", "")


def test_refuses_what_does_not_fit():
    with pytest.raises(UsageError, match="runs to compare, but got none"):
        rank_candidates([])
    with pytest.raises(UsageError, match=r"a level between 0 and 1, but got 95"):
        rank_candidates(runs("a", [0.5]), level=95)
    with pytest.raises(UsageError, match="one run a seed of 'a', but got two of 0"):
        rank_candidates(runs("a", [0.5]) * 2)
    with pytest.raises(UsageError, match="'a' to be one candidate, but got net with adamw and other with adamw"):
        rank_candidates([run("a", 0, 0.5), run("a", 1, 0.5, backbone="other")])
    with pytest.raises(UsageError, match=r"runs/b-0 to have 'map' and as many.*, but got shape \(3,\)"):
        rank_candidates([run("a", 0, 0.5), run("b", 0, 0.5, np.zeros(3))])
    for lacking in ({"scores": {"map": 0.5}}, {"replicates": {"map": NONE}}):
        with pytest.raises(UsageError, match=r"'macro\.f2'.*, but got none"):
            rank_candidates([run("a", 0, 0.5, **lacking)])


# The page and its plots.


def curves(outcomes, epochs=4):
    found = {}
    for one in outcomes:
        found.setdefault(one.candidate, []).append([(epoch, one.val_map - 0.1 / epoch) for epoch in range(1, epochs)])
    return found


@pytest.fixture(scope="module")
def page(six, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    facts = {"data": EVIL, "epochs": 4}
    return write_comparison_page(
        folder, rank_candidates(six), title=EVIL, facts=facts, histories=curves(six), notes=[EVIL]
    )


def test_page_holds_everything_and_asks_for_nothing(page, six):
    source = page.read_text(encoding="utf-8")
    assert page.name == "index.html"
    links = re.findall(r'(?:src|href)="([^"]+)"', source)
    assert len(links) > 6 and all(link.startswith(("data:image/png", "#")) for link in links)
    assert not re.search(r"https?:|@import|url\(", source)
    assert {link[1:] for link in links if link[0] == "#"} <= set(re.findall(r'id="([^"]+)"', source))
    assert all(one.folder.replace("<", "&lt;").replace(">", "&gt;") in source for one in six)
    for tag in ("table", "section", "tr", "th", "td", "figure", "dl"):
        assert source.count(f"<{tag}>") + source.count(f"<{tag} ") == source.count(f"</{tag}>")
    assert sorted(path.name for path in page.parent.iterdir()) == [
        "costs.png",
        "epochs.png",
        "index.html",
        "scores.png",
    ]


def test_page_escapes_names(page):
    source = page.read_text(encoding="utf-8")
    assert "<b>" not in source.replace('<b aria-hidden="true">', "")
    assert source.count("&lt;b&gt;$a|b$&lt;/b&gt;") > 10


def test_page_is_the_same_again(page, six, tmp_path):
    facts = {"data": EVIL, "epochs": 4}
    again = write_comparison_page(
        tmp_path, rank_candidates(six), title=EVIL, facts=facts, histories=curves(six), notes=[EVIL]
    )
    assert again.read_bytes() == page.read_bytes()
    assert rank_candidates(six).to_dict() == rank_candidates(six).to_dict()


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.6], [math.nan]])
def test_page_of_one_candidate(values, tmp_path):
    found = rank_candidates(runs("a", values, seconds=0.0, cache_seconds=0.0, ms_a_photo=math.nan))
    source = write_comparison_page(tmp_path, found).read_text(encoding="utf-8")
    assert found.sentence in source
    assert 'id="differences"' not in source and 'id="training"' not in source and 'id="settings"' not in source


def test_plots_of_gaps_and_many_candidates(tmp_path):
    made = [one for k in range(9) for one in runs(f"candidate {k}", [0.5 + k / 100], photos(k))]
    drawing.plot_costs(rank_candidates(made), tmp_path / "costs.png")
    drawing.plot_scores(rank_candidates(made), tmp_path / "scores.png")
    histories = {"a": [[(1, None), (2, 0.5)]], "b": [], "c": [[(1, math.nan)], []], "d": [[]]}
    drawing.plot_epochs(histories, tmp_path / "epochs.png")
    for path in tmp_path.iterdir():
        with Image.open(path) as picture:
            assert picture.width == 9 * 144


def test_numbers_of_points_hide_nothing():
    figure = Figure((5, 4))
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    places = np.random.default_rng(1).random((14, 2))
    places[1] = places[0]
    for k, (x, y) in enumerate(places):
        axes.plot(x, y, "o", markersize=6, label=str(k + 1))
    named = drawing.number_points(axes)
    assert [name.get_text() for name in named] == [str(k + 1) for k in range(14)]
    boxes = [name.get_window_extent() for name in named]
    boxes += [line.get_window_extent() for line in axes.lines]
    for k, name in enumerate(named):
        box = name.get_window_extent()
        assert not any(box.overlaps(other) for at, other in enumerate(boxes) if at != k)
        x, y = axes.transData.transform(places[k])
        assert math.hypot((box.x0 + box.x1) / 2 - x, (box.y0 + box.y1) / 2 - y) < 40  # beside its point


def test_names_in_plots_are_short_and_different():
    names = ["a" * 40 + "x", "a" * 40 + "y", "short", "\U000f1234"]
    assert drawing.numbered(names) == [
        "1. aaaaaaaaaaa…aaaaaaaaaax",
        "2. aaaaaaaaaaa…aaaaaaaaaay",
        "3. short",
        "no. 4",
    ]
