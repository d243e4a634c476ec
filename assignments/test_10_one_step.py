"""Grading tests of assignment 10: one step of TFPI.

Sampler and update are stand-ins that note down what they are asked for.
"""

from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import torch
from checking import check
from transformers import AutoTokenizer

import tfpi
from problems import load_split, take_problems
from rollout import Rollout, stream_seed
from support.config import PRESETS, Config
from support.run import State
from thinkfree import EMPTY_BLOCK, render_all

TINY = torch.nn.Linear(3, 2)  # eight weights


@cache
def tokenizer():
    return AutoTokenizer.from_pretrained(PRESETS["small"]["model"])


@cache
def problems():
    """Fifty, no two of which have the same answer."""
    return [replace(p, answer=str(100 + i)) for i, p in enumerate(load_split("train")[:50])]


def some_run(rng):
    """A run with settings of its own, in the midst of its second stage."""
    config = Config(
        instruction=f"Reason well, {rng.integers(100)} times.",
        prompts=3,
        group=4,
        draws=4,
        seed=int(rng.integers(1, 1000)),
        temperature=float(rng.uniform(0.6, 0.9)),
        slots=int(rng.integers(20, 60)),
        budgets="70,90,120",
        full_budget=500,
    )
    state = State()
    state.step = int(rng.integers(10, 30))
    state.stage = 1
    state.stage_step = 0
    state.cursor = int(rng.integers(0, 9))
    parts = {"train": problems(), "tokenizer": tokenizer(), "stop_ids": {1, 2}}
    return SimpleNamespace(config=config, state=state, model=TINY, optimizer="Adam", **parts)


def some_stage(rng, thinking=False):
    return tfpi.Stage("stage2", thinking, int(rng.integers(130, 200)))


def slow_questions(run, first):
    """The questions of one draw."""
    drawn = take_problems(problems(), first, run.config.prompts, run.config.seed)
    return [problem.problem for problem in drawn]


class Asked:
    """Stands for the sampler: notes requests, and answers with the responses that are planned.

    plan: of each draw, of each of its groups, which responses are right.
    """

    def __init__(self, run, plan):
        self.run = run
        self.plan = plan
        self.requests = []
        self.updates = []

    def sample(self, run, problems, thinking, **options):
        plan = self.plan[len(self.requests) % len(self.plan)]
        asked = {"problems": [p.problem for p in problems], "thinking": bool(thinking)}
        self.requests.append(asked | options)
        prompts = render_all(tokenizer(), problems, run.config.instruction, thinking)
        groups = []
        for prompt, rights in zip(prompts, plan):
            name = len(self.requests) * 100 + len(groups) * 10
            groups.append([self.response(prompt, name + i, r) for i, r in enumerate(rights)])
        return groups

    def response(self, prompt, name, right):
        ids = tokenizer()(prompt, add_special_tokens=False)["input_ids"]
        made = Rollout(ids, [5] * (1 + name % 3) + [2], [-1.0] * (2 + name % 3), name % 4 > 0)
        made.text = str(name)
        made.correct = bool(right)
        made.reward = float(right)
        return made

    def update(self, model, optimizer, rollouts, config, budget=None):
        tails = [tokenizer().decode(list(r.prompt_ids))[-len(EMPTY_BLOCK) :] for r in rollouts]
        noted = {"advantages": [[r.text, r.advantage] for r in rollouts], "tails": tails}
        noted["temperature"] = config.temperature
        noted["rest"] = [optimizer, budget]
        self.updates.append(noted)
        return {"loss": 0.25, "updates": 1}


@contextmanager
def stand_ins(asked):
    """Within it, tfpi has the stand-ins for sampler and update."""
    new = {"sample_run": asked.sample, "update": asked.update}
    before = {name: getattr(tfpi, name) for name in new}
    for name, value in new.items():
        setattr(tfpi, name, value)
    try:
        yield asked
    finally:
        for name, value in before.items():
            setattr(tfpi, name, value)


RIGHT = [[1, 0, 0, 0]] * 3
PLAN = [
    [[1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]],
    [[0, 0, 0, 0], [1, 1, 0, 1], [1, 1, 1, 1]],
    [[0, 1, 0, 1], [1, 1, 1, 0], [0, 0, 0, 0]],
    [[1, 0, 1, 0]] * 3,
]


def sampled(run, stage, draw=0):
    """What the student's sample_groups asks the sampler for, and what it returns."""
    with stand_ins(Asked(run, [RIGHT])) as asked:
        groups = tfpi.sample_groups(run, stage, draw)
    return (asked.requests or [{}])[0], groups


def stepped(run, stage):
    """What the student's train_step did, and returned."""
    with stand_ins(Asked(run, PLAN)) as asked:
        groups, metrics = tfpi.train_step(run, stage)
    return asked, groups, metrics


def slow_advantages():
    """Of the three groups of PLAN that are kept: text and advantage of each response."""
    found = []
    for name, rights in ((110, PLAN[0][1]), (210, PLAN[1][1]), (300, PLAN[2][0])):
        mean = sum(rights) / 4
        std = (sum((r - mean) ** 2 for r in rights) / 3) ** 0.5
        found += [[str(name + i), (r - mean) / std] for i, r in enumerate(rights)]
    return found


def test_the_prompts_are_thinking_free(rng):
    """sample_groups asks for responses to x', of the problems whose turn it is"""
    run, stage = some_run(rng), some_stage(rng)
    first = run.state.cursor
    asked, groups = sampled(run, stage)
    check("the problems", asked.get("problems"), slow_questions(run, first))
    check("whether prompts are x", asked.get("thinking"), False)
    check("how many groups it returns, of how many responses", list(map(len, groups)), [4, 4, 4])


def test_a_stage_with_thinking(rng):
    """The same step is RL with thinking in a stage that thinks: responses to x"""
    run, stage = some_run(rng), some_stage(rng, thinking=True)
    first = run.state.cursor
    asked, _ = sampled(run, stage)
    check("the problems", asked.get("problems"), slow_questions(run, first))
    check("whether prompts are x", asked.get("thinking"), True)


def test_what_the_sampler_is_told(rng):
    """Responses a prompt, and the stage's budget"""
    run, stage = some_run(rng), some_stage(rng)
    asked, _ = sampled(run, stage)
    check("samples", asked.get("samples"), run.config.group)
    check("budget", asked.get("budget"), stage.budget)


def test_random_streams(rng):
    """Each run, step and draw has a stream of its own"""
    for seed, step, draw in ((7, 3, 0), (7, 3, 2), (7, 4, 1), (8, 3, 1)):
        run = some_run(rng)
        run.config.seed = seed
        run.state.step = step
        asked, _ = sampled(run, some_stage(rng), draw)
        what = f"the seed in step {step}, draw {draw}, of the run with seed {seed}"
        check(what, asked.get("seed"), stream_seed(seed, step, 2 * draw))


def test_problems_in_turn(rng):
    """The next draw takes the next problems, in the order of the run's seed"""
    run, stage = some_run(rng), some_stage(rng)
    first = run.state.cursor
    for draw in range(3):
        asked, _ = sampled(run, stage, draw)
        check(f"the problems of draw {draw}", asked.get("problems"), slow_questions(run, first))
        first += run.config.prompts
        check(f"the cursor after draw {draw}", run.state.cursor, first)


def test_what_is_learnt_from(rng):
    """train_step draws, keeps what is not flat, and updates with each group's own advantages"""
    run, stage = some_run(rng), some_stage(rng)
    asked, groups, _ = stepped(run, stage)
    check("how often it draws", len(asked.requests), 3)
    check("how often it updates", len(asked.updates), 1)
    noted = (asked.updates or [{}])[0]
    check("the responses and their advantages", noted.get("advantages"), slow_advantages())
    check("how their prompts end: on x', too", noted.get("tails"), [EMPTY_BLOCK] * 12)
    check("the temperature of the ratio", noted.get("temperature"), run.config.temperature)
    check("the optimizer and the budget", noted.get("rest"), ["Adam", stage.budget])
    first = [group[0].text for group in groups]
    check("all groups drawn", first, [str(100 * d + 10 * g) for d in (1, 2, 3) for g in range(3)])


def test_what_is_noted_down(rng):
    """Metrics of all that was drawn, and of the update; the step is counted"""
    run, stage = some_run(rng), some_stage(rng)
    step = run.state.step
    _, groups, metrics = stepped(run, stage)
    check(
        "the step of the run, and of the stage",
        [run.state.step - step, run.state.stage_step],
        [1, 1],
    )
    tokens = sum(
        2 + (100 * d + 10 * g + i) % 3 for d in (1, 2, 3) for g in range(3) for i in range(4)
    )
    check("the tokens generated", run.state.generated_tokens, tokens)
    rewards = [r for draw in PLAN[:3] for group in draw for r in group]
    check("the mean reward", metrics.get("reward"), sum(rewards) / len(rewards))
    check("the share of flat groups", metrics.get("flat_groups"), 5 / 9)
    check("the loss, of update", metrics.get("loss"), 0.25)
