"""The command line as a user meets it: its own process, its exit code, its words."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from minirl.core import checkpoint
from minirl.papers import PAPERS


def minirl(*args, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "minirl.cli", *args], capture_output=True, text=True, cwd=cwd, timeout=120
    )


def test_list_shows_all_papers_and_their_status():
    out = minirl("list")
    ready = sum(p.status == "ready" for p in PAPERS)
    assert out.returncode == 0 and out.stdout.count(" ready ") == ready and out.stdout.count(" planned ") == 53 - ready
    catalogue = json.loads(minirl("list", "--json").stdout)
    assert len(catalogue) == 53 and catalogue[0]["slug"] == "sac"


@pytest.mark.parametrize("args", [("--help",), ("list", "--help"), ("train", "--help"), ("train", "sac", "--help"),
                                  ("reproduce", "--help"), ("grade", "--help"), ("doctor", "--help")])  # fmt: skip
def test_every_command_explains_itself(args):
    out = minirl(*args)
    assert out.returncode == 0 and len(out.stdout) > 80 and "Traceback" not in out.stderr


@pytest.mark.parametrize(
    "args, word",
    [
        (("train", "sacc"), "did you mean sac"),
        (("train", "mdpo"), "planned"),
        (("reproduce", "mdpo"), "planned"),
        (("reproduce", "dsact"), "did you mean dsac_t"),
        (("train", "sac", "--env-id", "CartPole-v1"), "Discrete(2)"),
        (("train", "sac", "--gamma", "1.5"), "gamma"),
        (("trian",), "no command 'trian'"),
        (("train", "sac", "--steps", "0"), "steps must be at least 1"),
    ],
)
def test_mistakes_get_a_sentence_and_no_traceback(args, word, tmp_path):
    out = minirl(*args, cwd=tmp_path)
    assert out.returncode != 0 and word in out.stderr and "Traceback" not in out.stderr
    assert list(tmp_path.glob("*.safetensors")) == []


SMALL = ("--hidden", "8", "8", "--warmup", "50", "--batch-size", "16", "--eval-every", "200", "--eval-episodes", "2")


@pytest.mark.slow
@pytest.mark.parametrize("slug", [p.slug for p in PAPERS if p.status == "ready"])
def test_every_ready_paper_can_be_trained(slug):
    """Its options are listed; the amount of training is the one argument of `learn`, whatever its name."""
    out = minirl("train", slug, "--help")
    assert out.returncode == 0 and "--steps" in out.stdout and "--seed" in out.stdout, out.stderr


def test_train_saves_a_checkpoint_that_acts(tmp_path):
    out = minirl("train", "sac", "--steps", "200", *SMALL, cwd=tmp_path)
    assert out.returncode == 0 and "finished after 200 steps" in out.stdout and "100%" in out.stderr
    agent = checkpoint.load(tmp_path / "sac.safetensors")
    assert agent.config.hidden == (8, 8) and agent.act(np.zeros((2, 3))).shape == (2, 1)


@pytest.mark.slow
def test_ctrl_c_saves_and_says_where(tmp_path):
    command = [sys.executable, "-m", "minirl.cli", "train", "sac", "--steps", "1000000", *SMALL]
    with (tmp_path / "bar.txt").open("w") as bar:
        # A job in the background inherits a SIGINT that is ignored; this one must hear it wherever the tests run.
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=bar,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    deadline = time.monotonic() + 60
    while "return" not in (tmp_path / "bar.txt").read_text() and time.monotonic() < deadline:  # training has begun
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and str(tmp_path / "sac.safetensors") in out and "interrupted after" in out
    assert checkpoint.load(tmp_path / "sac.safetensors").config.hidden == (8, 8)


def test_doctor_reports_every_part():
    out = minirl("doctor")
    for word in ("Python", "torch", "browser", "sac results", "dsac_t results"):
        assert word in out.stdout
    assert out.returncode == int("PROBLEM" in out.stdout)
