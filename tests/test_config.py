"""Recipes: unknown keys are refused, values checked, and a recipe written out reads back the same."""

import pytest

from modiste.config import Recipe, built_in
from modiste.errors import RecipeError

STAGE = {"name": "only", "epochs": 1, "lr": 1e-3}


@pytest.mark.parametrize("name", built_in())
def test_recipes_that_come_with_modiste_read_back(name, tmp_path):
    recipe = Recipe.read(name)
    (tmp_path / "recipe.toml").write_text(recipe.to_toml(), encoding="utf-8")
    assert Recipe.read(tmp_path / "recipe.toml") == recipe
    assert recipe.name == name


def test_the_papers_recipe_is_the_paper():
    recipe = Recipe.read("jd2018")
    assert (recipe.image.size, recipe.image.mode) == (299, "stretch")
    assert (recipe.model.backbone, recipe.model.dropout) == ("inception_resnet_v2", 0.5)
    assert [(s.epochs, s.lr, s.optimizer) for s in recipe.stages] == [(10, 1e-4, "adam"), (10, 1e-5, "adam")]
    assert recipe.stages[0].unlock == "none"
    assert recipe.train.batch_size == 96
    assert (recipe.loss.name, recipe.decide.policy) == ("bce", "fixed:0.5")


def test_a_recipe_that_an_earlier_modiste_wrote_out_keeps_its_sigmoids(tmp_path):
    written = Recipe.read("quick").to_toml()
    assert 'groups = "softmax"' in written
    (tmp_path / "old.toml").write_text(written.replace('groups = "softmax"\n', ""))
    (tmp_path / "short.toml").write_text('[loss]\nname = "bce"\n[[stages]]\nname = "a"\nepochs = 1\nlr = 1e-3\n')
    assert Recipe.read(tmp_path / "old.toml").loss.groups == "sigmoid"
    assert Recipe.read(tmp_path / "short.toml").loss.groups == "softmax"  # a person's, who names what differs


def test_awkward_strings_survive_the_file(tmp_path):
    name = 'a "quoted" \\ name\twith\nlines, 民族 and = signs'
    recipe = Recipe.from_dict({"name": name, "stages": [STAGE], "data": {"label_columns": ["a b", "c,d"]}})
    (tmp_path / "r.toml").write_text(recipe.to_toml(), encoding="utf-8")
    assert Recipe.read(tmp_path / "r.toml") == recipe


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sedd": 1}, "'sedd'. Try one of name, seed"),
        ({"stages": [{**STAGE, "lrr": 1}]}, "'stages.0.lrr'. Try one of name, epochs, lr"),
        ({"model": {"bakbone": "x"}}, "'model.bakbone'. Try one of backbone, weights"),
        ({"stages": []}, "'stages'"),
        ({"stages": [{**STAGE, "lr": 0}]}, "'stages.0.lr'"),
        ({"stages": [{**STAGE, "lr": float("nan")}]}, "'stages.0.lr'"),
        ({"stages": [{**STAGE, "unlock": "some"}]}, "'stages.0.unlock'"),
        ({"stages": [{"name": "x", "lr": 1.0}]}, "'stages.0.epochs' in recipe, but got nothing"),
        ({"augment": {"crop_scale": [0.9, 0.2]}}, "crop_scale must rise"),
        ({"augment": {"crop_scale": [0.9, 1.2]}}, "can't exceed 1"),
        ({"decide": {"folds": 1}}, "'decide.folds'"),
    ],
)
def test_wrong_recipes_get_one_sentence(change, words):
    with pytest.raises(RecipeError) as caught:
        Recipe.from_dict({"name": "r", "stages": [STAGE], **change})
    assert words in str(caught.value)
    assert str(caught.value).startswith("Expected ")
    assert "\n" not in str(caught.value)


def test_assignments_reach_every_place():
    recipe = Recipe.read("jd2018").replace(
        ["train.batch_size=32", "stages.1.lr=2e-5", "model.weights=none", "data.label_columns=['a','b']", "seed=7"]
    )
    assert recipe.train.batch_size == 32
    assert recipe.stages[1].lr == 2e-5
    assert recipe.model.weights == "none"
    assert recipe.data.label_columns == ("a", "b")
    assert recipe.seed == 7


@pytest.mark.parametrize("wrong", ["train.batch_size", "train.batchsize=3", "stages.9.lr=1", "nothing.at.all=1", "=1"])
def test_wrong_assignments_are_refused(wrong):
    with pytest.raises(RecipeError, match="Expected"):
        Recipe.read("jd2018").replace([wrong])


def test_a_missing_or_broken_recipe_names_those_there_are(tmp_path):
    with pytest.raises(RecipeError, match="jd2018"):
        Recipe.read("jd2019")
    (tmp_path / "broken.toml").write_text("name = ")
    with pytest.raises(RecipeError, match=r"broken\.toml"):
        Recipe.read(tmp_path / "broken.toml")


def test_size_and_epochs_reach_what_they_name():
    recipe = Recipe.read("quick")
    small = recipe.replace(recipe.size_assignments(96))
    assert small.image.size == 96 and [stage.size for stage in small.stages] == [96, 96]
    assert [stage.size for stage in Recipe.read("jd2018").replace(["image.size=96"]).stages] == [None, None]
    assert [stage.epochs for stage in recipe.replace(recipe.epochs_assignments(20)).stages] == [1, 20]
    with pytest.raises(RecipeError, match="a stage of 'fast' that trains by epochs, for --epochs 3"):
        Recipe.read("fast").epochs_assignments(3)
