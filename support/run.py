"""A run: where it is, what it leaves on the disk, how it goes on after an interruption.

    runs/NAME/config.json            the options
    runs/NAME/data.json              a hash of the questions and answers
    runs/NAME/metrics.jsonl          one line a step
    runs/NAME/checkpoint-STEP-STAGE/ model, optimizer and state: all that --resume needs
    runs/NAME/stage1/ ...            a Hugging Face folder for each finished stage (and stepN/, with
                                     --snapshot-every)
    runs/NAME/samples-before.json .. what the model wrote before, and after each stage (samples.py)
    runs/NAME/summary.json           the measurements before and after
    runs/NAME/report.html            all of it to look at (page.py), and figure.png

Every random stream of a run is keyed by (seed, step), so a checkpoint holds no generator state, and
what is killed between two checkpoints is done again from the first of them on, alike.
"""

import json
import math
import os
import re
import signal
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Annotated

import torch
from safetensors.torch import save_file
from tqdm import tqdm

from support import ranks
from support.cli import say_above
from support.disk import append_line, flush, put, remove, to_json, write_manifest
from support.model import default_device, is_finite, load_model
from support.offload import loss_scale, make_optimizer, recompute_layers
from support.report import find_delay, find_trouble, format_sample, nothing_right, step_line
from support.samples import write_samples

BAD_STEPS = 3  # in a row, without one finite update: a run stops
STOPPING = b"\nstopping after this step or evaluation, with a checkpoint; once more stops at once\n"
HANG_UP = getattr(signal, "SIGHUP", None)  # not on Windows
WRONG_STEPS = 20  # in a row, without one right answer: the user is told
SAMPLE_EVERY = 25  # steps of a stage between samples that are shown
Count = Annotated[int, 0, math.inf]
Share = Annotated[float, 0, 1]


@dataclass
class State:
    """Where a run is; with the model and the optimizer, all that a checkpoint needs."""

    stage: Count = 0  # index of the current stage
    stage_step: Count = 0  # steps done in it
    step: Count = 0  # steps done in all
    cursor: Count = 0  # prompts drawn so far
    generated_tokens: Count = 0  # by training rollouts
    flops: Count = 0  # of sampling and training them
    seconds: float = 0.0
    # Of the current stage, one share each validation; and of each step since the last one.
    truncated: list[Share] = field(default_factory=list)
    accuracy: list[Share] = field(default_factory=list)
    since_validation: list[Share] = field(default_factory=list)
    bad_steps: Count = 0  # since the last update, whose loss or gradient was not finite
    evaluations: list[dict] = field(default_factory=list)  # before training, and after each stage
    # Newer than some checkpoints: steps since the last right answer; the type of the weights as
    # they came, in which the stages' models are saved.
    wrong_steps: Count = field(default=0, metadata={"newer": True})
    dtype: str = field(default="", metadata={"newer": True})

    def next_stage(self):
        self.stage += 1
        self.stage_step = 0
        self.truncated = []
        self.accuracy = []
        self.since_validation = []


class Run:
    """Everything a step needs: options, state, model, optimizer, problems; and its folder."""

    def __init__(self, config, folder, source, data, state=None):
        self.config = config
        self.folder = folder
        self.source = source  # where the model was loaded from
        self.state = state or State()
        device = config.device or default_device()
        self.model, self.tokenizer, self.stop_ids = load_model(source, device, config.offload)
        if config.recompute == "yes":
            recompute_layers(self.model)
        self.state.dtype = self.state.dtype or self.model.file_dtype
        self.optimizer = make_optimizer(self.model, device, config)
        self.data = data  # as it came
        self.train = data.train
        self.validation = data.validation
        self.test = data.test
        self.started = time.monotonic() - self.state.seconds
        self.plan = []  # lines on it, for the user
        self.asked_to_stop = False
        self.stopped = False  # what the ranks have agreed on
        self.step_seconds = []  # of the stage
        self.lock = None
        self.bar = None

    def seconds(self):
        """Time spent on the run, interruptions not counted."""
        return time.monotonic() - self.started

    def ask_to_stop(self):
        """Asks the run to end after its step or evaluation; False if it was asked before."""
        if self.asked_to_stop:
            return False
        self.asked_to_stop = True
        with suppress(OSError):  # the terminal may be gone, or whoever reads
            # Not print: a signal may come in the middle of one, which cannot be entered twice.
            os.write(2, STOPPING)
        return True

    def stops(self):
        """Whether rank 0 was asked to stop: all ranks know it at the same step, or none does."""
        self.stopped = ranks.tell(self.asked_to_stop)
        return self.stopped

    # What a step leaves

    def progress(self, stage):
        """The stage's bar, which `record` moves on: use it in a `with`."""
        self.step_seconds = []
        self.bar = tqdm(
            total=self.config.steps or self.config.stage_steps,
            initial=self.state.stage_step,
            desc=f"{stage.name} (budget {stage.budget})",
            unit="step",
            mininterval=1,
        )
        return self.bar

    def record(self, stage, groups, metrics):
        """After each step: its line of metrics, what the user sees, and what is due on the disk.

        Raises ValueError after BAD_STEPS steps in a row whose updates were not finite.
        """
        state = self.state
        line = {"step": state.step, "stage": stage.name, "stage_step": state.stage_step}
        line |= {"budget": stage.budget, "thinking": stage.thinking, **metrics}
        line |= {"generated_tokens": state.generated_tokens, "flops": state.flops}
        self.log(line | {"seconds": self.seconds()})
        self.show(groups, metrics)
        self.stop_if_bad(metrics)
        if self.config.snapshot_every and state.step % self.config.snapshot_every == 0:
            self.save_model(f"step{state.step}")
        if state.stage_step % self.config.save_every == 0:
            self.save_checkpoint()

    @ranks.rank_0_alone
    def log(self, line):
        """Appends one step's metrics to metrics.jsonl."""
        path = self.folder / "metrics.jsonl"
        text = json.dumps(line, allow_nan=False)
        try:
            append_line(path, text)
        except OSError as error:
            raise OSError(f"cannot write {path} ({error.strerror}). Free space there.") from None

    def show(self, groups, metrics):
        """Moves the bar on, says what went wrong in the step, and now and then shows a sample."""
        state = self.state
        self.bar.update(1)
        self.bar.set_postfix_str(step_line(metrics))
        delay = find_delay(metrics["step_seconds"], self.step_seconds)
        self.step_seconds.append(metrics["step_seconds"])
        for trouble in filter(None, (find_trouble(metrics), delay)):
            self.say(f"step {state.step}: {trouble}")
        state.wrong_steps = 0 if metrics["accuracy"] else state.wrong_steps + 1
        if state.wrong_steps and state.wrong_steps % WRONG_STEPS == 0:
            self.say(f"step {state.step}: {nothing_right(state.wrong_steps, metrics)}")
        if state.stage_step % SAMPLE_EVERY == 1:
            self.say(
                f"\nstep {state.step}, a sample {format_sample(self.tokenizer, groups[0][0])}\n"
            )

    @ranks.rank_0_alone
    def keep_samples(self, name, shown):
        """Writes what report.html shows of an evaluation; without it, the run is as good."""
        try:
            write_samples(self.folder, name, shown)
        except OSError as error:
            self.say(f"the report will show no responses of {name}: {error}")

    def say(self, text):
        """Prints a line above the bar."""
        say_above(text)

    def stop_if_bad(self, metrics):
        state = self.state
        if metrics["updates"]:
            state.bad_steps = 0
        elif metrics["skipped"]:
            state.bad_steps += 1
        if state.bad_steps == BAD_STEPS:
            state.bad_steps = 0  # whoever resumes the run has changed something
            self.save_checkpoint()
            raise ValueError(
                f"in {BAD_STEPS} steps in a row the loss or its gradient was not finite. The "
                "weights are those before these steps. Lower --lr and go on."
            )

    # Models and checkpoints

    @ranks.rank_0_alone
    def save_model(self, name):
        """Writes the model as it is now into the run's folder, in the type that it came in."""
        path = self.folder / name
        put(path, lambda folder: save_model(self, folder, self.state.dtype), again=True)

    @ranks.rank_0_alone
    def save_checkpoint(self):
        """Saves all that --resume needs; then removes the checkpoint before."""
        if not is_finite(self.model):
            self.say("no checkpoint was written, since the weights are not finite.")
            return
        self.state.seconds = self.seconds()
        # Two of one name never differ, so none is ever replaced: a step changes the first number, a
        # stage's end the second.
        final = self.folder / f"checkpoint-{self.state.step}-{self.state.stage}"
        if not final.exists():
            if (metrics := self.folder / "metrics.jsonl").exists():
                flush(metrics)
            put(final, self.fill_checkpoint)
        for old in checkpoints(self.folder):
            if old != final:
                remove(old)

    def fill_checkpoint(self, folder):
        save_model(self, folder)
        save_optimizer(self, folder / "optimizer.safetensors")
        (folder / "state.json").write_bytes(to_json(asdict(self.state)))
        write_manifest(folder)


def save_model(run, folder, dtype="float32"):
    """Writes an ordinary Hugging Face folder of a type such as bfloat16.

    Weights are taken from the optimizer, which has them in fp32 (offload.py).
    """
    whole = zip(run.model.parameters(), run.optimizer.param_groups[0]["params"])
    cast = {weight.data_ptr(): value.to(getattr(torch, dtype)) for weight, value in whole}
    weights = {}
    for name, value in run.model.state_dict().items():
        weights[name] = cast.get(value.data_ptr(), value)  # tied weights stay one
    run.model.save_pretrained(folder, state_dict=weights)
    run.tokenizer.save_pretrained(folder)
    path = folder / "config.json"  # which tells the type of the model, not of what was written
    path.write_text(json.dumps(json.loads(path.read_text()) | {"dtype": dtype}, indent=2))


def save_optimizer(run, path):
    """The state of each parameter, by its name. Learning rate and such are the run's options."""
    tensors = {}
    parameters = run.optimizer.param_groups[0]["params"]
    for (name, _), parameter in zip(run.model.named_parameters(), parameters):
        state = run.optimizer.state.get(parameter, {})
        tensors |= {f"{name}/{key}": value for key, value in state.items()}
    if loss_scale(run.optimizer) > 1:
        tensors["loss_scale"] = torch.tensor(run.optimizer.loss_scale)
    save_file(tensors, path)


def checkpoints(folder):
    """The checkpoints in a run's folder, oldest first: names that we write, matched whole.

    Whatever else is there (checkpoint-2-0-backup, checkpoint-best) is the user's.
    """
    found = []
    for path in folder.iterdir():
        numbers = re.fullmatch(r"checkpoint-(0|[1-9]\d*)-(0|[1-9]\d*)", path.name, re.ASCII)
        if numbers and path.is_dir():
            found.append((int(numbers[1]), int(numbers[2]), path))
    return [path for _, _, path in sorted(found)]


@contextmanager
def signals(ask_to_stop):
    """Within it, Ctrl-C and SIGTERM call ask_to_stop(), and stop at once where that is not True.

    It returns None where there is nothing yet to be asked, False where it was asked before. So does
    a terminal that closes (SIGHUP, which may come twice), unless it is to be ignored, as nohup has
    it.
    """

    def answer(number, _):
        asked = ask_to_stop()
        if asked is None or (not asked and number != HANG_UP):
            raise KeyboardInterrupt("stopped at once.")

    numbers = [signal.SIGINT, signal.SIGTERM]
    if HANG_UP and signal.getsignal(HANG_UP) is not signal.SIG_IGN:
        numbers.append(HANG_UP)
    before = {number: signal.signal(number, answer) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
