"""World files: strictness, paths, hashes, a user's own world, the shipped one."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from clbench import jobs
from clbench.images import hash_pixels, read_rgb, write_png
from clbench.jobs import Order
from clbench.photos import read_photo
from clbench.references import ALIKE, distance
from clbench.registry import ClbenchError
from clbench.tables import read_table
from clbench.training import chosen_effects
from clbench.truth import Truths
from clbench.world import find_world, load_world, shipped_folder, shipped_worlds


def edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def line_of(file, needle):
    return next(i for i, line in enumerate(file.read_text().splitlines(), 1) if needle in line)


def test_a_users_own_world_needs_no_code(mini_world):
    assert [s.id for s in mini_world.sources] == ["p0", "p1", "p2", "p3"]
    assert mini_world.taught == ["sepia", "upside_down"]
    assert mini_world.effect("sepia").caption == "make it sepia"
    assert mini_world.source_image("p0").shape == (32, 32, 3)
    assert mini_world.source_image("p0", 16).shape == (16, 16, 3)
    assert mini_world.mask("p0") is None
    assert mini_world.accelerator().path.name == "accelerator.safetensors"
    assert mini_world.candidate().name == "collection"
    assert mini_world.truth_kind("sepia") == "teacher"


def test_pictures_of_any_shape_lose_only_their_ends(mini_world):
    picture = read_rgb(mini_world.root / "pictures" / "p0.png")
    assert picture.shape == (48, 60, 3)
    middle = mini_world.source_image("p0", 32)
    assert np.abs(middle[16, 16].astype(int) - picture[24, 30].astype(int)).max() < 40


@pytest.mark.parametrize(
    ("old", "new", "table", "near"),
    [
        ("full_steps", "ful_steps", r"\[backbone\]", "full_steps"),
        ("resolution", "resolutoin", "the top level", "resolution"),
        ("[accelerator]\nfile", "[accelerator]\nfle", r"\[accelerator\]", "file"),
        ('trigger = "<qx2>"', 'triger = "<qx2>"', r"\[effects\]\[inline\]", "trigger"),
        ("[teachers]", "[teacher]", "the top level", "teachers"),
    ],
)
def test_unknown_key_names_file_line_table_and_nearest_key(mini_world_file, old, new, table, near):
    edit(mini_world_file, old, new)
    wrong = new.split("\n")[-1].split(" =")[0].strip("[]")
    number = line_of(mini_world_file, new.split("\n")[-1])
    with pytest.raises(
        ClbenchError, match=rf"world.toml line {number}: unknown key '{wrong}' in {table}.*'{near}'"
    ):
        load_world(mini_world_file)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("resolution = 32", 'resolution = "big"', "key 'resolution'.*'big'"),
        ("resolution = 32", 'resolution = "32"', "key 'resolution'.*valid integer, not '32'"),
        ("full_steps = 3", "full_steps = true", "full_steps.*valid integer, not True"),
        ("full_steps = 3", "full_steps = 0", "full_steps.*greater than or equal to 1, not 0"),
        ('name = "mini"\n', "", "key 'name' is missing"),
        ('device = "cpu"', 'device = "cpu"\nhub = "some/name"', "exactly one of 'path'"),
        ("[backbone]", "[backbone", "not valid TOML"),
        ('id = "sepia"', 'id = "upside_down"', "'upside_down' is defined twice"),
        ('trigger = "<qx1>"', 'trigger = "<qx2>"', "effect 'upside_down' has the trigger <qx2> of effect 'sepia'"),
        ('neighbours = ["sepia"]', 'neighbours = ["sepai"]', "unknown neighbour 'sepai'.*Did you mean 'sepia'"),
        ('trigger = "<qx1>"', 'operator = "sepai"', "effect 'sepia': unknown operator 'sepai'"),
        ('folder = "pictures"', 'folder = "nowhere"', "folder of pictures not found: .*nowhere"),
        ('folder = "pictures"', 'folder = "teachers"', "holds no picture"),
        ('trigger = "<qx1>"', 'operator = "sepiaa"', "unknown operator 'sepiaa'.*Did you mean 'sepia'"),
    ],
)
def test_bad_values_are_one_sentence(mini_world_file, old, new, message):
    edit(mini_world_file, old, new)
    with pytest.raises(ClbenchError, match=message) as error:
        load_world(mini_world_file)
    assert "\n" not in str(error.value)


TABLES = """
[[effects.inline]]
id = "first"{0}

[[effects.inline]]
id = "second"
instruction = """ + '"""' + """
[[effects.inline]]
instruction = 3
""" + '"""' + """

[[effects.inline]]
instruction = "third"{1}

[[candidates]]
file = "a.safetensors"

[[candidates]]
name = "mine"
file = "b.safetensors"{2}
"""


@pytest.mark.parametrize(
    ("more", "at", "message"),
    [
        (("", "", ""), '[[effects.inline]]\nid = "first"', r"key 'instruction' is missing in INLINE 'first'\."),
        (('\ninstruction = ""', "", ""), '[[effects.inline]]\ninstruction = "third"', r"key 'id' is missing in INLINE\."),
        (('\ninstruction = ""', '\nid = "third"', ""), '[[candidates]]\nfile = "a', r"key 'name' is missing in \[candidates\]\."),
        (("", "", "\nwieght = 2"), "wieght", r"unknown key 'wieght' in \[candidates\] 'mine'\. Did you mean 'weight'"),
        (('\ninstruction = 1', "", ""), "instruction = 1", r"key 'instruction' in INLINE 'first': .*, not 1\."),
        (('\ninstruction = "x"', '\nid = "a b"', ""), 'id = "a b"', r"key 'id' in INLINE 'a b': .*, not 'a b'\."),
        (('\ninstruction = ""\nneighbours = [\n"b",\n3]', "", ""), "neighbours = [", r"INLINE 'first'\[neighbours\]: .*, not 3"),
    ],
)
def test_mistakes_in_repeated_tables_name_the_right_one(mini_world_file, more, at, message):
    text, inline = mini_world_file.read_text(), r"\[effects\]\[inline\]"
    plain = text[: text.index("[[candidates]]")]
    mini_world_file.write_text(plain + TABLES.format(*more))
    number = mini_world_file.read_text()[: mini_world_file.read_text().index(at, len(plain))].count("\n") + 1
    with pytest.raises(ClbenchError, match=rf"world\.toml line {number}: {message.replace('INLINE', inline)}"):
        load_world(mini_world_file)


def test_teacher_files_must_name_effects(mini_world_file):
    folder = mini_world_file.parent / "teachers"
    shutil.copy(folder / "sepia.safetensors", folder / "sepai.safetensors")
    with pytest.raises(
        ClbenchError, match=r"sepai.safetensors: unknown effect 'sepai'. Did you mean 'sepia'"
    ):
        load_world(mini_world_file)


def test_explicit_teacher_map(mini_world_file):
    edit(
        mini_world_file,
        '[teachers]\nfolder = "teachers"',
        '[teachers.files]\nsepia = "teachers/upside_down.safetensors"',
    )
    world = load_world(mini_world_file)
    assert world.taught == ["sepia"]
    edit(mini_world_file, "teachers/upside_down.safetensors", "gone.safetensors")
    with pytest.raises(ClbenchError, match=r"teacher LoRA of 'sepia' not found: .*gone.safetensors"):
        _ = load_world(mini_world_file).taught


def test_missing_adapters_are_named(mini_world_file):
    for name in ("accelerator", "collection"):
        (mini_world_file.parent / f"{name}.safetensors").unlink()
    world = load_world(mini_world_file)
    with pytest.raises(ClbenchError, match=r"accelerator LoRA not found: .*accelerator.safetensors"):
        world.accelerator()
    with pytest.raises(ClbenchError, match="candidate LoRA 'collection' not found"):
        world.candidate()


def test_unknown_names_suggest(mini_world):
    for ask, near in (
        (lambda: mini_world.effect("sepai"), "sepia"),
        (lambda: mini_world.source("p00"), "p0"),
    ):
        with pytest.raises(ClbenchError, match=f"Did you mean '{near}'"):
            ask()
    with pytest.raises(ClbenchError, match="no world 'tinyy'"):
        find_world("tinyy")


def with_references(mini_world_file):
    root = mini_world_file.parent
    folder = root / "references" / "sepia"
    (folder / "source").mkdir(parents=True)
    shutil.copy(root / "pictures" / "p1.png", folder / "source")
    write_png(folder / "target" / "p1.png", np.full((48, 60, 3), 99, np.uint8))
    edit(mini_world_file, "[accelerator]", '[references]\nfolder = "references"\n\n[accelerator]')
    return folder


def test_references_match_by_stem_and_must_be_the_same_picture(mini_world_file):
    folder = with_references(mini_world_file)
    world = load_world(mini_world_file)
    assert world.truth_kind("sepia") == "reference"
    assert (world.references("sepia", "p1") == 99).all()
    assert world.references("sepia", "p0") is None and world.references("upside_down", "p1") is None
    for size in ((48, 60, 3), (40, 40, 3)):
        write_png(folder / "source" / "p1.png", np.zeros(size, np.uint8))
        found = "is not the same picture as the world's source 'p1'" if size[0] == 48 else "a pair must have one shape"
        with pytest.raises(ClbenchError, match=found):
            load_world(mini_world_file).references("sepia", "p1")
    (folder / "source" / "p1.png").rename(folder / "source" / "p2.png")
    with pytest.raises(ClbenchError, match="has a target but no picture"):
        load_world(mini_world_file).references("sepia", "p1")
    (folder / "source" / "p2.png").unlink()
    with pytest.raises(ClbenchError, match=r"source holds no picture, so 'sepia' has no pair"):
        load_world(mini_world_file).references("sepia", "p1")


def test_the_source_of_a_pair_may_be_another_file_of_the_same_picture(mini_world_file):
    """A JPEG of the PNG, as a labelling tool may leave it."""
    folder = with_references(mini_world_file)
    with Image.open(folder / "source" / "p1.png") as png:
        png.convert("RGB").save(folder / "source" / "p1.jpg", quality=95, subsampling=0)
    (folder / "source" / "p1.png").unlink()
    assert (load_world(mini_world_file).references("sepia", "p1") == 99).all()


def test_a_jpeg_is_the_same_picture_and_another_scene_is_not(tmp_path):
    world = load_world("tiny")
    scenes = [world.source_image(source.id) for source in world.sources[:12]]
    for scene in scenes:
        Image.fromarray(scene).save(tmp_path / "a.jpg", quality=50)
        assert distance(read_photo(tmp_path / "a.jpg"), scene) < ALIKE
    between = [distance(one, two) for at, one in enumerate(scenes) for two in scenes[:at]]
    assert min(between) > 2 * ALIKE


def test_references_are_checked_for_all_sources_before_any_work(mini_world_file):
    folder = with_references(mini_world_file)
    world = load_world(mini_world_file)
    assert world.pairs.check("upside_down", ["p0", "p1"]) == ""
    assert "has a reference pair for 1 of 2 sources" in world.pairs.check("sepia", ["p0", "p1"])
    assert world.pairs.check("sepia", ["p1"]) == ""
    with pytest.raises(ClbenchError, match=r"of none of the 2 sources asked for: .* such as 'p0', and there are 'p1'"):
        world.pairs.check("sepia", ["p0", "p2"])
    (folder.parent / ".ipynb_checkpoints").mkdir()
    load_world(mini_world_file)
    suite = mini_world_file.parent / "suite.toml"
    suite.write_text('name = "s"\nquestion = "q?"\neffects = "all"\nsources = 3\nsystems = ["identity"]\nmetrics = ["psnr"]\n')
    write_png(folder / "source" / "p1.png", np.zeros((48, 60, 3), np.uint8))
    out = mini_world_file.parent / "out"
    order = Order(str(suite), str(mini_world_file), (), (), None, None, out, False, False, False)
    with pytest.raises(ClbenchError, match="is not the same picture"):
        jobs.edit(order)
    assert not out.exists()


def test_pairs_of_other_sources_which_tell_what_the_effect_does_are_checked_as_well(mini_world_file):
    folder = with_references(mini_world_file)
    shutil.copy(mini_world_file.parent / "pictures" / "p0.png", folder / "source")
    write_png(folder / "target" / "p0.png", np.full((48, 60, 3), 99, np.uint8))
    write_png(folder / "source" / "p1.png", np.zeros((48, 60, 3), np.uint8))
    suite = mini_world_file.parent / "suite.toml"
    suite.write_text('name = "s"\nquestion = "q?"\neffects = "all"\nsources = 1\nsystems = ["identity"]\nmetrics = ["psnr"]\n')
    order = Order(str(suite), str(mini_world_file), (), (), None, None, mini_world_file.parent / "out", False, False, False)
    with pytest.raises(ClbenchError, match="is not the same picture as the world's source 'p1'"):
        jobs.edit(order)  # p1 is not asked for


@pytest.mark.parametrize(
    ("metric", "random", "said"), [("success", True, True), ("psnr", True, False), ("success", False, False)]
)
def test_answers_that_are_too_few_to_tell_how_an_effect_varies_are_said(mini_world_file, capsys, metric, random, said):
    with_references(mini_world_file)
    if random:
        edit(mini_world_file, 'id = "sepia"', 'id = "sepia"\nrandom = true')
    suite = mini_world_file.parent / "suite.toml"
    suite.write_text(
        f'name = "s"\nquestion = "?"\neffects = "all"\nsources = 2\nsystems = ["identity"]\nmetrics = ["{metric}"]\n'
    )
    out = mini_world_file.parent / "out"
    jobs.edit(Order(str(suite), str(mini_world_file), ("identity",), ("sepia",), None, None, out, False, False, False))
    told = " ".join(capsys.readouterr().err.split())
    assert ("how sepia varies is learnt from right answers on 1 source: too few to rely on success" in told) is said


def test_an_effect_with_pairs_is_judged_by_them_alone(mini_world_file):
    """A teacher that fills in for a missing pair would be right by construction in a part of a mean."""
    with_references(mini_world_file)
    world = load_world(mini_world_file)
    truths = Truths(world)
    assert world.teacher_path("sepia") is not None and truths.truth("sepia", "p1").kind == "reference"
    assert truths.truth("sepia", "p0").reason.endswith("no reference picture of this source")


def test_references_of_an_unknown_effect(mini_world_file):
    folder = with_references(mini_world_file)
    folder.rename(folder.with_name("sepai"))
    with pytest.raises(ClbenchError, match="unknown effect 'sepai'"):
        load_world(mini_world_file)


def test_hash_covers_every_file_that_changes_a_pixel(mini_world_file, flux_folder, tmp_path):
    with_references(mini_world_file)
    copy = tmp_path / "own_backbone"
    shutil.copytree(flux_folder, copy)
    edit(mini_world_file, str(flux_folder), "own_backbone")
    seen = {load_world(mini_world_file).hash}

    def differs_now():
        value = load_world(mini_world_file).hash
        assert value not in seen
        seen.add(value)

    assert load_world(mini_world_file).hash in seen
    write_png(tmp_path / "pictures" / "p3.png", np.zeros((32, 32, 3), np.uint8))
    differs_now()
    write_png(tmp_path / "references" / "sepia" / "target" / "p1.png", np.zeros((32, 32, 3), np.uint8))
    differs_now()
    weights = copy / "vae" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    differs_now()
    edit(mini_world_file, "make it sepia", "make it brown")
    differs_now()
    edit(mini_world_file, "guidance = 2.0", "guidance = 3.0")
    differs_now()
    shutil.copy(tmp_path / "accelerator.safetensors", tmp_path / "teachers" / "upside_down.safetensors")
    differs_now()  # the teacher is the truth of an effect without operator and reference


def test_hash_ignores_place_device_and_candidates(mini_world_file, tmp_path):
    before = load_world(mini_world_file).hash
    edit(mini_world_file, "batch = 4", "batch = 2\nfold = false")
    shutil.copy(tmp_path / "accelerator.safetensors", tmp_path / "collection.safetensors")
    moved = tmp_path.parent / f"{tmp_path.name}-moved"
    tmp_path.rename(moved)
    assert load_world(moved).hash == before
    moved.rename(tmp_path)


def test_large_files_are_hashed_once(tmp_path, monkeypatch):
    from clbench import hashing

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(hashing, "REMEMBER_ABOVE", 10)
    read = []
    real = hashing.hash_file
    monkeypatch.setattr(hashing, "hash_file", lambda path: read.append(path) or real(path))
    file = tmp_path / "weights.bin"
    file.write_bytes(b"x" * 100)
    assert hashing.file_digest(file) == hashing.file_digest(file) == real(file)
    assert len(read) == 1
    file.write_bytes(b"y" * 101)
    assert hashing.file_digest(file) == real(file)
    assert len(read) == 2


def test_shipped_tiny_world():
    if not (shipped_worlds()["tiny"].parent / "effects.toml").is_file():
        pytest.skip("the catalogue is not there yet")
    world = load_world("tiny")
    assert (world.resolution, world.work_size) == (64, 128)
    assert len(world.effects) >= 60
    assert len(world.sources) == 100 == len({s.id for s in world.sources})
    source = world.sources[0]
    assert source.caption and source.subject and source.background
    assert world.source_image(source.id).shape == (128, 128, 3)
    assert world.mask(source.id).shape == (128, 128)
    assert hash_pixels(world.source_image(source.id)) == source.sha256


def test_the_world_of_eight_effects_is_the_tiny_one_but_for_its_adapters():
    from clbench.tables import read_toml

    (tiny, _), (eight, _) = (read_toml(shipped_worlds()[name]) for name in ("tiny", "tiny-8"))
    for table in ("backbone", "effects", "sources", "accelerator", "encoders"):
        for key, value in eight[table].items():
            assert str(value).removeprefix("../tiny/") == str(tiny[table][key]), f"[{table}] {key}"
    assert eight["teachers"]["files"] == {e: f"../tiny/teachers/{e}.safetensors" for e in eight["teachers"]["files"]}
    assert len(eight["teachers"]["files"]) == 8


def test_every_key_is_documented_in_the_shipped_file():
    from clbench import world_file as module
    from clbench.tables import Table

    text = shipped_worlds()["tiny"].read_text()
    tables = [
        t for t in vars(module).values() if isinstance(t, type) and issubclass(t, Table) and t is not Table
    ]
    for table in tables:
        for key in table.model_fields:
            assert f"{key} = " in text or f"[{key}]" in text or f"[{key}." in text or f".{key}]" in text, key


def test_code_is_hashed_by_what_it_does(tmp_path):
    from clbench.hashing import code_digest

    file = tmp_path / "operators.py"
    file.write_text('def f(x):\n    """Doc."""\n    return x + 1  # why\n')
    before = code_digest(tmp_path)
    file.write_text('"""New."""\n\n\ndef f(x):\n    return (x + 1)\n')
    assert code_digest(tmp_path) == before
    file.write_text("def f(x):\n    return x + 2\n")
    assert code_digest(tmp_path) != before


def test_effects_of_a_candidate_are_known_before_its_file_is_there(mini_world_file):
    text = mini_world_file.read_text(encoding="utf-8")
    text += '\n[[candidates]]\nname = "later"\nfile = "nowhere.safetensors"\neffects = ["sepia"]\n'
    mini_world_file.write_text(text, encoding="utf-8")
    world = load_world(mini_world_file)
    assert world.candidate_effects("later") == ("sepia",)
    with pytest.raises(ClbenchError, match="unknown candidate 'latter'"):
        world.candidate_effects("latter")
    with pytest.raises(ClbenchError, match="names no effects"):
        world.candidate_effects(world.table.candidates[0].name)
    with pytest.raises(ClbenchError, match="--effects and --candidate"):
        chosen_effects(str(mini_world_file), ["sepia"], "later")


def test_weights_of_teachers(mini_world_file):
    before = load_world(mini_world_file)
    edit(mini_world_file, 'folder = "teachers"', 'folder = "teachers"\n[teachers.weights]\nsepia = 1.0\nupside_down = 1')
    same = load_world(mini_world_file)
    assert same.hash == before.hash and same.effect_weight("sepia") == before.effect_weight("sepia") == 1.0
    edit(mini_world_file, "sepia = 1.0", "sepia = 0.8")
    other = load_world(mini_world_file)
    assert (other.effect_weight("sepia"), other.effect_weight("upside_down")) == (0.8, 1.0)
    assert other.hash != before.hash  # teachers are the truth here
    edit(mini_world_file, "upside_down = 1\n", "upside_down = 1\nsepai = 2\n")
    with pytest.raises(ClbenchError, match=r"\[teachers\.weights\] in .*unknown effect 'sepai'. Did you mean 'sepia'"):
        load_world(mini_world_file)
    edit(mini_world_file, "sepai = 2\n", "")
    (mini_world_file.parent / "teachers" / "sepia.safetensors").unlink()
    with pytest.raises(ClbenchError, match=r"gives 'sepia' the weight 0\.8, but it has no teacher"):
        load_world(mini_world_file)


def test_the_truth_of_operators_knows_no_weights(mini_world_file):
    edit(mini_world_file, 'id = "sepia"', 'id = "sepia"\noperator = "sepia"')
    before = load_world(mini_world_file).hash
    edit(mini_world_file, 'folder = "teachers"', 'folder = "teachers"\nweights = { sepia = 0.5 }')
    assert load_world(mini_world_file).hash == before


def test_how_few_step_loras_are_sampled_is_no_part_of_the_hash(mini_world_file):
    before = load_world(mini_world_file)
    own = 'sampler = "euler"\nshift = 2.5\nembedded_guidance = 1.5\n'
    edit(mini_world_file, '[accelerator]\n', f"[accelerator]\n{own}")
    edit(mini_world_file, '[[candidates]]\n', f"[[candidates]]\n{own}")
    after = load_world(mini_world_file)
    assert after.hash == before.hash
    for adapter in (after.accelerator(), after.candidate()):
        assert (adapter.sampler, adapter.shift, adapter.embedded_guidance) == ("euler", 2.5, 1.5)
    assert before.accelerator().sampler is None
    edit(mini_world_file, "[backbone]", '[backbone]\nkind = "qwen-image-edit"')
    with pytest.raises(ClbenchError, match=r"embedded_guidance = 1\.5 of the accelerator has no effect"):
        load_world(mini_world_file)


@pytest.mark.parametrize("name", ["flux-kontext", "qwen-image-edit"])
def test_templates_have_known_keys_only(name):
    from clbench.world_file import WorldTable

    table = read_table(shipped_folder() / "templates" / f"{name}.toml", WorldTable)
    assert table.backbone.kind == name and table.backbone.few_sampler == "stochastic"
    assert table.accelerator is not None and table.accelerator.sampler == "euler"
