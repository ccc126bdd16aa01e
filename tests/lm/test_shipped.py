"""The checkpoints that come with the course: whole, refused when they are not, and made anew by their recipes."""

import json
import shutil

import numpy as np
import pytest
import torch

from minirl.lm import shipped

NAMES = list(shipped.RECIPES)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of the checkpoints that may be damaged."""
    copy = tmp_path / "checkpoints"
    shutil.copytree(shipped.FOLDER, copy)
    monkeypatch.setattr(shipped, "FOLDER", copy)
    monkeypatch.setattr(shipped, "MANIFEST", copy / "manifest.json")
    return copy


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_model_is_intact_small_and_behaves_as_its_manifest_says(name):
    """On 512 test prompts; float16 weights and another machine's rounding may turn a few answers."""
    assert shipped.intact(name) and shipped.path(name).stat().st_size <= 5e6
    model = shipped.load(name)
    assert model.token.weight.dtype == torch.float32
    known = json.loads(shipped.MANIFEST.read_text())[name]
    for kind, value in shipped.behaviour(name, model).items():
        assert value == pytest.approx(known[kind], abs=0.03)


def test_the_manifest_lists_the_recipes_and_nothing_else():
    files = {p.stem for p in shipped.FOLDER.glob("*.safetensors")}
    assert set(json.loads(shipped.MANIFEST.read_text())) == set(NAMES) == files


def test_a_damaged_file_is_named_with_the_command_that_makes_it_anew(folder):
    file = shipped.path("grid-XS")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"grid-XS\.safetensors is not the file .*shipped grid-XS"):
        shipped.load("grid-XS")
    file.unlink()
    with pytest.raises(ValueError, match=r"no checkpoint at .*grid-XS\.safetensors.*shipped grid-XS"):
        shipped.load("grid-XS")
    assert shipped.intact("chain-S") and not shipped.intact("grid-XS")


def test_a_file_with_a_valid_checksum_that_is_no_checkpoint_is_refused(folder):
    shipped.path("grid-XS").write_bytes(b"nonsense")
    known = json.loads(shipped.MANIFEST.read_text())
    known["grid-XS"]["sha256"] = shipped.checksum(shipped.path("grid-XS"))
    shipped.MANIFEST.write_text(json.dumps(known))
    with pytest.raises(ValueError, match="cannot be read"):
        shipped.load("grid-XS")


def test_weights_of_another_vocabulary_are_refused(folder):
    """The file of the chain under the name of the grid, checksum and all."""
    shutil.copy(shipped.path("chain-S"), shipped.path("grid-XS"))
    known = json.loads(shipped.MANIFEST.read_text())
    known["grid-XS"]["sha256"] = known["chain-S"]["sha256"]
    shipped.MANIFEST.write_text(json.dumps(known))
    with pytest.raises(ValueError, match="another vocabulary"):
        shipped.load("grid-XS")


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="no checkpoint 'chain-L'; shipped: chain-S, grid-XS"):
        shipped.load("chain-L")


def test_the_demonstrations_have_the_slips_of_the_recipe_and_no_other_errors():
    """Of 1,000 answers 500 are expected to be wrong; five standard deviations are 79. Without slips all are right."""
    rng = np.random.default_rng(0)
    for name in ("chain-S", "grid-XS"):
        recipe = shipped.RECIPES[name]
        prompts = recipe.task.sample_prompts(1000, rng, "train")
        results = [recipe.task.verify(prompt, recipe.demonstrate(prompt, rng)) for prompt in prompts]
        wrong = [r for r in results if r.reward == 0]
        assert abs(len(wrong) - 1000 * recipe.slips) <= (79 if recipe.slips else 0)
        assert all([step.right for step in r.steps].count(False) == 1 for r in wrong)


def test_making_a_model_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    shipped.load("grid-XS")
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.slow
def test_the_recipe_of_the_smallest_makes_a_model_that_behaves_alike(folder):
    """Trained anew from its seed, and saved beside its manifest entry."""
    shipped_entry = json.loads(shipped.MANIFEST.read_text())["grid-XS"]
    *_, log = shipped.train("grid-XS")
    assert log["step"] == shipped.RECIPES["grid-XS"].steps
    entry = shipped.save("grid-XS", log["model"])
    assert entry["greedy"] == pytest.approx(shipped_entry["greedy"], abs=0.1)
    assert entry["sampled"] == pytest.approx(shipped_entry["sampled"], abs=0.1)
    assert shipped.intact("grid-XS")
