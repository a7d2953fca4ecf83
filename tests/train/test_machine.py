"""Devices and precision are chosen by measuring, and said."""

import pytest
import torch

from instar.config import InputError
from instar.train import machine

CPU = torch.device("cpu")


@pytest.mark.parametrize(("gain", "wanted"), [(4.0, torch.bfloat16), (1.1, torch.float32), (0.2, torch.float32)])
def test_auto_takes_bf16_where_it_is_fast(monkeypatch, gain, wanted):
    """A CPU that only emulates bf16 trains in fp32."""
    monkeypatch.setattr(machine, "bf16_gain", lambda: gain)
    assert machine.pick_dtype("auto", CPU) == wanted


def test_a_named_dtype_is_taken():
    """What the user names is not measured."""
    assert machine.pick_dtype("fp32", CPU) == torch.float32
    assert machine.pick_dtype("bf16", CPU) == torch.bfloat16


def test_fp16_is_refused_with_the_remedy():
    """Small gradients vanish in fp16."""
    with pytest.raises(InputError, match="--dtype bf16"):
        machine.pick_dtype("fp16", CPU)


def test_the_fast_fp32_path_keeps_fp32_accuracy():
    """Whatever was chosen, an fp32 product is right to 1e-5: on CPUs with AMX the fast path is not."""
    before = torch.get_float32_matmul_precision()
    a, b = torch.randn(2, 300, 300, generator=torch.Generator().manual_seed(4))
    right = a.double() @ b.double()
    with machine.fast_fp32(CPU):
        found = (a @ b).double()
    assert float((found - right).norm() / right.norm()) < 1e-5
    assert torch.get_float32_matmul_precision() == before


def test_an_absent_device_is_refused():
    """A device that is not here or not known is an error with the remedy."""
    with pytest.raises(InputError, match="unknown device cpuu; did you mean cpu"):
        machine.pick_device("cpuu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="wanted --device cpu or auto"):
            machine.pick_device("cuda")
        assert machine.pick_device("auto").type in ("cpu", "mps")


def test_the_probe_measures_a_ratio():
    """The gain is a positive number and costs well under a second."""
    assert machine.bf16_gain(size=64, budget=0.01) > 0


def test_hardware_is_described():
    """The record names the processor and how many cores it has."""
    record = machine.describe(CPU)
    assert record["cpu"]
    assert record["cores"] >= 1
    assert record["device"] == "cpu"
