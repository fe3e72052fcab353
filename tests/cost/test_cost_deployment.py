"""Every system's bytes, traffic and expected success; the curves; the command."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from clbench.cli import app
from clbench.cost.answer import answer, as_json
from clbench.cost.bases import find_base
from clbench.cost.curves import over_effects, over_rank, rows
from clbench.cost.deployment import Cache, Deployment, Size, cost_of, plans, system_costs
from clbench.cost.options import Options
from clbench.cost.routing import PAPER_ACCURACY, PAPER_LOAD_BYTES, Router
from clbench.cost.units import binary
from clbench.cost.worlds import HUB_PRESETS, predict, world_base
from clbench.registry import ClbenchError
from clbench.world import load_world

SIZES = (1000, Size.same(10), Size.same(4), Size.same(20))
TOY = Deployment(*SIZES, effects=5, capacity=50, router=Router(0.9), bcr={"cascade": 0.2, "collection": 0.1})


def costs(asked: Deployment):
    return {cost.system: cost for cost in system_costs(asked)}


def test_bytes_of_every_system_by_hand():
    found = costs(TOY)
    assert {name: cost.disk for name, cost in found.items()} == {
        "teacher": 1050, "cascade": 1054, "merged": 1014, "merged-cat": 1054, "copies": 5000, "collection": 1020,
    }  # fmt: skip
    assert all(cost.resident == cost.disk and cost.host == 0 and cost.loads == 0 for cost in found.values())
    assert found["cascade"].adapters == 54 and found["copies"].adapters == 0


@pytest.mark.parametrize(("kind", "host"), [("disk", 0), ("ram", 50)])
def test_an_lru_holds_only_its_slots(kind, host):
    found = costs(replace(TOY, cache=Cache(kind, 2), load_seconds=0.5))["cascade"]
    assert (found.disk, found.resident, found.host) == (1054, 1000 + 4 + 20, host)
    assert found.loads == pytest.approx(600) and found.switches == pytest.approx(800)
    assert found.loading_seconds == pytest.approx(300)
    copies = costs(replace(TOY, cache=Cache(kind, 2), load_seconds=0.5))["copies"]
    assert copies.loads == pytest.approx(600) and copies.loading_seconds == pytest.approx(300 * 1000 / 10), "the bytes of a base"
    assert costs(replace(TOY, cache=Cache(kind, 2)))["collection"].loads == 0


def test_the_device_the_disk_and_the_ram_hold_different_bytes():
    """Of the same adapters: the backbone's dtype on the device, the file's on disk; in RAM a file's, for each module."""
    asked = replace(TOY, teacher=Size(10, 3, 7), accelerator=Size(4, 1, 2), collection=Size(20, 6, 14), cache=Cache("ram", 2))
    found = costs(asked)
    assert {name: (cost.disk, cost.resident, cost.host) for name, cost in found.items()} == {
        "teacher": (1050, 1006, 35), "cascade": (1054, 1007, 35), "merged": (1014, 1004, 0), "merged-cat": (1054, 1016, 0),
        "copies": (5000, 2000, 5000), "collection": (1020, 1006, 0),
    }  # fmt: skip
    assert found["cascade"].adapters == 54 and found["collection"].adapters == 20
    (_, first), _ = over_rank(asked, Size(5, 1, 4), (1, 2)).of("teacher")
    assert (first.disk, first.resident, first.host) == (1025, 1002, 20)


def test_resident_is_in_the_dtype_of_the_backbone(mini_world_file):
    """Files of float32 under a bfloat16 backbone."""
    full = {cost.system: cost for cost in answer(Options(world=str(mini_world_file), cache="ram:1")).systems}
    mini_world_file.write_text(mini_world_file.read_text().replace("batch = 4", 'batch = 4\ndtype = "bfloat16"'))
    found = answer(Options(world=str(mini_world_file), cache="ram:1"))
    halved = {cost.system: cost for cost in found.systems}
    teacher, base = found.predictions[0], found.deployment.base_bytes
    assert teacher.resident * 2 == teacher.stored == teacher.waiting
    for name in ("teacher", "cascade", "collection"):
        assert 2 * halved[name].resident == full[name].resident and halved[name].host == full[name].host
        assert halved[name].adapters == full[name].adapters == halved[name].disk - base
    assert halved["teacher"].resident == base + teacher.resident
    told = as_json(found)["deployment"]
    assert (told["teacher_bytes"], told["teacher_resident"]) == (teacher.stored, teacher.resident)
    (_, ranked), *_ = found.rank_curve.of("teacher")
    assert 2 * (ranked.resident - base) == (ranked.disk - base) / 2, "one of two teachers, in half the bytes"


def test_a_full_collection_needs_another_adapter_and_a_router():
    found = costs(replace(TOY, effects=101, router=Router()))["collection"]
    assert found.parts == 3 and found.adapters == 60 and 0.99 < found.routing < 1 and found.switches > 600


def test_success_is_routing_times_good_outputs():
    found = costs(TOY)
    assert found["cascade"].success == pytest.approx(0.9 * 0.8) and found["collection"].success == pytest.approx(0.9)
    assert math.isnan(found["merged"].success)
    assert costs(replace(TOY, route="effects"))["collection"].success == pytest.approx(0.9 * 0.9)


def test_the_published_accuracies_are_met():
    assert [Router().accuracy(n) for n in PAPER_ACCURACY] == list(PAPER_ACCURACY.values())
    assert Router().accuracy(35) == pytest.approx(0.905) and Router().accuracy(180) == 0.76
    assert Router().beyond(151) and not Router().beyond(150)


def test_curves_hold_the_same_numbers_as_single_answers():
    curve = over_effects(TOY)
    assert [x for x, _ in curve.points] == list(range(1, 181))
    (_, alone), (_, last) = curve.of("cascade")[4], curve.of("cascade")[-1]
    assert alone == costs(TOY)["cascade"] and last.adapters == 180 * 10 + 4
    ranks = dict(over_rank(TOY, Size.same(3), (1, 8)).of("cascade"))
    assert ranks[8].adapters - ranks[1].adapters == 5 * 3 * 7
    plain = rows(curve)
    assert len(plain) == 180 * 6 and json.dumps(plain, allow_nan=False)
    assert [row["success"] for row in plain[:6]] == [None, 0.8, None, None, None, 0.9], "no rate is known of the others"
    at = 4 * 6
    for row, cost in zip(plain[at : at + 6], system_costs(TOY), strict=True):
        assert (row["x"], row["system"], row["disk"], row["switches"]) == (5, cost.system, cost.disk, cost.switches)


def test_a_load_takes_time_in_proportion_to_bytes_at_every_rank():
    """A teacher of half the rank loads in half the time; a fused copy is as large whatever the rank was."""
    asked = replace(TOY, cache=Cache("disk", 2), load_seconds=0.5)
    curve = over_rank(asked, Size.same(5), (1, 2, 4))
    seconds = {name: [cost.loading_seconds for _, cost in curve.of(name)] for name in ("teacher", "copies")}
    assert seconds["teacher"] == pytest.approx([150, 300, 600]) and seconds["copies"] == pytest.approx([30_000] * 3)
    assert curve.of("cascade")[1][1] == costs(asked)["cascade"], "at the asked rank the curve is the answer"


def test_the_published_time_of_a_load_is_that_of_the_published_bytes():
    wide, narrow = (answer(Options(rank=rank, cache="disk:4")) for rank in (128, 8))
    assert wide.deployment.teacher.stored == PAPER_LOAD_BYTES and wide.deployment.load_seconds == 1.2
    assert narrow.deployment.load_seconds == pytest.approx(1.2 / 16)
    one, other = ({cost.system: cost.loading_seconds for cost in found.systems} for found in (wide, narrow))
    assert other["teacher"] == pytest.approx(one["teacher"] / 16) and other["copies"] == pytest.approx(one["copies"])
    curved = [{x: cost.loading_seconds for x, cost in found.rank_curve.of("teacher")} for found in (wide, narrow)]
    assert curved[0] == pytest.approx(curved[1]) and curved[0][8] == pytest.approx(other["teacher"])
    assert "a teacher of 140.62 MiB 0.075 s; published are 1.2 s for 2.1973 GiB" in " ".join(narrow.assumptions)
    assert answer(Options(rank=8, cache="disk:4", load_seconds=3)).deployment.load_seconds == 3


def test_cost_of_takes_any_plan():
    plan = replace(plans(TOY)[0], count=2)
    assert cost_of(plan, TOY).disk == 1020


def test_the_command_says_the_papers_numbers():
    done = CliRunner().invoke(app, ["cost", "--json"])
    found = json.loads(done.output)
    by_name = {row["system"]: row for row in found["systems"]}
    assert found["deployment"]["base_bytes"] == 40_860_802_176
    assert by_name["cascade"]["adapters"] == 118_814_146_560 and by_name["collection"]["adapters"] == 2_359_296_000
    assert by_name["cascade"]["success"] == pytest.approx(0.87 * (1 - 0.168))
    assert by_name["merged"]["success"] is None
    assert {len({row["x"] for row in found["curves"][axis]}) for axis in ("effects", "teacher_rank")} == {180, 7}


def test_the_table_and_its_assumptions():
    output = CliRunner().invoke(app, ["cost", "-n", "160", "--mix", "zipf:1.1", "--cache", "disk:4"]).output
    for words in ("352.35 GiB", "cascade", "zipf:1.1", "published curve ends at 150", "measured at 50 effects"):
        assert words in output


def test_published_failure_rates_count_for_their_base_only():
    assert answer(Options()).deployment.bcr["cascade"] == 0.168
    assert not answer(Options(base="flux-kontext")).deployment.bcr
    assert answer(Options(base="flux-kontext", bcr=["cascade=0.3"])).deployment.bcr == {"cascade": 0.3}
    assert answer(Options(base="flux-kontext", bcr=["paper,teacher=0"])).deployment.bcr["teacher"] == 0


def test_an_answer_takes_less_than_a_second():
    """Processor time, so that other work on the machine does not count; with both curves, as JSON."""
    code = "import time; from clbench.cli import app\ntry: app(['cost', '--mix', 'zipf', '--cache', 'disk:4', '--json'])\n"
    code += "finally: open(1, 'w').write(f'\\n{time.process_time()}')"
    done = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)]
    assert min(float(one.stdout.split()[-1]) for one in done) < 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(mix="pareto"), "a query mix is"), (Options(mix="zipf:x"), "must be a number"),
        (Options(cache="disk"), "a cache policy is"), (Options(cache="ram:0"), "at least one slot"),
        (Options(router="1.2"), r"in \[0, 1\]"), (Options(bcr=["cascad=.1"]), "Did you mean 'cascade'"),
        (Options(bcr=["cascade=2"]), "failure rate"), (Options(rank=0), "at least 1"),
        (Options(world="tiny", rank=8), "--rank does not go with --world"),
    ],
)  # fmt: skip
def test_bad_options_are_one_sentence(options, message):
    with pytest.raises(ClbenchError, match=message):
        answer(options)


def test_a_worlds_adapters_are_predicted_to_the_byte(mini_world_file):
    found = answer(Options(world=str(mini_world_file)))
    assert [one.name for one in found.predictions] == ["sepia", "upside_down", "accelerator", "collection"]
    assert all(one.exact and one.stored < one.file for one in found.predictions)
    assert found.deployment.effects == 2 and found.deployment.teacher.stored == found.predictions[0].stored
    plain = as_json(found)
    assert all(row["exact"] for row in plain["adapters"]) and json.dumps(plain, allow_nan=False)
    point = dict(found.rank_curve.of("cascade"))[4]
    assert point.adapters == 3 * found.deployment.teacher.stored


def test_a_worlds_cost_needs_no_pictures_and_of_the_two_known_models_no_network(mini_world_file, monkeypatch):
    mini_world_file.write_text(mini_world_file.read_text().replace('folder = "pictures"', 'folder = "nowhere"'))
    with pytest.raises(ClbenchError, match="not found"):
        load_world(mini_world_file)
    assert answer(Options(world=str(mini_world_file))).predictions
    world = load_world(mini_world_file, pictures=False)
    with pytest.raises(ClbenchError, match=r"not found: .*nowhere"):
        world.source_image("a")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for hub, preset in HUB_PRESETS.items():
        world.backbone = world.backbone.model_copy(update={"hub": hub, "path": None})
        base = world_base(world)
        assert base == replace(find_base(preset), name=hub), "the paper's failure rates are of its own files, not of these"


def test_a_worlds_collection_holds_what_its_candidate_was_trained_on(mini_world_file):
    """Three effects take two adapters of two, unless --capacity says otherwise; without a candidate nothing says how many."""

    def collection(**asked):
        found = answer(Options(world=str(mini_world_file), effects=3, **asked))
        return found.deployment.capacity, found.systems[-1].parts, " ".join(found.assumptions)

    capacity, parts, said = collection()
    assert (capacity, parts) == (2, 2)
    assert "a collection adapter holds 2 effects (it does not say; the world has so many); more effects take further ones" in said
    capacity, parts, said = collection(capacity=3)
    assert (capacity, parts) == (3, 1) and "which holds 2 effects" in said and "capacity as asked: 3" in said
    start = mini_world_file.read_text()
    mini_world_file.write_text(start.replace('[[candidates]]\nname = "collection"\nfile = "collection.safetensors"\n', ""))
    capacity, parts, said = collection()
    assert (capacity, parts) == (50, 1) and "the world has no candidate" in said
    assert answer(Options(effects=60)).systems[-1].parts == 2 and answer(Options(capacity=60)).deployment.capacity == 60
    with pytest.raises(ClbenchError, match="capacity must be at least 1"):
        answer(Options(capacity=0))


@pytest.mark.parametrize("format", ["kohya", "comfyui"])
@pytest.mark.parametrize("skip", [(), ("to_k",), ("proj_mlp",)])
def test_a_file_that_holds_one_matrix_for_several_modules(mini_world, tmp_path, format, skip):
    """Exported (block by block) and foreign (one A for all of its modules): the file to the byte, each module once loaded."""
    from mini_parts import build_flux_pipeline, full_lora
    from safetensors.torch import load_file, save_file

    from clbench.adapter_writing import save_adapter
    from clbench.adapters import describe_adapter, load_tensors
    from clbench.export import export_adapter

    save_adapter(tmp_path / "a.safetensors", *full_lora(build_flux_pipeline(), 0, skip=skip))
    there = tmp_path / "there.safetensors"
    export_adapter(describe_adapter(tmp_path / "a.safetensors"), there, format, "flux")
    foreign = {name: tensor.half() for name, tensor in load_file(there).items()}
    save_file(foreign, tmp_path / "foreign.safetensors")
    for file, bytes_each in ((there, 4), (tmp_path / "foreign.safetensors", 2)):
        found = predict("x", file, world_base(mini_world), "bfloat16")
        numbers = sum(tensor.numel() for tensor in load_tensors(describe_adapter(file)).values())
        assert found.exact and found.stored == sum(
            tensor.nbytes for name, tensor in load_file(file).items() if not name.endswith(".alpha")
        )
        assert (found.resident, found.waiting) == (2 * numbers, bytes_each * numbers)
    assert found.waiting > found.stored, "q, k and v have an A each once they are loaded"


def test_a_foreign_adapter_is_refused(mini_world_file, tmp_path):
    from mini_parts import build_flux_pipeline, random_lora

    from clbench.adapter_writing import save_adapter

    factors, metadata = random_lora(build_flux_pipeline(), 9)
    strange = {name.replace("attn", "attention"): value for name, value in factors.items()}
    save_adapter(tmp_path / "teachers" / "sepia.safetensors", strange, metadata)
    with pytest.raises(ClbenchError, match="is a LoRA of another base"):
        answer(Options(world=str(mini_world_file)))


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (850, "850 B"), (2_359_296_000, "2.1973 GiB"), (118_814_146_560, "110.65 GiB"), (float("nan"), "–")],
)
def test_bytes_for_people(count, text):
    assert binary(count) == text
