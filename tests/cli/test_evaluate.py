"""`modiste evaluate` as it is typed: other tables, the advice of its refusals, and whose report is where."""

import shutil
from pathlib import Path

import polars as pl
import pytest

from modiste.data.manifest import Manifest


@pytest.fixture(scope="module")
def of_words(drawn, tiny, tmp_path_factory) -> Path:
    """A folder with shop.csv, whose column kind was trained on, and the run."""
    from modiste.config import Recipe
    from modiste.training.loop import train

    folder = tmp_path_factory.mktemp("words")
    kinds = ["T-Shirt" if k % 3 else "Dress" for k in range(240)]
    rows = pl.read_csv(drawn, infer_schema=False)
    image = pl.format(f"{drawn.parent}/{{}}", "image").alias("image")
    rows.select(image, "split", kind=pl.Series(kinds)).write_csv(folder / "shop.csv")
    changes = ['data.label_columns=["kind"]', "stages.0.epochs=1", "stages.1.epochs=1"]
    recipe = Recipe.read(tiny).replace([*changes, 'data.rename=[["Robe","Dress"]]'])
    table = pl.read_csv(folder / "shop.csv").with_columns(pl.col("kind").replace("Dress", "Robe"))
    table.write_csv(folder / "french.csv")
    train(recipe, Manifest.read(folder / "french.csv", recipe.data), folder / "run")
    return folder


@pytest.fixture
def shop(of_words, tmp_path) -> Path:
    return shutil.copytree(of_words, tmp_path / "shop")


def pages(run: Path) -> dict[str, str]:
    """The title of each report of a run by its folder."""
    return {
        path.parent.name: path.read_text().partition("<title>")[2].partition("</title>")[0]
        for path in run.glob("report-*/report.html")
    }


def test_another_spelling_is_renamed_as_advised_beside_the_runs_own_renames(modiste, shop):
    rows = pl.read_csv(shop / "french.csv").with_columns(pl.col("kind").replace("T-Shirt", "Tshirt"))
    rows.write_csv(shop / "other.csv")
    code, out, err = modiste("evaluate", shop / "run", shop / "other.csv")
    assert (code, out) == (2, "") and "to be one of 'Dress', 'T-Shirt', but got 'Tshirt'" in err
    assert "Try --rename Tshirt=T-Shirt, or" in err
    code, out, err = modiste("evaluate", shop / "run", shop / "other.csv", "--rename", "Tshirt=T-Shirt")
    assert code == 0, err


def test_a_rename_of_nothing_is_refused_and_one_of_the_run_is_not_asked_for(modiste, shop):
    assert modiste("evaluate", shop / "run", shop / "shop.csv")[0] == 0  # no cell holds Robe, which the run renames
    code, out, err = modiste("evaluate", shop / "run", shop / "shop.csv", "--rename", "Rock=Dress")
    assert (code, out) == (2, "") and "label 'Rock' in" in err and "one such as" in err


def test_what_split_wrote_is_evaluated_with_the_same_labels_or_without(modiste, shop):
    made = ("split", shop / "shop.csv", "-o", shop / "split.csv", "--labels", "kind", "--no-near-duplicates")
    assert modiste(*made)[0] == 0
    for options in ((), ("--labels", "kind")):
        code, _, err = modiste("evaluate", shop / "run", shop / "split.csv", *options)
        assert code == 0, err
    assert modiste("check", shop / "split.csv", "--labels", "kind", "-o", shop / "report")[0] == 0


def test_a_folder_of_classes_is_read_whatever_the_columns_of_the_runs_table_were_called(modiste, shop, photos):
    for k, photo in enumerate(photos):
        place = shop / "folder" / ("Dress" if k % 2 else "T-Shirt") / photo.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, place)
    code, _, err = modiste("evaluate", shop / "run", shop / "folder", "--split", "all")
    assert code == 0, err
    assert "report-all-of-shop-folder" in pages(shop / "run")


@pytest.mark.parametrize("options", [("--labels", "kind"), ("--sheet", "a"), ("--rename", "a=b"), ("--root", "x")])
def test_options_about_a_table_are_refused_without_one(modiste, shop, options):
    code, out, err = modiste("evaluate", shop / "run", *options)
    assert (code, out) == (2, "") and "Expected MANIFEST" in err
    assert not (shop / "run" / "metrics.json").exists()


def test_reports_and_predictions_of_others_leave_the_models_own(modiste, shop):
    assert modiste("evaluate", shop / "run")[0] == 0
    run = shop / "run"
    own = (run / "report-test" / "report.html").read_bytes()
    (shop / "b").mkdir()
    pl.read_csv(shop / "shop.csv").head(100).write_csv(shop / "b" / "shop.csv")
    others = [
        ("--thresholds", "fixed:0.9"),
        ("--views", "flip"),
        (shop / "shop.csv",),
        (shop / "b" / "shop.csv",),
    ]
    for more in others:
        code, _, err = modiste("evaluate", run, *more)
        assert code == 0, err
        assert (run / "report-test" / "report.html").read_bytes() == own, more
    assert pages(run) == {
        "report-test": "tiny: test",
        "report-test-fixed-0.9": "tiny: test, fixed:0.9",
        "report-test-flip": "tiny: test",
        "report-test-of-shop-shop.csv": "tiny: test of shop.csv",
        "report-test-of-b-shop.csv": "tiny: test of shop.csv",
    }
    for name in ("test", "test-of-shop-shop.csv", "test-of-b-shop.csv", "test-fixed-0.9"):
        assert (run / f"predictions-{name}.parquet").is_file()
    assert pl.read_parquet(run / "predictions-test.parquet")["photo"].len() == 49
