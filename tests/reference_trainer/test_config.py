"""The recipe is strict, and the shipped recipes load."""

from __future__ import annotations

import re

import pytest

from clbench.provenance import hash_value
from clbench.registry import ClbenchError
from clbench.scenes import SPLITS
from reference_trainer.collection_config import CollectionConfig
from reference_trainer.pairs_config import JointConfig, TeachersConfig
from reference_trainer.pretrain import recipe_key
from reference_trainer.pretrain_config import TRAINING_SPLITS, with_seed
from reference_trainer.recipe import RECIPES, Recipe, load_recipe
from reference_trainer.settings import settings
from reference_trainer.student_config import AcceleratorConfig


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[collection]\np_swich = 0.5", "unknown key 'p_swich' in .*Did you mean 'p_switch'"),
        ("[collection]\nrouting = 'batches'", "Did you mean 'batch'"),
        ("[collection.times]\nanchor = 'papre'", "Did you mean 'paper'"),
        ("[teachers]\nrank = 4", "unknown key 'rank'"),
        ("[collection]\np_switch = 0\nwordings = ['{}', 'now {}']", "'wordings' in .* does nothing where p_switch is 0"),
        ("[collection]\nwordings = []", "the first of the wordings must be"),
        ("[collection]\nwordings = ['show {}', '{}']", "the first of the wordings must be"),
        ("[collection]\nwordings = ['{}', 'show it']", "wording 'show it' must hold {} once"),
        ("[extension]\nwordings = ['{}', '{0} of {}']", "of {}' must hold {} once, where the caption goes, and no other brace"),
        ("[collection]\nwordings = ['{}', 'now {}', 'now {}']", "one of the wordings is there twice"),
        ("[accelerator]\nwordings = ['{}']", "unknown key 'wordings'"),
        ("[accelerator]\nupdates = 5\nwarm_start = 6", "warm_start 6 is more than updates 5"),
        ("[collection]\nhabits.keep_warm_start = true", "keep_warm_start needs warm_start updates"),
        ("[teachers]\nhabits.keep_warm_start = true", "no warm start to keep here"),
        ("[collection]\ndistill_lr = 0", "distill_lr"),
        ("[collection]\nwarm_batch = 4", "'warm_batch' in .collection. does nothing without warm_start updates"),
        ("[collection]\nfake_samples = 'finished'\nfake_updates = 0", "'fake_samples' in .* where no fake score learns"),
        ("[collection]\nfake_samples = 'finished'\nsteps = 1", "'fake_samples' in .* where the only step is the last"),
        ("[accelerator]\nwarm_target = 'outputs'", "'warm_target' in .accelerator. does nothing"),
        ("[extension]\nwarm_time = 'uniform'", "'warm_time' in .extension. does nothing"),
        ("[collection]\nlr = 1e-3\ndistill_lr = 1e-4", "'lr' in .collection. does nothing .* distill_lr 0.0001 is the rate of"),
        ("[collection]\nupdates = 5\nwarm_start = 5\ndistill_lr = 1e-4", "'distill_lr' in .* where all 5 updates are"),
        ("[accelerator]\nhabits.gauge_every = 5", "only collections and their extensions have gauges: leave habits.gauge_every"),
        ("[teachers]\nhabits.gauge_scenes = 2", "leave habits.gauge_scenes out"),
        ("[joint]\nhabits.gauge_every = 0", "leave habits.gauge_every out"),
        ("[collection]\nwarm_start = 1\nwarm_time = 'code'", "to lie above; expected one of paper, shifted, uniform, not 'code'"),
        ("[collection]\nwarm_start = 1\nwarm_time = 'shiftet'", "Did you mean 'shifted'"),
        ("[collection.losses]\ndmd_bs_weight = 0\ndmd_ts = false\nta_fm = false", "switched off or have weight 0"),
        ("[accelerator]\nwarm_start = 1\ngeneral_targets = false", "no stream has any: set general_targets = true"),
        ("[accelerator]\nlosses.dmd_bs = false\ngeneral_targets = false", "the losses that count learn from stored outputs"),
        ("[collection]\nwarm_start = 1\np_switch = 0", "no stream has any: set general_targets = true, or p_switch"),
        ("[extension]\nlosses.dmd_bs_weight = 0\np_switch = 0.0", "the losses that count learn from stored outputs"),
        ("[collection]\ngeneral_sources = 0", "with p_switch 0.5 rows come from the general stream"),
        ("[extension]\ngeneral_sources = 0\np_switch = 0", "with p_switch 0 rows come from the general stream"),
        ("[joint]\nprompt = 'trigger'", "prompt"),
        ("[joint]\nsteps = 4", "unknown key 'steps'"),
        ("[extension]\nfake_lora.rank = 4", "leave fake_lora out"),
        ("[extension]\nfake_start = 'base'", "leave fake_start out"),
        ("[extension]\nreplay = 1.0", "replay"),
        ("[extension]\nwarm_start_from = 'merged'", "leave warm_start_from out"),
        ("[acelerator]\n", "Did you mean 'accelerator'"),
    ],
)
def test_mistakes_name_the_key(tmp_path, text, message):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(ClbenchError, match=message):
        load_recipe(path)


ANCHORED = "losses.dmd_bs = false\nlosses.dmd_ts = false\n"
ON_STORED = ("losses.dmd_ts = false", "losses.dmd_ts_weight = 0.5", "losses.ta_fm = true", "losses.ta_fm_weight = 0.5")
WARM = "updates = 5\nwarm_start = 5\n"


@pytest.mark.parametrize(
    ("others", "option", "why"),
    [
        *[(f"[{stage}]\n{ANCHORED}", option, "where no fake score is asked, since losses.dmd_bs and losses.dmd_ts are off")
          for stage in ("accelerator", "collection", "extension")
          for option in ("fake_updates = 3", "fake_lr = 1e-4", "rollout = 'fresh'", "guidance = 2.0",
                         "guidance_convention = 'usual'", "times.fake_score = 'uniform'", "fake_samples = 'finished'")],
        (f"[collection]\n{ANCHORED}", "fake_lora.rank = 4", "where no fake score is asked"),
        (f"[collection]\nwarm_start = 1\n{ANCHORED}", "fake_start = 'base'", "where no fake score is asked"),
        (f"[collection]\nwarm_start = 1\n{ANCHORED}", "guidance = 2.0", "where no fake score is asked"),
        (f"[collection]\n{ANCHORED}", "times.score = 'uniform'", "without backward simulation"),
        ("[collection]\nlosses.dmd_bs = false\n", "times.score = 'uniform'", "without backward simulation"),
        ("[collection]\nlosses.dmd_bs = false\n", "losses.dmd_bs_weight = 0.5", "where losses.dmd_bs is false"),
        ("[extension]\nlosses.dmd_ts = false\n", "losses.dmd_ts_weight = 0.5", "where losses.dmd_ts is false"),
        ("[collection]\nlosses.dmd_ts = false\n", "times.target_generation = 'code'", "without target simulation"),
        ("[collection]\nlosses.dmd_ts_weight = 0\n", "times.target_score = 'code'", "without target simulation"),
        ("[accelerator]\nlosses.ta_fm = false\n", "losses.ta_fm_weight = 0.5", "where losses.ta_fm is false"),
        ("[collection]\nwarm_start = 1\nlosses.ta_fm = false\n", "times.anchor = 'code'", "without trajectory anchoring"),
        *[(f"[{stage}]\np_switch = 1\n", option, "where p_switch is 1 and no row is of the general stream")
          for stage in ("collection", "extension")
          for option in ("general_sources = 8", "general_targets = true", "routing = 'batch'")],
        *[(f"[{stage}]\np_switch = 0\n", option, "where p_switch is 0 and no row is of an effect")
          for stage in ("collection", "extension") for option in ("effect_sources = 8", "routing = 'batch'")],
        *[("[collection]\np_switch = 0\n", option, "where no row that is learnt from has a stored output")
          for option in ON_STORED],
        *[(f"[collection]\n{WARM}", option, "where all 5 updates are the warm start")
          for option in ("losses.dmd_bs = false", "losses.ta_fm_weight = 0.5", "times.anchor = 'code'", "times.score = 'uniform'",
                         "fake_updates = 3", "fake_lr = 1e-4", "rollout = 'fresh'", "guidance = 2.0", "fake_start = 'base'")],
        (f"[accelerator]\n{WARM}warm_batch = 4\n", "batch = 2", "where all 5 updates are the warm start, of which warm_batch"),
        *[("[accelerator]\ngeneral_targets = false\n", option, "where general_targets is false and no output is stored")
          for option in ("target_steps = 4", "target_guidance = 1.0")],
        *[("[accelerator]\ngeneral_targets = false\n", option, "where no row that is learnt from has a stored output")
          for option in ON_STORED],
        ("[accelerator]\ngeneral_targets = false\n", "times.anchor = 'code'", "without trajectory anchoring"),
        *[("[collection]\nfake_updates = 0\n", option, "where no fake score learns, since fake_updates is 0")
          for option in ("fake_lr = 1e-4", "rollout = 'fresh'", "fake_lora.rank = 4", "times.fake_score = 'uniform'")],
    ],
)  # fmt: skip
def test_an_option_that_does_nothing_beside_others_is_refused(tmp_path, others, option, why):
    """But only of the file that names it: what a recipe below says cannot be taken away."""
    (stage, *_), (key, _) = others[1:].split("]"), option.split(" = ")
    key = "fake_lora" if key == "fake_lora.rank" else key
    path = tmp_path / "recipe.toml"
    path.write_text(others + option)
    said = rf"key '{re.escape(key)}' in \[{stage}\] does nothing {re.escape(why)}.*: leave it out"
    with pytest.raises(ClbenchError, match=said):
        load_recipe(path)
    (tmp_path / "below.toml").write_text(f"[{stage}]\n{option}")
    path.write_text("based_on = 'below.toml'\n" + others)
    load_recipe(path)


@pytest.mark.parametrize(
    "text",
    [
        f"{WARM}batch = 4",
        f"{WARM}warm_target = 'teacher'\nguidance = 2.0\nguidance_convention = 'usual'",
        f"warm_start = 1\nwarm_target = 'teacher'\n{ANCHORED}guidance = 2.0",
        "losses.dmd_bs = false\ntimes.anchor = 'code'\ntimes.score = 'uniform'",
        "losses.dmd_bs = false\nguidance = 2.0\nfake_updates = 3\nfake_lr = 1e-4\ntimes.fake_score = 'uniform'",
        "losses.ta_fm = false\nwarm_start = 1\nwarm_time = 'shifted'",
        "p_switch = 1\ngeneral_sources = 0",
        "p_switch = 0\ngeneral_targets = true\ntimes.anchor = 'code'\nlosses.ta_fm_weight = 0.5",
        "p_switch = 0\ntarget_steps = 4",
        "fake_updates = 0\nguidance = 2.0",
    ],
)
def test_an_option_that_does_something_after_all_is_taken(tmp_path, text):
    (tmp_path / "recipe.toml").write_text(f"[collection]\n{text}")
    load_recipe(tmp_path / "recipe.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[base]\nsplit = 'evaluation'", "nothing trains on it; expected one of base, teacher, distill, not 'evaluation'"),
        ("[base]\nsplit = 'trian'", "there is no such split; expected one of base, teacher, distill, not 'trian'"),
        ("[base]\nresolution = 36", "resolution 36 is not a multiple of 8"),
        ("[base.vae]\nbatch = 1", "batch"),
        ("[base.vae]\nchannels = [24, 36]", "multiple of groups 8, 36 is not"),
        ("[base.vae]\nupdates = 0", "updates"),
        ("[base.vae]\nlr = 0", "lr"),
        ("[base.vae]\nema = 1.0", "ema"),
        ("[base.text]\nt5_width = 30", "t5_width 30 is not a multiple of t5_heads 4"),
        ("[base.text]\nclip_heads = 5", "clip_width 96 is not a multiple of clip_heads 5"),
        ("[base.transformer]\nhead_dim = 16", "rope_axes add up to 32, but head_dim is 16"),
        ("[base.transformer]\nrope_axes = [9, 11, 12]", "must be even, since it is rotated in pairs; 9 is not"),
        ("[base.transformer]\ndouble_blocks = 0\nsingle_blocks = 0", "there is no block"),
        ("[base.edits]\ndrop_instruction = 1.0", "drop_instruction"),
        ("[base.edits]\ndecay_share = 1.5", "decay_share"),
        ("[base.edits]\nupdates = 0", "updates"),
        ("[base.edits]\nprecision = 'half'", "precision"),
        ("[encoders]\nsplits = ['base', 'evaluation']", "systems are measured on it, so nothing trains on it"),
        ("[encoders]\nsplits = ['base', 'base']", "splits names one twice"),
        ("[encoders]\nsplits = []", "splits"),
        ("[encoders]\nscenes = 2", "scenes 2 are less than one for each of 3 splits"),
        ("[encoders]\nimage_width = 40", "image_width"),
        ("[encoders]\nbatch = 1", "batch"),
        ("[encoders]\nupdates = 0", "updates"),
    ],
)
def test_mistakes_of_the_base_and_the_encoders_name_the_key(tmp_path, text, message):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(ClbenchError, match=message):
        load_recipe(path)


def test_training_may_look_at_every_split_but_that_of_the_evaluation():
    assert tuple(split for split in SPLITS if split != "evaluation") == TRAINING_SPLITS


def test_the_recipe_s_seed_is_that_of_base_and_encoders_too_unless_they_name_one(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text("seed = 7\n[base.edits]\nseed = 0")
    recipe = load_recipe(path)
    base, encoders = recipe.base.seeded(recipe.seed), with_seed(recipe.encoders, recipe.seed)
    assert (base.vae.seed, base.edits.seed, encoders.seed) == (7, 0, 7)
    tiny = load_recipe("tiny")
    assert str(tiny.base.seeded(tiny.seed)) == str(tiny.base)  # what keys of finished trainings are made of
    assert str(with_seed(tiny.encoders, tiny.seed)) == str(tiny.encoders)


def test_defaults_are_a_recipe(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text("")
    assert load_recipe(path) == Recipe()


def test_a_student_may_do_without_stored_outputs_where_nothing_needs_them(tmp_path):
    path = tmp_path / "recipe.toml"
    without = "[accelerator]\ngeneral_targets = false\n[collection]\np_switch = 0\n"
    path.write_text(without + "[extension]\np_switch = 1\ngeneral_sources = 0")
    assert not load_recipe(path).accelerator.general_targets


@pytest.mark.parametrize("file", sorted(RECIPES.rglob("*.toml")), ids=lambda file: file.stem)
def test_shipped_recipes(file):
    wanted = 1.0 if file.stem == "no-pdsr" else 0.5
    assert load_recipe(file.relative_to(RECIPES).with_suffix("")).collection.p_switch == wanted


def test_what_an_inherited_option_does_not_do_is_no_mistake(tmp_path):
    """As in the ablations: they leave the warm start of the recipe below out, and cannot take its batch away."""
    (tmp_path / "first.toml").write_text("[collection]\nwarm_start = 4\nwarm_batch = 2\nlr = 1e-3\ndistill_lr = 1e-4")
    (tmp_path / "second.toml").write_text("based_on = 'first.toml'\n[collection]\nwarm_start = 0")
    table = load_recipe(tmp_path / "second.toml").collection
    assert (table.warm_start, table.warm_batch, table.distill_lr) == (0, 2, 1e-4)
    (tmp_path / "third.toml").write_text("based_on = 'second.toml'\n[collection]\nwarm_batch = 4")
    (tmp_path / "fourth.toml").write_text("based_on = 'third.toml'\n")
    for name in ("third", "fourth"):  # named as the file that says it
        with pytest.raises(ClbenchError, match=r"third\.toml: key 'warm_batch' in \[collection\] does nothing"):
            load_recipe(tmp_path / f"{name}.toml")


def test_a_recipe_changes_what_it_names_of_another_one(tmp_path):
    first = "based_on = 'smoke'\n[collection]\nprompt = 'instruction'\n[collection.times]\nanchor = 'code'"
    (tmp_path / "first.toml").write_text(first)
    second = "based_on = 'first.toml'\nseed = 7\n[collection.times]\ntarget_score = 'code'"
    (tmp_path / "second.toml").write_text(second)
    made, base = load_recipe(tmp_path / "second.toml"), load_recipe("smoke")
    times = base.collection.times.model_copy(update={"anchor": "code", "target_score": "code"})
    assert made.collection == base.collection.model_copy(update={"prompt": "instruction", "times": times})
    assert (made.seed, made.teachers, made.base) == (7, base.teachers, base.base)


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("based_on = 'second.toml'", r"first\.toml: based_on 'second\.toml' leads back"),
        ("based_on = 'smok'", r"first\.toml: based_on names 'smok', which is neither"),
        ("[joint]\nsteps = 4", r"first\.toml line 2: unknown key 'steps'"),
        ("based_on = 3", "based_on"),
    ],
)
def test_a_recipe_based_on_a_bad_one(tmp_path, base, message):
    (tmp_path / "first.toml").write_text(base)
    (tmp_path / "second.toml").write_text("based_on = 'first.toml'")
    with pytest.raises(ClbenchError, match=message):
        load_recipe(tmp_path / "second.toml")


def test_missing_recipe():
    with pytest.raises(ClbenchError, match=r"no recipe 'nowhere\.toml': neither a shipped .*\. Known: .*tiny-8"):
        load_recipe("nowhere.toml")
    with pytest.raises(ClbenchError, match=r"no recipe 'tinny': .* Did you mean 'tiny'\?"):
        load_recipe("tinny")


@pytest.mark.parametrize(
    ("config", "digest"),
    [
        (AcceleratorConfig(), "e37ace067a7c4b945d9df5e0b8f80b89baeafb25249ae2b970ba8c931a8df289"),
        (CollectionConfig(), "353b49fe6ce4d8dc87636753d00c03837bb6c14a55d13bdfac3bae09c2fde895"),
        (TeachersConfig(), "3b23559c2babff3dc03c8d53885cebfea0f19a65be20715a75fe6d3faf43e522"),
        (JointConfig(), "581f11c32ce578cd0fdeb9cfbd47d8bbccebe6e69b7c56a4d3b8bfe97fe67684"),
    ],
)
def test_a_finished_training_stays_recognised(config, digest):
    """Options that came later do not change what is hashed while they have their default values."""
    assert hash_value(settings(config)) == digest


@pytest.mark.parametrize(
    ("part", "digest"),
    [
        ("vae", "6ca2c6c341259145783bb4b1b520b1cd4579edfca1625ec9b52e19dbedc5c9b0"),
        ("base", "95c2869000a04ade333663f84a72ddfe73a3b414cf8b1ac3271e43ab894f4550"),
        ("encoders", "130fb2268b85974ad7ff5ab94373bcb7dec3eea3e6d393b46b96aeadb983edbc"),
    ],
)
def test_the_shipped_base_and_encoder_stay_recognised(part, digest):
    """Their keys hold the words of the recipe's tables, so a key more would be another training."""
    recipe = load_recipe("tiny")
    base, encoders = recipe.base.seeded(recipe.seed), with_seed(recipe.encoders, recipe.seed)
    assert recipe_key({"vae": base.vae, "base": base, "encoders": encoders}[part]) == digest


def test_how_passes_are_cut_is_no_part_of_a_training():
    for kind in (CollectionConfig, TeachersConfig, JointConfig):
        assert settings(kind(rows=2, checkpoint_blocks=True, lora_forward="low-rank")) == settings(kind())


def test_an_option_that_came_later_counts_where_it_is_used():
    for option in ({"warm_start_from": "merged"}, {"distill_lr": 1e-4}, {"target_guidance": 1.0}):
        assert settings(CollectionConfig(**option)) != settings(CollectionConfig())
