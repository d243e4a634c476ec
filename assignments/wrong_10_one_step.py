"""Known wrong answers to assignment 10. See wrong.py."""

HINTS = {
    "stages sample at the full budget": (
        "You sample at the full budget. Each stage has its own: that is what the stages are for."
    ),
    "the new budget is applied a step late": (
        "In a stage's first step you still sample with the budget of the stage before."
    ),
    "every step has the same stream": (
        "Each step has the same random numbers: put the run's step into the seed."
    ),
    "all draws of a step have the same stream": (
        "The draws of a step have the same random numbers: put the draw into the seed."
    ),
    "the run's seed is ignored in sampling": (
        "Runs with other seeds would sample alike: put the run's seed into the stream's."
    ),
    "each step draws the same prompts": (
        "The cursor does not move on, so each draw has the same problems."
    ),
    "RL with thinking samples without": (
        "In a stage that thinks the prompt is x, not x'. The stage says which."
    ),
    "the order of the problems ignores the seed": (
        "The order of the problems goes by the run's seed: pass it to take_problems."
    ),
    "the trainer does not know the sampler's temperature": (
        "The update gets another config than the run's: its ratio is at another temperature."
    ),
    "prompts are drawn once, whatever --draws says": (
        "You allow one draw. config.draws says how many there may be."
    ),
}

SKIPPED = {}

UPDATE = "update(run.model, run.optimizer, rollouts, config, stage.budget)"
KEPT = "rollouts = [rollout for group in kept for rollout in group]"

MORE = [
    ("zeros", "You sample nothing, so nothing can be learnt.", "sample_groups", "", "return []"),
    (
        "rollouts on x instead of x'",
        "You sample on x in every stage. TFPI's stages sample on x'.",
        "sample_groups",
        "problems, stage.thinking",
        "problems, True",
    ),
    (
        "thinking is the wrong way round",
        "stage.thinking means that the prompt is x; yours is x' then, and x otherwise.",
        "sample_groups",
        "problems, stage.thinking",
        "problems, not stage.thinking",
    ),
    (
        "one sample a prompt",
        "You ask for one response a prompt. A group has config.group of them.",
        "sample_groups",
        "config.group",
        "1",
    ),
    (
        "samples and prompts are swapped",
        "You ask for config.prompts responses a prompt. A group has config.group of them.",
        "sample_groups",
        '"samples": config.group',
        '"samples": config.prompts',
    ),
    (
        "the cursor moves by one",
        "The cursor moves on by one problem, not by those that were drawn.",
        "sample_groups",
        "run.state.cursor += len(problems)",
        "run.state.cursor += 1",
    ),
    (
        "the cursor moves before the problems are taken",
        "The cursor moves before the problems are taken: the first ones are never seen.",
        "sample_groups",
        "problems = take_problems(run.train, run.state.cursor, config.prompts, config.seed)\n"
        "run.state.cursor += len(problems)",
        "run.state.cursor += config.prompts\n"
        "problems = take_problems(run.train, run.state.cursor, config.prompts, config.seed)",
    ),
    (
        "the stream is that of an evaluation",
        "Odd numbers are the evaluations' streams. Even ones are for rollouts: 2 * draw.",
        "sample_groups",
        "2 * draw",
        "2 * draw + 1",
    ),
    (
        "the seed is the run's alone",
        "You sample with the run's seed itself: each step and draw has the same random numbers.",
        "sample_groups",
        "stream_seed(config.seed, run.state.step, 2 * draw)",
        "config.seed",
    ),
    (
        "the seed is a sum",
        "You add up seed and step, and forget the draw. stream_seed keeps the three apart.",
        "sample_groups",
        "stream_seed(config.seed, run.state.step, 2 * draw)",
        "config.seed + run.state.step",
    ),
    (
        "the seed is a sum",
        "You add up seed, step and draw: other sums are the same stream. stream_seed keeps them "
        "apart.",
        "sample_groups",
        "stream_seed(config.seed, run.state.step, 2 * draw)",
        "config.seed + run.state.step + 2 * draw",
    ),
    (
        "flat groups are learnt from",
        "You update with all groups that were drawn, flat ones included.",
        "train_step",
        "set_advantages(kept)",
        "kept = groups\nset_advantages(kept)",
    ),
    (
        "no advantages are set",
        "All advantages are 0: set_advantages is missing, or comes too late.",
        "train_step",
        "set_advantages(kept)",
        "pass",
    ),
    (
        "no advantages are set",
        "All advantages are 0: set_advantages comes behind the update.",
        "train_step",
        "losses = " + UPDATE,
        "for rollout in rollouts:\n    rollout.advantage = 0.0\n"
        f"losses = {UPDATE}\nset_advantages(kept)",
    ),
    (
        "all responses are one group",
        "You give set_advantages all responses as one group: each prompt has its own baseline.",
        "train_step",
        "set_advantages(kept)",
        "set_advantages([[rollout for group in kept for rollout in group]])",
    ),
    (
        "rewards are the advantages",
        "You use rewards as advantages: without a baseline.",
        "train_step",
        "set_advantages(kept)",
        "for group in kept:\n    for rollout in group:\n        rollout.advantage = rollout.reward",
    ),
    (
        "no dynamic sampling",
        "You sample once and keep flat groups: dynamic_sampling is missing.",
        "train_step",
        "kept, groups = dynamic_sampling(draw_groups, config.prompts, config.draws)",
        "kept = groups = draw_groups(0)",
    ),
    (
        "one update a group",
        "You update after each group. One update a step: its normaliser is the whole batch's.",
        "train_step",
        "losses = " + UPDATE,
        "for group in kept:\n"
        "    losses = update(run.model, run.optimizer, group, config, stage.budget)",
    ),
    (
        "no update",
        "Nothing is learnt: update is not called.",
        "train_step",
        UPDATE,
        '{"loss": 0.25}',
    ),
    (
        "the ratio is taken on x",
        "You sample on x' and train on x. Both are on x', or the ratio is not 1 at the beginning.",
        "train_step",
        KEPT,
        KEPT + "\nfor rollout in rollouts:\n"
        "    text = run.tokenizer.decode(list(rollout.prompt_ids)).removesuffix("
        '"<think>\\n\\n</think>\\n\\n")\n'
        "    rollout.prompt_ids = run.tokenizer.encode(text, add_special_tokens=False)",
    ),
    (
        "only right responses are learnt from",
        "You update with the right responses alone. The wrong ones teach, too.",
        "train_step",
        KEPT,
        "rollouts = [rollout for group in kept for rollout in group if rollout.correct]",
    ),
    (
        "truncated responses are not learnt from",
        "You leave truncated responses out of the update. They are wrong, and shall be rarer.",
        "train_step",
        KEPT,
        "rollouts = [rollout for group in kept for rollout in group if rollout.finished]",
    ),
    (
        "metrics are of what was kept",
        "Your metrics leave out flat groups. Describe all that was drawn, or accuracy is wrong.",
        "train_step",
        "count_step(run, groups, kept)",
        "count_step(run, groups, kept) | describe_groups(kept)",
    ),
    (
        "what was kept is returned",
        "You return the groups that were kept. All that were drawn are asked for.",
        "train_step",
        "return groups,",
        "return kept,",
    ),
    (
        "the step is not counted",
        "count_step is missing: the next step would have the same random numbers.",
        "train_step",
        "count_step(run, groups, kept)",
        "describe_groups(groups)",
    ),
    (
        "only what was kept is counted",
        "You count the tokens of what was kept. All that was drawn was sampled.",
        "train_step",
        "count_step(run, groups, kept)",
        "count_step(run, kept, kept)",
    ),
    (
        "the budget is not passed on",
        "The update needs the stage's budget, for dr_grpo.",
        "train_step",
        "rollouts, config, stage.budget",
        "rollouts, config",
    ),
    (
        "the losses are missing in the metrics",
        "What update returns belongs into the metrics.",
        "train_step",
        "count_step(run, groups, kept) | losses",
        "count_step(run, groups, kept)",
    ),
]

WHOLE = []

RIGHT = """
def sample_groups(run, stage, draw):
    config, state = run.config, run.state
    chosen = take_problems(run.train, state.cursor, config.prompts, config.seed)
    state.cursor = state.cursor + config.prompts
    return sample_run(
        run, list(chosen), thinking=stage.thinking, budget=stage.budget, samples=config.group,
        seed=stream_seed(config.seed, state.step, 2 * draw), label="x",
    )

def train_step(run, stage):
    kept, drawn = dynamic_sampling(
        lambda draw: sample_groups(run, stage, draw), run.config.prompts, run.config.draws
    )
    set_advantages(kept)
    losses = update(run.model, run.optimizer, sum(kept, []), run.config, budget=stage.budget)
    metrics = count_step(run, drawn, kept)
    metrics.update(losses)
    return drawn, metrics
"""
