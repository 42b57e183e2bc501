"""The benchmark for GPUs, with tiny networks on the CPU: what it counts, and that it refuses without a GPU."""

import importlib.util

import pytest
import torch

from gazepipe.models.registry import build
from gazepipe.profiling.cost import count

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def bench(repository):
    spec = importlib.util.spec_from_file_location("bench_gpu", repository / "benchmarks/bench_gpu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("arguments", [[], ["--small"]])
def test_without_a_gpu_it_says_so(bench, capsys, arguments):
    assert bench.main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("taught", [False, True])
def test_a_case_is_trained_from_a_store(bench, tmp_path, taught):
    case = bench.Case("resnet18", 0.125, (1, 36, 48), 8, taught, images=16, epochs=1)
    store = bench.written(tmp_path / "random.h5", case.size, case.images)
    found = bench.trained(case, store, CPU)
    assert found["images_per_s"] > 0


def test_what_a_case_costs(bench):
    case = bench.Case("resnet18", 0.125, (1, 36, 48), 8)
    macs, numbers = bench.cost(case)
    assert macs == count(build({"arch": "resnet18", "width": 0.125, "input": [1, 36, 48]}), (1, 36, 48))["macs"]
    # The first layer alone puts out 8 maps of half the size.
    assert numbers > 8 * 18 * 24


def test_ceilings_are_of_this_machine(bench):
    found = bench.ceilings(CPU, side=64, numbers=1 << 16)
    assert found["matmul"] > 0
    assert found["bandwidth"] > 0


def test_what_is_measured_covers_the_goal_and_the_papers_networks(bench):
    chosen = bench.cases()
    assert any(case.arch == "resnet18" and case.size == (1, 224, 224) and case.batch == 256 for case in chosen)
    paper = {(case.arch, case.taught) for case in chosen if case.batch == 128}
    assert paper == {(arch, taught) for arch in ("resnet10_wide", "resnet18", "simvit") for taught in (False, True)}
