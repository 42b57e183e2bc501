"""What jobs will take: amounts of work, rates, records, and the fit of rates."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gazepipe.config import load as config
from gazepipe.dag.costs import GPU_SPEED, Costs, job_named, scale, shipped
from gazepipe.dag.fit import fitted, solved
from gazepipe.dag.measured import Measured
from gazepipe.dag.plan import Plan
from gazepipe.dag.planning import needed
from gazepipe.dag.stage import Job
from gazepipe.dag.work import DRAWN, NETWORKS, WORK, billions, images, images_by_role, work
from gazepipe.provenance.fingerprint import digest

ROOT = Path(__file__).parents[2]
RUN = {"dataset": "columbia-drawn", "model": "resnet18_small", "fold": "0", "seed": "0"}


@pytest.fixture(scope="module")
def raw_default() -> dict:
    return config.read(ROOT / "config.yaml")


@pytest.fixture(scope="module")
def default(raw_default) -> Plan:
    """The shipped configuration."""
    return Plan(config.load(raw_default))


def with_changes(raw_default: dict, changes: dict) -> Plan:
    return Plan(config.load(config.merged(raw_default, changes)))


def test_every_job_of_every_shipped_configuration_has_a_cost(raw_default):
    rates = shipped()
    for path in [None, *sorted((ROOT / "config").glob("*.yaml"))]:
        plan = with_changes(raw_default, config.read(path) if path else {})
        costs = Costs(plan, {})
        for job in needed(plan):
            cost = costs.of(job)
            assert 0.1 <= cost.seconds < 1e6, job
            assert 10 <= cost.memory_mb < 1e6, job
            assert cost.source == "rates"
            amounts = work(plan, job)
            assert all(math.isfinite(value) and value >= 0 for value in amounts.seconds.values())
            # Each amount has a rate.
            known = {**rates["seconds"][job.stage], **rates["machine"]}
            assert amounts.seconds.keys() <= known.keys()
            assert amounts.memory.keys() <= rates["memory"][job.stage].keys()


def test_amounts_of_a_training(default, raw_default):
    # 32 subjects of 105 images, half of them tested; 15 % of 16 validate: 2.
    roles = images_by_role(default, "columbia-drawn", 0)
    assert roles == {"train": 14 * 105, "validation": 2 * 105, "test": 16 * 105}
    base = work(default, Job.of("train", method="base", **RUN)).seconds
    assert base["augmented"] == 14 * 105 * 120
    assert base["steps"] == math.ceil(14 * 105 / 32) * 120
    own = billions({"arch": "resnet18", "width": 0.125, "input": [1, 36, 112]})
    assert base["gigamacs"] == pytest.approx(own["gigamacs"] * (3 * 14 + 2) * 105 * 120)
    # As many images in half of the epochs, and the teacher looks at 40 others of each camera ten times.
    pseudo = work(default, Job.of("train", method="kd_pseudo", **RUN)).seconds
    assert pseudo["augmented"] == base["augmented"]
    taught = billions({"arch": "resnet18", "width": 0.28, "input": [1, 36, 112]})
    expected = own["gigamacs"] * (3 * 14 * 2 + 2) * 105 * 60 + taught["gigamacs"] * 10 * 40 * (105 + 56)
    assert pseudo["gigamacs"] == pytest.approx(expected)
    assert work(default, Job.of("train", method="untrained", **RUN)).seconds["augmented"] == 0


def test_amounts_of_a_person_whose_days_are_divided(raw_default):
    plan = with_changes(raw_default, config.read(ROOT / "config/mpiigaze-p00.yaml"))
    # 3,000 images of one person, a fifth of them tested; a tenth of the rest validates.
    assert images_by_role(plan, "mpiigaze-p00", 0) == pytest.approx({"train": 2160, "validation": 240, "test": 600})


@pytest.mark.parametrize("epochs", [10, 30])
def test_the_work_of_a_training_grows_with_its_epochs(raw_default, epochs):
    plan = with_changes(raw_default, {"training": {"epochs": epochs}})
    assert work(plan, Job.of("train", method="base", **RUN)).seconds["augmented"] == 14 * 105 * epochs


def test_a_store_of_real_data_is_counted(raw_default, tmp_path, monkeypatch):
    h5py = pytest.importorskip("h5py")
    changes = {"datasets": {"columbia-drawn": {"source": {"drawn": None, "path": "somewhere"}}}}
    monkeypatch.chdir(tmp_path)
    assert images(with_changes(raw_default, changes), "columbia-drawn") == 32 * 105
    path = tmp_path / "results/data/columbia-drawn.h5"
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        file["image"] = [[0]] * 7
    assert images(with_changes(raw_default, changes), "columbia-drawn") == 7
    path.write_bytes(b"no store")
    assert images(with_changes(raw_default, changes), "columbia-drawn") == 32 * 105


@pytest.mark.parametrize("layout", sorted(DRAWN))
def test_renderers_draw_as_many_as_is_said(layout):
    from gazepipe.drawn.draw import writer

    assert writer(layout).DEFAULTS["images"] == DRAWN[layout]


@pytest.mark.parametrize("arch", sorted(NETWORKS))
@pytest.mark.parametrize("width", [0.25, 0.6])
def test_multiply_adds_are_those_that_are_counted(arch, width):
    from gazepipe.models.registry import build
    from gazepipe.profiling.cost import count

    spec = {"arch": arch, "width": width, "input": [4, 192, 240] if arch == "itracker4" else [1, 36, 112]}
    counted = count(build(spec), tuple(spec["input"]))["macs"] / 1e9
    assert billions(spec)["gigamacs"] == pytest.approx(counted, rel=0.35)


def test_ones_own_network_counts_as_resnet18():
    spec = {"width": 0.5, "input": [1, 36, 112]}
    assert billions({"arch": "my.module:network", **spec}) == billions({"arch": "resnet18", **spec})


# ---- records


def took(plan: Plan, job: Job, factor: float, memory: float = 1.0) -> Measured:
    """What the job took on a machine that needs `factor` times the predicted time."""
    seconds, megabytes = Costs(plan, {}).predicted(job)
    return Measured(seconds * factor, megabytes * memory, None, digest(plan.settings(job).deciding()))


def test_records_scale_their_stage_and_the_same_job_wins(default):
    trained = [Job.of("train", method="base", **{**RUN, "seed": seed}) for seed in "012"]
    measured = {str(job): took(default, job, factor, 2) for job, factor in zip(trained, (2, 3, 9), strict=True)}
    plain, costs = Costs(default, {}), Costs(default, measured)
    assert costs.of(trained[2]).seconds == pytest.approx(9 * plain.of(trained[2]).seconds)
    assert costs.of(trained[2]).source == "job"
    other = Job.of("train", method="kd_pseudo", **RUN)
    assert costs.of(other).seconds == pytest.approx(3 * plain.of(other).seconds)
    assert costs.of(other).memory_mb == pytest.approx(2 * plain.of(other).memory_mb)
    assert costs.of(other).source == "stage"
    # Of a stage that never ran here the machine's speed is known, its memory is not.
    predict = Job.of("predict", method="base", **RUN)
    assert costs.of(predict).seconds == pytest.approx(3 * plain.of(predict).seconds)
    assert costs.of(predict).memory_mb == plain.of(predict).memory_mb
    assert costs.of(predict).source == "rates"


def test_records_of_other_settings_or_of_no_job_say_nothing(default):
    job = Job.of("train", method="base", **RUN)
    other = Measured(1e4, 1e4, None, "another")
    measured = {str(job): other, "train x y z 0 0": other, "train": other, "cook dinner": other}
    assert Costs(default, measured).of(job) == Costs(default, {}).of(job)


@given(st.lists(st.floats(1e-6, 1e6), max_size=9))
def test_a_scale_is_a_bounded_median(ratios):
    assert 0.1 <= scale(ratios) <= 10
    assert scale([]) == 1
    assert scale([*ratios, *[3.0] * (len(ratios) + 1)]) == 3


def test_names_are_those_of_jobs(default):
    assert all(job_named(str(job)) == job for job in needed(default))
    assert job_named("train columbia-drawn") is None


def test_a_gpu_is_faster_at_what_it_computes(raw_default):
    cpu, gpu = (Costs(with_changes(raw_default, {"device": device}), {}) for device in ("cpu", "cuda"))
    job = Job.of("train", method="base", **RUN)
    start = shipped()["seconds"]["train"]["start"]
    steps = shipped()["seconds"]["train"]["steps"] * work(cpu.plan, job).seconds["steps"]
    computed = [each.predicted(job)[0] - start - steps for each in (cpu, gpu)]
    assert computed[0] == pytest.approx(GPU_SPEED * computed[1])
    assert cpu.predicted(Job.of("tables")) == gpu.predicted(Job.of("tables"))


# ---- the fit


def test_the_fit_finds_the_rates_that_made_the_times(default):
    present = shipped()
    true = {
        "machine": {name: 1.5 * rate for name, rate in present["machine"].items()},
        "seconds": {s: {name: 0.8 * rate for name, rate in r.items()} for s, r in present["seconds"].items()},
        "memory": {s: {name: 1.2 * rate for name, rate in r.items()} for s, r in present["memory"].items()},
    }
    costs = Costs(default, {}, true)
    jobs = needed(default)
    samples = [(default, job, Measured(*costs.predicted(job))) for job in jobs]
    found = Costs(default, {}, fitted(samples, present))
    for job in jobs:
        assert found.predicted(job) == pytest.approx(costs.predicted(job), rel=0.1)


def test_rates_of_which_nothing_was_measured_stay():
    prior = {("a", "start"): 2.0, ("a", "images"): 0.5, ("b", "start"): 7.0}
    rows = [({("a", "start"): 1, ("a", "images"): n}, 3.0 + 0.1 * n) for n in (0, 10, 50, 400)]
    found = solved(rows, prior)
    assert found["b", "start"] == 7
    # One of the four was disturbed.
    rows.append(({("a", "start"): 1, ("a", "images"): 100}, 300.0))
    for some in (found, solved(rows, prior)):
        assert some["a", "start"] == pytest.approx(3, rel=0.1)
        # No rate falls below a quarter.
        assert some["a", "images"] == pytest.approx(0.125, rel=0.1)


def test_there_is_work_for_each_stage_with_a_rate():
    assert WORK.keys() <= shipped()["seconds"].keys() == shipped()["memory"].keys()
