from __future__ import annotations

import torch

from mistline.train.device import cpu_threads, pick_device


def test_no_gpu_granted_means_cpu():
    assert pick_device(0) == "cpu"


def test_a_granted_gpu_is_used_only_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device(1) == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device(1) == "cpu"


def test_a_scheduler_s_gpu_that_torch_cannot_use_is_a_warning(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert pick_device(1) == "cpu"
    assert [(record.levelname, "CUDA_VISIBLE_DEVICES=1" in record.message) for record in caplog.records] == [
        ("WARNING", True)
    ]
    caplog.clear()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    with caplog.at_level("INFO"):
        assert pick_device(1) == "cpu"
    assert [record.levelname for record in caplog.records] == ["INFO"]


def test_threads_are_given_back():
    before = torch.get_num_threads()
    with cpu_threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
