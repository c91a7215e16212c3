import re
from importlib import metadata

import pytest

from thinwire.cluster import doctor


@pytest.mark.parametrize(
    ("installed", "status"),
    [("0.10", "ok"), ("0.10.2", "ok"), ("0.12.9", "ok"), ("0.9.9", "problem"), ("0.13", "warning"), (None, "problem")],
)
def test_versions_against_the_range(installed, status):
    check = doctor.check_version("jax", installed)
    assert check.status == status
    assert bool(check.advice) == (status != "ok")


def test_lower_bounds_are_those_of_the_package():
    needs = dict(re.findall(r"([\w-]+)>=([\d.]+)", " ".join(metadata.requires("thinwire") or [])))
    for name in ("jax", "flax", "orbax-checkpoint"):
        assert doctor.SUPPORTED[name][0] == needs[name]


@pytest.mark.parametrize(
    ("text", "numbers"), [("0.12.8", (0, 12, 8)), ("1.2rc3", (1, 2)), ("2.1.0+cpu", (2, 1, 0)), ("x", ())]
)
def test_version_numbers(text, numbers):
    assert doctor._numbers(text) == numbers


@pytest.mark.parametrize(
    ("addresses", "status"),
    [
        (["192.168.1.5"], "ok"),
        (["127.0.1.1"], "warning"),
        (["::1", "192.168.1.5"], "warning"),
        (["fe80::1%eth0"], "ok"),
        ([], "warning"),
    ],
)
def test_a_host_name_on_loopback_is_explained(addresses, status):
    check = doctor.check_hostname(lambda name: addresses)
    assert check.status == status
    assert ("/etc/hosts" in check.advice) == (status == "warning")


def test_a_host_name_that_does_not_resolve():
    def fail(name):
        raise OSError("no")

    assert doctor.check_hostname(fail).status == "warning"


@pytest.mark.parametrize(("available", "status"), [(5e8, "problem"), (2e9, "warning"), (8e9, "ok"), (None, "ok")])
def test_memory(available, status):
    assert doctor.check_memory(available).status == status


def test_cache_writable(tmp_path, monkeypatch):
    monkeypatch.setenv("THINWIRE_CACHE", str(tmp_path / "c"))
    check = doctor.check_cache()
    assert check.status in ("ok", "warning")
    assert str(tmp_path) in check.found


def test_cache_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("THINWIRE_CACHE", str(tmp_path / "file" / "c"))
    check = doctor.check_cache()
    assert check.status == "problem"
    assert "THINWIRE_CACHE" in check.advice


def test_cpu_quota_below_the_cores_is_a_warning(monkeypatch):
    monkeypatch.setattr(doctor, "_cpu_quota", lambda: 0.5)
    assert doctor.check_cores().status == "warning"
    monkeypatch.setattr(doctor, "_cpu_quota", lambda: None)
    assert doctor.check_cores().status == "ok"


def test_missing_packages(monkeypatch):
    monkeypatch.setattr(doctor, "_installed", lambda name: None)
    assert doctor.check_pip().status == "warning"
    assert doctor.check_optional("huggingface_hub").status == "ok"


def test_devices_and_speed_are_measured():
    assert doctor.check_devices().status == "ok"
    assert doctor.gemm_flops_per_second(64, 0.01) > 0
    assert doctor.check_speed(64, 0.01).name == "speed"


def test_a_broken_device_is_a_problem(monkeypatch):
    import jax

    def broken():
        raise RuntimeError("Unable to\ninitialize backend")

    monkeypatch.setattr(jax, "devices", broken)
    check = doctor.check_devices()
    assert check.status == "problem"
    assert "\n" not in check.found
