import os
import subprocess
import sys
import types

import pytest

from lab.bench import environment, telemetry
from lab.bench.affinity import Pin, can_pin
from lab.bench.telemetry import Telemetry
from lab.engine.device import Device
from tests import fakes


class FakeNvml(types.ModuleType):
    """NVML with one card that has no power meter."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self):
        super().__init__("pynvml")
        self.open = 0
        self.asked = []

    def nvmlInit(self):
        self.open += 1

    def nvmlShutdown(self):
        self.open -= 1

    def nvmlDeviceGetHandleByIndex(self, index):
        self.asked.append(index)
        return f"card {index}"

    def nvmlDeviceGetHandleByUUID(self, uuid):
        self.asked.append(uuid)
        return uuid

    def nvmlDeviceGetCount(self):
        return 2

    def nvmlSystemGetDriverVersion(self):
        return b"580.1"

    def nvmlDeviceGetClockInfo(self, _card, kind):
        return {1: 1980, 2: 2619}[kind]

    def nvmlDeviceGetTemperature(self, _card, _kind):
        return 45

    def nvmlDeviceGetPowerUsage(self, _card):
        raise RuntimeError("Not Supported")

    def nvmlDeviceGetCurrentClocksEventReasons(self, _card):
        return 4


@pytest.fixture
def nvml(monkeypatch):
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return fake


def test_a_card_is_read_and_what_it_does_not_tell_is_none(nvml):
    look = Telemetry("cuda")
    reading = look.read()
    assert (reading.sm_mhz, reading.memory_mhz, reading.temperature_c, reading.power_w, reading.throttle) == (1980, 2619, 45, None, 4)
    assert (look.driver, look.cards) == ("580.1", 2)
    look.close()
    assert nvml.open == 0
    assert look.read().sm_mhz is None


def test_a_processor_has_no_clocks_and_a_load():
    reading = Telemetry("cpu").read()
    assert reading.sm_mhz is reading.power_w is reading.throttle is None
    assert reading.load >= 0
    assert 0 <= reading.busy_percent <= 100


def test_a_machine_without_nvml_is_measured_without_clocks(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    look = Telemetry("cuda")
    assert look.read().sm_mhz is None
    assert (look.driver, look.cards) == ("", 1)


@pytest.mark.parametrize(("visible", "asked"), [("3,1", 3), ("GPU-abc", "GPU-abc"), ("", 0)])
def test_the_card_that_is_read_is_the_one_that_renders(nvml, monkeypatch, visible, asked):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    Telemetry("cuda")
    assert nvml.asked == [asked]


# --- pinning


@pytest.mark.skipif(not can_pin(), reason="this system does not let a process choose its cores, or has one core only")
def test_processes_are_moved_to_one_core_and_this_one_keeps_out_of_their_way():
    before = os.sched_getaffinity(0)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"]) as child:
        pin = Pin()
        core = pin.move([child.pid])
        try:
            assert os.sched_getaffinity(child.pid) == {core}
            assert os.sched_getaffinity(0) == before - {core}
        finally:
            pin.release()
            child.kill()
    assert os.sched_getaffinity(0) == before


@pytest.mark.skipif(not can_pin(), reason="this system does not let a process choose its cores, or has one core only")
def test_two_cards_use_cores_of_their_own():
    first, second = Pin(0, 2), Pin(1, 2)
    assert not set(first._cores) & set(second._cores)
    assert set(first._cores) | set(second._cores) == os.sched_getaffinity(0)


@pytest.mark.skipif(not can_pin(), reason="this system does not let a process choose its cores, or has one core only")
def test_a_process_that_is_gone_is_no_error():
    pin = Pin()
    pin.move([2**22 + 1])
    pin.release()


# --- the environment


def test_the_environment_says_what_figures_depend_on(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("SECRET_TOKEN", "hidden")
    found = environment.describe_machine(fakes.CPU)
    assert found.packages["torch"]
    assert found.packages["f5-tts"] == "1.1.22"
    assert found.variables["OMP_NUM_THREADS"] == "2"
    assert "hidden" not in found.model_dump_json()
    assert found.cores >= 1
    assert found.machine.endswith(found.cpu)


def test_a_card_is_named_first():
    card = Device("cuda", "NVIDIA H100", "2.13.0", (9, 0), 79.6, cuda="13.0", cudnn="91000")
    found = environment.describe_machine(card, driver="580.1")
    assert found.machine.startswith("NVIDIA H100 · ")
    assert (found.capability, found.driver, found.cuda) == ("9.0", "580.1", "13.0")


def test_a_copy_without_git_may_say_its_commit(monkeypatch):
    monkeypatch.setenv("LAB_COMMIT", "abc")
    assert environment.commit() == "abc"


def test_telemetry_is_what_a_run_records():
    names = set(telemetry.Reading.__dataclass_fields__)
    from lab.bench.record import Samples

    assert names <= set(Samples.model_fields)
