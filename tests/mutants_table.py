"""The bugs that mutants.py plants, by file and function (see there how a piece of code is found).

A row is a name, the right piece of code, which stands in the function once, and the wrong one. The
function "" is the code outside of functions. LIKELY: where a bug in a file shows first.
"""

TABLE = {
    "thinkfree.py": {
        "apply_template": [
            (
                "a template that does not think by default is not told to",
                "enable_thinking=thinking,",
                "",
            ),
            (
                "DeepSeek-V3.1 is not told to think",
                "enable_thinking=thinking, thinking=thinking",
                "enable_thinking=thinking",
            ),
        ],
        "check_prompts": [
            ("an x that ends closed is accepted", "if CLOSED.search(x):", "if False:"),
        ],
        "render": [
            (
                "the modes are swapped",
                "return prompt if thinking else think_free(prompt, block)",
                "return think_free(prompt, block) if thinking else prompt",
            ),
            (
                "the prompt of a template that opens the block is not made thinking-free",
                "return prompt if thinking else think_free(prompt, block)",
                "return prompt if thinking else prompt + block",
            ),
        ],
        "write_prompts": [
            (
                "other trainers get x",
                "render_all(tokenizer, problems, instruction, False)",
                "render_all(tokenizer, problems, instruction, True)",
            ),
        ],
        "think_free": [
            (
                "a block that the template opens is opened twice",
                'return OPEN.sub("", prompt) + block',
                "return prompt + block",
            ),
        ],
    },
    "tfpi.py": {
        "stages": [
            (
                "the stages train with thinking",
                "Stage(name, False, budget)",
                "Stage(name, True, budget)",
            ),
        ],
        "validate": [
            ("validation in the other mode", "stage.thinking", "not stage.thinking"),
            ("validation on the test split", "run.validation[", "run.test["),
            (
                "the truncation of a validation is its last step's",
                "mean(state.since_validation)",
                "state.since_validation[-1]",
            ),
            (
                "a validation has as many problems as an evaluation",
                "run.config.validation_problems",
                "run.config.eval_problems",
            ),
            (
                "a validation has as many samples as an evaluation",
                'stage.thinking, 1, "validation"',
                'stage.thinking, run.config.eval_samples, "validation"',
            ),
        ],
        "sample_groups": [
            (
                "stages sample at the full budget",
                '"max_new_tokens": stage.budget',
                '"max_new_tokens": config.full_budget',
            ),
            (
                "the new budget is applied a step late",
                '"max_new_tokens": stage.budget',
                '"max_new_tokens": stages(config)[max(run.state.stage - (run.state.stage_step == 0), 0)].budget',
            ),
            (
                "every step has the same stream",
                "stream_seed(config.seed, run.state.step, 2 * draw)",
                "stream_seed(config.seed, 0, 2 * draw)",
            ),
            (
                "all draws of a step have the same stream",
                "stream_seed(config.seed, run.state.step, 2 * draw)",
                "stream_seed(config.seed, run.state.step, 0)",
            ),
            (
                "the run's seed is ignored in sampling",
                "stream_seed(config.seed, run.state.step, 2 * draw)",
                "stream_seed(0, run.state.step, 2 * draw)",
            ),
            ("each step draws the same prompts", "run.state.cursor += len(problems)", "pass"),
            (
                "rollouts are sampled at temperature 1",
                '"temperature": config.temperature',
                '"temperature": 1.0',
            ),
            (
                "the instruction is dropped in training",
                "problems, config.instruction, stage.thinking",
                'problems, "", stage.thinking',
            ),
            (
                "RL with thinking samples without",
                "config.instruction, stage.thinking",
                "config.instruction, False",
            ),
            ("--slots is ignored in training", '"slots": config.slots', '"slots": 256'),
            (
                "the order of the problems ignores the seed",
                "config.prompts, config.seed)",
                "config.prompts, 0)",
            ),
        ],
        "train": [
            ("a resumed run measures the start again", "if not run.state.evaluations:", "if True:"),
        ],
        "levelled_off": [
            (
                "levelled off: truncation improves by rising",
                "[1 - share for share in truncated]",
                "truncated",
            ),
            (
                "levelled off: one measure is enough",
                "may_rise(finished[-window:], least) or may_rise(accuracy[-window:], least)",
                "may_rise(finished[-window:], least) and may_rise(accuracy[-window:], least)",
            ),
            ("levelled off: fifteen points are no gain", "least=0.015", "least=0.15"),
            ("levelled off: all validations decide", "accuracy[-window:]", "accuracy"),
        ],
        "may_rise": [
            ("levelled off: the error is left out", "slope + covariance[0, 0] ** 0.5", "slope"),
            (
                "levelled off: the error is taken away",
                "slope + covariance[0, 0] ** 0.5",
                "slope - covariance[0, 0] ** 0.5",
            ),
            (
                "levelled off: the variance for the error",
                "covariance[0, 0] ** 0.5",
                "covariance[0, 0]",
            ),
        ],
        "is_over": [
            (
                "levelled off: accuracy and truncation are swapped",
                "levelled_off(state.truncated, state.accuracy)",
                "levelled_off(state.accuracy, state.truncated)",
            ),
            (
                "a stage has one step too many",
                "state.stage_step >= config.steps",
                "state.stage_step > config.steps",
            ),
        ],
        "train_step": [
            (
                "the trainer does not know the sampler's temperature",
                "rollouts, config, stage.budget",
                "rollouts, type(config)(), stage.budget",
            ),
            (
                "prompts are drawn once, whatever --draws says",
                "config.prompts, config.draws",
                "config.prompts, 1",
            ),
            (
                "step_seconds leave out the sampling",
                "time.monotonic() - started",
                "time.monotonic() - sampled",
            ),
        ],
        "count_step": [
            (
                "only kept responses are counted as generated",
                "for group in groups for rollout in group",
                "for group in kept for rollout in group",
            ),
            (
                "the compute of a run is its last step's",
                "run.state.flops += count_flops",
                "run.state.flops = count_flops",
            ),
        ],
        "describe_groups": [
            (
                "truncation is counted the wrong way round",
                "not rollout.finished",
                "rollout.finished",
            ),
        ],
        "train_stage": [
            (
                "validations go by the step of the run",
                "run.state.stage_step % run.config",
                "run.state.step % run.config",
            ),
        ],
        "check_run": [
            (
                "the prompts of the test split are not checked",
                "run.test = fitting(run.test, measured)",
                "pass",
            ),
            ("a sampler that disagrees is trained with", "if gap > MAX_GAP:", "if False:"),
        ],
    },
    "grpo.py": {
        "set_advantages": [
            (
                "the mean of the batch is the baseline",
                "[rollout.reward for rollout in group]",
                "[rollout.reward for other in groups for rollout in other]",
            ),
            (
                "advantages without the std",
                "for rollout in group])",
                "for rollout in group], False)",
            ),
            (
                "truncated responses are masked out of the loss",
                "rollout.advantage = advantage",
                "rollout.advantage = advantage * rollout.finished",
            ),
            (
                "every group gets the first one's advantages",
                "for rollout in group])",
                "for rollout in groups[0]])",
            ),
        ],
        "group_advantages": [
            (
                "std of the batch instead of the group's",
                "rewards.std()",
                "rewards.std().clamp(min=0.5)",
            ),
            ("std divides by G instead of G - 1", "rewards.std()", "rewards.std(correction=0)"),
            (
                "an epsilon instead of exactly 0 for a flat group",
                "return torch.zeros_like(rewards)",
                "return (rewards - rewards.mean()) / (rewards.std() + 1e-8)",
            ),
            (
                "the caller's rewards are changed through a view",
                "rewards - rewards.mean()",
                "rewards.sub_(rewards.mean())",
            ),
        ],
        "is_flat": [
            (
                "only groups without a right answer are flat",
                "len({rollout.correct for rollout in group}) == 1",
                "not any(rollout.correct for rollout in group)",
            ),
            (
                "a group is flat by its rewards, not by what is correct",
                "rollout.correct",
                "rollout.reward",
            ),
        ],
        "dynamic_sampling": [
            (
                "dynamic sampling keeps flat groups",
                "[group for group in groups if not is_flat(group)]",
                "list(groups)",
            ),
            ("dynamic sampling keeps a surplus", "kept[:wanted], drawn", "kept, drawn"),
            ("statistics of the last draw alone", "drawn += groups", "drawn = groups"),
            (
                "truncated responses are filtered before the baseline",
                "[group for group in groups if not is_flat(group)]",
                "[[r for r in group if r.finished] for group in groups if not is_flat(group)]",
            ),
        ],
        "update": [
            (
                "each rank steps by its own gradient",
                "ranks.add_up(gradients(optimizer, all_of_them=ranks.size() > 1))",
                "pass",
            ),
            ("all groups flat is a crash", "if parts else []", ""),
            (
                "the second minibatch gets the first one's advantages",
                "[rollouts[i] for i in indices]",
                "[rollouts[i - indices[0]] for i in indices]",
            ),
            ("gradients of minibatches add up", "optimizer.zero_grad(set_to_none=True)", "pass"),
            (
                "gradients are not clipped",
                "clip_gradients(gradients(optimizer)).item()",
                "torch.nn.utils.get_total_norm(gradients(optimizer)).item()",
            ),
            ("an overflow is for ever", "lower_scale(optimizer)", "pass"),
            (
                "a step that is not finite is taken",
                'if np.isfinite(metrics["grad_norm"] + metrics["loss"]):',
                "if True:",
            ),
            (
                "dropout is on in the update",
                "model.eval()  # dropout off",
                "model.train()  # dropout off",
            ),
            (
                "the gap is measured after a step, too",
                'means["logprob_gap"] = taken[0]["logprob_gap"] if taken else 0.0',
                "pass",
            ),
            (
                "more minibatches than responses are a crash",
                "min(config.minibatches, len(rollouts))",
                "config.minibatches * bool(rollouts)",
            ),
            (
                "the update is in another precision than the sampling",
                "with autocast(model), recomputed(model, config.recompute):",
                "with recomputed(model, config.recompute):",
            ),
            (
                "gradients are in memory while the sampler is at work",
                "optimizer.zero_grad()",
                "pass",
            ),
            (
                "metrics are sums over minibatches",
                "float(np.mean([m[name] for m in taken]))",
                "float(np.sum([m[name] for m in taken]))",
            ),
        ],
        "accumulate_gradient": [
            (
                "each rank trains on the whole minibatch",
                "ranks.part(list(zip(minibatch, weights)), lengths)",
                "list(zip(minibatch, weights))",
            ),
            ("metrics are those of one rank", "ranks.add_up([totals])", "pass"),
            ("fp16 gradients are not scaled", "(scale * token_weights(", "(1.0 * token_weights("),
            ("the loss is reported with its scale", "loss.item() / scale", "loss.item()"),
            ("shared prompts: their gradients stop at the copies", "prompts.backward()", "pass"),
            (
                "prompts are always run for each response",
                "sharing_pays(minibatch, config.micro_tokens)",
                "False",
            ),
            (
                "the stop token is dropped from the loss",
                "torch.cat([weight for _, weight in batch])",
                "torch.cat([w.index_fill(0, torch.tensor([len(w) - 1]), 0.0) for _, w in batch])",
            ),
            (
                "the clipped share is added up over micro-batches",
                "share * clipped.item()",
                "clipped.item()",
            ),
            (
                "the loss in the metrics has the wrong sign",
                'metrics["loss"] += loss.item()',
                'metrics["loss"] -= loss.item()',
            ),
        ],
        "batch_loss": [
            (
                "the mask goes by token values: pad is stop",
                "weights = weights.to(device)",
                "weights = weights.to(device) * (tokens != 0)",
            ),
            (
                "normalised per micro-batch",
                "weights = weights.to(device)",
                "weights = weights.to(device) / weights.sum()",
            ),
            (
                "old log-probs in another order than the tokens",
                "for r in rollouts for p in r.logprobs",
                "for r in rollouts[::-1] for p in r.logprobs",
            ),
            (
                "temperature forgotten in the trainer",
                "temperature=config.temperature",
                "temperature=1.0",
            ),
            (
                "the clip range of the options is not used",
                "eps_low=config.eps_low, eps_high=config.eps_high",
                "eps_low=0.2, eps_high=0.28",
            ),
            (
                "old log-probs are the current ones: the ratio is always 1",
                "old[rows]",
                "logprobs.detach()",
            ),
            (
                "every chunk gets the first one's advantages",
                "advantages[rows]",
                "advantages[: len(logprobs)]",
            ),
            (
                "the trainer's clip range is swapped",
                "eps_low=config.eps_low, eps_high=config.eps_high",
                "eps_low=config.eps_high, eps_high=config.eps_low",
            ),
            (
                "differences of log-probs cancel in the gap",
                "(logprobs - old).abs().mean()",
                "(logprobs - old).mean()",
            ),
        ],
        "token_weights": [
            (
                "length bias: every response weighs the same in dapo",
                "torch.full((len(lengths),), 1.0 / lengths.sum().item())",
                "1.0 / (len(lengths) * lengths.float())",
            ),
            (
                "grpo normaliser without the length",
                "weight = 1.0 / (len(lengths) * lengths.float())",
                "weight = torch.full((len(lengths),), 1.0 / len(lengths))",
            ),
            (
                "dr_grpo divides by the longest response",
                "1.0 / (len(lengths) * budget)",
                "1.0 / (len(lengths) * max(lengths))",
            ),
        ],
        "policy_loss": [
            ("the loss has the wrong sign", "loss = -(torch.minimum", "loss = (torch.minimum"),
            (
                "max instead of min",
                "torch.minimum(surrogate, clipped)",
                "torch.maximum(surrogate, clipped)",
            ),
            (
                "the clip is turned round for A < 0",
                "torch.minimum(surrogate, clipped)",
                "torch.where(advantages > 0, torch.minimum(surrogate, clipped), torch.maximum(surrogate, clipped))",
            ),
            (
                "eps_low and eps_high are swapped",
                "ratio.clamp(1 - eps_low, 1 + eps_high)",
                "ratio.clamp(1 - eps_high, 1 + eps_low)",
            ),
            (
                "the ratio is upside down",
                "(logprobs - old_logprobs).clamp",
                "(old_logprobs - logprobs).clamp",
            ),
            ("exp may overflow", ".clamp(-20, 20).exp()", ".exp()"),
        ],
        "micro_batches": [
            (
                "micro-batches are cut by their number, not their tokens",
                "size_of(item) * (len(batches[-1]) + 1) > tokens",
                "len(batches[-1]) + 1 > tokens",
            ),
        ],
        "": [
            ("the largest gradient norm is ten", "MAX_GRAD_NORM = 1.0", "MAX_GRAD_NORM = 10.0"),
        ],
    },
    "logprobs.py": {
        "response_states": [
            (
                "shift off by one: a token is scored after itself",
                "hidden[rows, columns - 1], ids[rows, columns]",
                "hidden[rows, columns - 1], ids[rows, columns - 1]",
            ),
            (
                "shift off by one: one position too early",
                "hidden[rows, columns - 1]",
                "hidden[rows, (columns - 2).clamp(min=0)]",
            ),
            (
                "the prompt's last token is learnt, the stop token is not",
                "np.arange(start, stop)",
                "np.arange(start, stop) - (start > 1)",
            ),
        ],
        "SharedPrompts.states_after_prompts": [
            (
                "shared prompts: positions of responses start at 0",
                "positions = ends + times",
                "positions = times.expand(len(ids), -1)",
            ),
            (
                "shared prompts: a response sees the padding of its prompt",
                "(columns < ends)[:, None]",
                "(columns < ends.max()).expand(len(ids), -1)[:, None]",
            ),
            (
                "shared prompts: a response sees what it will write",
                "times <= times[:, None]",
                "times <= times[:, None] + 1",
            ),
        ],
        "select": [
            (
                "shared prompts: every response belongs to the first prompt",
                "states.index_select(0, owner)",
                "states.index_select(0, owner * 0)",
            ),
            (
                "shared prompts: the order of the threads decides the gradient",
                "states.index_select(0, owner)",
                "states[owner]",
            ),
        ],
        "FirstKeys.update": [
            (
                "a layer that runs again finds its own keys in the cache",
                "if layer < len(self.layers):",
                "if False:",
            ),
        ],
        "PromptKeys.update": [
            (
                "shared prompts: a layer attends to the keys of the next",
                "self.states[2 * layer : 2 * layer + 2]",
                "self.states[2 * layer + 2 : 2 * layer + 4] or self.states[:2]",
            ),
        ],
        "project_chunks": [
            ("probabilities overflow in fp16", "if hidden.dtype == torch.float16:", "if False:"),
            (
                "temperature forgotten in the log-probs of the loss",
                "logits /= temperature",
                "logits /= 1",
            ),
            (
                "temperature forgotten in the gradient of the loss",
                "/ (sums * temperature)",
                "/ sums",
            ),
            ("the gradient has the wrong sign", "factor = -token_grad(", "factor = token_grad("),
            (
                "the one-hot is missing in the gradient",
                "exps.scatter_add_(1, targets[rows, None], -sums).to",
                "exps.to",
            ),
            (
                "the last chunk is dropped",
                "range(0, len(hidden), chunk)",
                "range(0, len(hidden) - chunk + 1, chunk)",
            ),
            (
                "log-sum-exp without the maximum",
                "logits.amax(dim=-1, keepdim=True)",
                "logits.new_zeros(len(logits), 1)",
            ),
            (
                "log-softmax in bf16 in the trainer",
                "(hidden[rows] @ head.T).float()",
                "hidden[rows] @ head.T",
            ),
        ],
        "add_product": [
            (
                "the weight's gradient is the last chunk's, fp32",
                "total.addmm_(left, right)",
                "total.copy_(left @ right)",
            ),
            (
                "the weight's gradient is the last chunk's, bf16",
                "total += left @ right",
                "total.copy_(left @ right)",
            ),
        ],
        "TokenLogprobs.backward": [
            (
                "every chunk gets the first one's gradient",
                "lambda rows, logprobs: grad[rows]",
                "lambda rows, logprobs: grad[:len(logprobs)]",
            ),
        ],
        "FusedLoss.backward": [
            ("the fused loss ignores how it is scaled", "grad_hidden.mul_(grad)", "grad_hidden"),
        ],
        "plan_chunks": [
            (
                "autocast is left to each pass",
                "torch.get_autocast_dtype(device) if autocast else hidden.dtype",
                "hidden.dtype",
            ),
        ],
    },
    "rollout.py": {
        "Sampler.__init__": [
            ("only the first stop id stops", "sorted(stop_ids)", "sorted(stop_ids)[:1]"),
            ("slots do not bound the batch", "min(slots, requests)", "requests"),
        ],
        "Sampler.free": [
            (
                "a moved row leaves its random numbers behind",
                "self.written, self.uniforms)",
                "self.written)",
            ),
            ("a moved row leaves its position behind", "self.token, self.position,", "self.token,"),
            ("a moved row leaves its pages behind", "self.cache.move(sources, gaps)", "pass"),
            (
                "a moved row leaves its length behind",
                "self.keys[gaps] = self.keys[sources]",
                "pass",
            ),
        ],
        "Sampler.put_back": [
            (
                "what a row has written is lost",
                "self.tokens[request, :written]",
                "self.tokens[request, :0]",
            ),
            ("a random stream begins again", "[request], written)", "[request])"),
            ("the row waits at the end", "self.queue.appendleft(", "self.queue.append("),
        ],
        "Sampler.take_waiting": [
            (
                "memory for keys is not looked at",
                "or not self.cache.has_room(np.add(keys, PAGE))",
                "",
            ),
            (
                "prompts move in one by one",
                "keys += [len(ids)] *",
                "keys += [PREFILL * PAGE] * len(taken) + [len(ids)] *",
            ),
        ],
        "Sampler.rollouts": [
            (
                "the stop token is left out of the response",
                "tokens[i, :length].tobytes()",
                "tokens[i, : length - finished[i]].tobytes()",
            ),
            (
                "a token after the stop token is in the response",
                "tokens[i, :length].tobytes()",
                "tokens[i, : length + 1].tobytes()",
            ),
            (
                "groups by text: prompts are taken in turn",
                "self.prompts[i // self.samples]",
                "self.prompts[i % len(self.prompts)]",
            ),
        ],
        "Sampler.record": [
            (
                "the finished flag is inverted",
                "self.finished[request] = stopped[ended - first]",
                "self.finished[request] = ~stopped[ended - first]",
            ),
            (
                "a response that fits the budget exactly counts as truncated",
                "self.finished[request] = stopped[ended - first]",
                "self.finished[request] = self.written[ended] < self.budget",
            ),
            (
                "the flag is another row's",
                "stopped[ended - first]",
                "stopped[: len(ended)]",
            ),
            (
                "the budget is one token short",
                "self.written[rows] == self.budget",
                "self.written[rows] == max(1, self.budget - 1)",
            ),
            (
                "one random number for the whole response",
                "self.uniforms[rows].gather(1, self.written[rows, None])[:, 0]",
                "self.uniforms[rows][:, 0]",
            ),
        ],
        "Sampler.refill": [
            (
                "streams go by slot, not by request",
                "for i in requests",
                "for i in range(first, self.live)",
            ),
            (
                "refill: positions count the padding",
                "ends[source] - 1",
                "ends.max() - 1",
            ),
            (
                "refill: the count of written tokens is stale",
                "torch.tensor([entering[i].written for i in source], device=self.device)",
                "self.written[rows]",
            ),
            (
                "shared prefix: samples of a group get other prompts' keys",
                "self.cache.admit(prefilled, first, source)",
                "self.cache.admit(prefilled, first, source[::-1].copy())",
            ),
        ],
        "Sampler.decode": [
            (
                "rotary positions of a decode step are one too far",
                "position_ids=positions[:, None]",
                "position_ids=positions[:, None] + 1",
            ),
            (
                "rotary positions of a decode step count the padding",
                "position_ids=positions[:, None]",
                "position_ids=torch.full_like(positions[:, None], positions.max())",
            ),
        ],
        "Sampler.prefill": [
            (
                "the first token comes from a pad",
                "device=self.device), ends - 1]",
                "device=self.device), -1]",
            ),
        ],
        "sample_tokens": [
            (
                "temperature forgotten in the sampler",
                "logits = logits / temperature",
                "logits = logits / 1",
            ),
            (
                "temperature in the draw but not in the log-probs",
                "logits.gather(1, tokens) - largest - total.log()",
                "torch.log_softmax(logits * temperature, dim=-1).gather(1, tokens)",
            ),
            (
                "the sampler's softmax is in the model's type",
                "logits = logits.float()\n",
                "logits = logits.clone()\n",
            ),
            (
                "the sampler's softmax without the maximum",
                "largest = logits.amax(dim=-1, keepdim=True)",
                "largest = torch.zeros_like(logits[:, :1])",
            ),
            ("tokens of probability 0 are drawn", "right=True)", "right=False)"),
        ],
        "draw_uniforms": [
            ("all requests share one stream", "key=[seed, index]", "key=[seed, 0]"),
            ("the seed is ignored", "key=[seed, index]", "key=[0, index]"),
            (
                "the sampler is not seeded",
                "np.random.Generator(np.random.Philox(key=[seed, index]))",
                "np.random.default_rng()",
            ),
        ],
        "Sampler.step": [
            (
                "a straggler holds up the others",
                "self.live <= self.slots * 3 // 4",
                "not self.live",
            ),
            ("the oldest row waits", "argmin()", "argmax()"),
            ("a row's key has no room", "self.keys[: self.live] + 1", "self.keys[: self.live] * 0"),
        ],
        "truncate": [
            ("top-k drops what equals its last", "logits < last", "logits <= last"),
            ("top-p keeps the unlikely", "<= 1 - top_p", "> top_p"),
        ],
        "generate": [
            ("dropout is on in the sampler", "model.eval()", "pass"),
            ("top-p is not passed on", "top_p=top_p", "top_p=1.0"),
            ("a circle keeps the keys after a call", "del sampler.next_logits", "pass"),
        ],
    },
    "cache.py": {
        "PagePool.buffers": [
            (
                "a page's values do not move with its keys",
                "return (*self.keys.values(), *self.values.values())",
                "return (*self.keys.values(),)",
            ),
        ],
        "PagePool.grow": [
            ("what memory held before is not cleared", "buffer[first : self.used + 1] = 0", "pass"),
            ("a page begins where the next one does", "columns * PAGE", "(columns + 1) * PAGE"),
        ],
        "PagePool.release": [
            ("a moved page leaves its keys behind", "buffer[gaps] = buffer[moved]", "pass"),
            ("a moved page forgets its row", "self.owner[gaps] = self.owner[moved]", "pass"),
            ("a moved page forgets its place", "self.start[gaps] = self.start[moved]", "pass"),
            ("a row does not find its moved page", "// PAGE] = gaps", "// PAGE] = moved"),
            ("pages are not freed", "self.used -= len(freed)", "self.used -= 0"),
        ],
        "PagePool.move": [
            ("a page does not follow its row", "self.owner[pages[pages > 0]] = row", "pass"),
        ],
        "PagePool.step": [
            ("a new token does not see itself", "at > positions", "at >= positions"),
            ("a token sees what comes after it", "at > positions", "at > 1 + positions"),
        ],
        "PagePool.has_room": [
            ("one page too many", "<= self.pages", "<= self.pages + 1"),
        ],
        "fit_pages": [
            ("a part of a page is a whole one", "keys / PAGE", "1 + keys / PAGE"),
            ("the bound is ignored", "min(keys / PAGE, slots * one)", "slots * one"),
        ],
    },
    "support/attention.py": {
        "attend_pages": [
            (
                "heads are grouped in the wrong order",
                "query.reshape(batch, keys.shape[1], -1, width)",
                "query.reshape(batch, -1, keys.shape[1], width).transpose(1, 2)",
            ),
            ("attention without its scale", ", alpha=scaling", ""),
            ("pages count the same", "sums[table].softmax(dim=1)", "(sums[table] > -1e20).float()"),
            ("pages count by their largest scores", "- probs.amax(dim=-1, keepdim=True).log()", ""),
        ],
        "product": [
            ("autocast rounds the scores", "enabled=False", "enabled=True"),
            (
                "scores are rounded to bf16",
                "torch.matmul(a.float(), b.float())",
                "torch.matmul(a, b).float()",
            ),
        ],
        "attention": [
            ("the keys stay registered", 'AttentionInterface.register("decode", None)', "pass"),
        ],
    },
    "support/graphs.py": {
        "DecodeGraphs.__call__": [
            (
                "a function that could not be captured keeps the keys",
                "partial(self.decode, *shape)",
                "lambda: self.decode(*shape)",
            ),
        ],
        "round_up": [
            (
                "shapes of CUDA graphs are rounded down",
                "1 << (number - 1).bit_length()",
                "1 << (number.bit_length() - 1)",
            ),
        ],
    },
    "reward.py": {
        "extract_answer": [
            ("the first box is the answer", "if start:", "if start and answer_end < 0:"),
            ("a box in the thought is the answer", "thought_end + 1)", "0)"),
            (
                "an unclosed box falls back to an earlier one",
                "if max(open_braces, default=0) > answer_start:",
                "if False:",
            ),
            (
                "a box in an unclosed thought counts",
                'if text.rfind("<think>") > thought_end:',
                "if False:",
            ),
        ],
        "is_equivalent": [
            (
                "a strange answer stops the run",
                "except Exception:  # mostly",
                "except Refuse:  # mostly",
            ),
            (
                "hostile strings of any length are parsed",
                "if len(pred) > MAX_CHARS or len(gold) > MAX_CHARS:",
                "if False:",
            ),
        ],
        "is_readable": [
            ("prose is a product of letters", "not PROSE.search(text)", "True"),
        ],
    },
    "answers/units.py": {
        "mark_unit": [
            (
                "any text is a unit",
                "not words or not all(map(known.fullmatch, words))",
                "not words",
            ),
            ("operators are nouns", 'SYMBOL if command == "mathrm" else NOUN', "NOUN"),
        ],
        "drop_units": [
            (
                "3 hours, 20 minutes is a list of numbers",
                'if len({re.sub(r"\\s", "", hit["units"]) for hit in found}) > 1:',
                "if False:",
            ),
        ],
    },
    "eval.py": {
        "find_problems": [
            (
                "eval.py takes the last problems",
                "problems[: args.problems]",
                "problems[-args.problems :]",
            ),
        ],
        "evaluate_both": [
            (
                "the last sample of each problem is kept",
                "[first for first, *_ in groups[:KEPT]]",
                "[last for *_, last in groups[:KEPT]]",
            ),
            ("the table swaps the modes", 'mode == "thinking"', 'mode != "thinking"'),
            ("the table is measured on the validation split", "run.test[", "run.validation["),
            (
                "the number of samples that is asked for is not looked at",
                "samples or run.config.eval_samples",
                "run.config.eval_samples",
            ),
            (
                "the table's compute is in tokens",
                '"flops": state.flops',
                '"flops": state.generated_tokens',
            ),
        ],
        "sample_mode": [
            (
                "each evaluation has another stream",
                "stream_seed(config.seed, 0, 1)",
                "stream_seed(config.seed, run.state.step, 1)",
            ),
            (
                "evaluated at the last stage's budget",
                "config.full_budget",
                "config.stage_budgets()[-1]",
            ),
            ("evaluated without the instruction", "config.instruction", '""'),
        ],
        "pass_rates": [
            ("pass@1 is that of all samples", "pass_at_k(most, c, k)", "pass_at_k(most, c, most)"),
        ],
        "pass_at_k": [
            (
                "pass@k is biased",
                "1.0 - math.comb(n - c, k) / math.comb(n, k)",
                "1.0 - (1 - c / n) ** k",
            ),
        ],
        "summarise": [
            (
                "standard error over samples, not problems",
                "per_problem.std(ddof=1) / math.sqrt(len(groups))",
                "correct.std(ddof=1) / math.sqrt(correct.size)",
            ),
            (
                "standard error with the deviation of a population",
                "per_problem.std(ddof=1)",
                "per_problem.std()",
            ),
            ("problems and samples are swapped", "correct.mean(axis=1)", "correct.mean(axis=0)"),
            (
                "the answer's tokens are the thought's",
                'text.rsplit("</think>", 1)[-1]',
                'text.split("</think>", 1)[0]',
            ),
            (
                "accuracy counts the reward",
                "[rollout.correct for rollout in group]",
                "[rollout.reward for rollout in group]",
            ),
            (
                "answers are measured in characters",
                "mean(len(ids) for ids in answer_ids)",
                "mean(map(len, answers))",
            ),
        ],
        "": [
            (
                "any word that contains check verifies",
                'r"\\b(check|verify|wait|double-check|recheck|make sure|let me confirm)"',
                'r"(check|verify|wait|double-check|recheck|make sure|let me confirm)"',
            ),
            (
                "an empty block counts as thought",
                'r"\\s*<think>\\s*(?!</think>)\\S"',
                'r"\\s*<think>\\s*\\S"',
            ),
        ],
        "sample_and_grade": [
            ("each rank's random streams begin anew", "numbers=mine,", ""),
            (
                "each rank asks all prompts",
                "range(ranks.rank(), len(prompts), ranks.size())",
                "range(len(prompts))",
            ),
            (
                "responses are graded against other problems",
                "zip(prompts, golds, groups)",
                "zip(prompts, golds[::-1], groups)",
            ),
            (
                "duplicate prompts share one answer",
                "grade(rollout.text, gold)",
                "grade(rollout.text, dict(zip(prompts, golds))[prompt])",
            ),
            (
                "duplicate prompts are merged",
                "for prompt in prompts]",
                "for prompt in dict.fromkeys(prompts)]",
            ),
            (
                "a start token is added to the prompt",
                "tokenizer(prompt, add_special_tokens=False)",
                "tokenizer(prompt, add_special_tokens=True)",
            ),
        ],
        "evaluate_folder": [
            (
                "eval.py swaps the modes",
                'config.instruction, mode == "thinking"',
                'config.instruction, mode != "thinking"',
            ),
            (
                "a run at another temperature is measured at 1",
                "args.temperature = config.temperature",
                "args.temperature = 1.0",
            ),
            ("eval.py ignores --budget", "if not args.budget:", "if True:"),
            (
                "eval.py shows responses under the next problem",
                "first_samples(problems, firsts)",
                "first_samples(problems[1:], firsts)",
            ),
        ],
    },
    "lesson/arithmetic.py": {
        "write_expression": [
            ("brackets are forgotten", 'last in ("+", "-")', 'last == "+"'),
        ],
    },
    "problems.py": {
        "find_gold": [
            ("golds that nobody can earn are accepted", "and is_readable(text)", "and text"),
            ("'proof' is an answer", "text.lower() not in NO_ANSWERS", "True"),
        ],
        "read_cell": [
            ("the first #### counts", 'value.rpartition("####")', 'value.partition("####")'),
            ("calculator marks reach the gold", 're.sub("<<[^<>]*>>", "",', 're.sub("<<<", "",'),
        ],
        "find_question": [
            ("choices are left out of the question", "if value and value == value:", "if False:"),
            ("the first of several turns is the question", "if len(asked) > 1:", "if False:"),
        ],
        "load_problems": [
            ("any share of rows may be left out", "len(left_out) * 2 >", "len(left_out) >"),
        ],
        "question_key": [
            ("case makes another question", ".casefold()", ""),
        ],
        "take_problems": [
            ("each epoch has the same order", 'f"{seed} {epoch}"', 'f"{seed}"'),
        ],
        "load_data": [
            (
                "test and validation of one's own data overlap",
                "questions[held : 2 * held])",
                "questions[:held])",
            ),
            (
                "the bundled test split is the validation split",
                'load_split("validation"), load_split("test")',
                'load_split("test"), load_split("validation")',
            ),
        ],
    },
    "support/cli.py": {
        "Parser.given": [
            ("a 0 on the command line is ignored", "if value is not None", "if value"),
        ],
        "command": [
            ("a full disk is a traceback", "ValueError, OSError, MemoryError", "ValueError"),
        ],
        "check_number": [
            (
                "NaN is within all bounds",
                "not least <= value <= most",
                "value < least or value > most",
            ),
        ],
    },
    "support/plot.py": {
        "draw_stages": [
            ("tokens are drawn as accuracy", 'result["accuracy"]', 'result["tokens"]'),
        ],
        "mark_stages": [
            (
                "a stage is marked at its second step",
                'line["stage_step"] == 1',
                'line["stage_step"] == 2',
            ),
        ],
        "numbers": [
            ("NaN is drawn", "not abs(value) <= LARGEST_DRAWN", "abs(value) > LARGEST_DRAWN"),
        ],
        "load_pyplot": [
            ("MPLBACKEND ends the program", 'os.environ["MPLBACKEND"] = "Agg"', ""),
        ],
    },
    "distill.py": {
        "distill": [
            ("Ctrl-C loses the model", "if not done:\n                raise", "raise"),
            ("a killed process loses the model", "if done % SAVE_EVERY == 0:", "if False:"),
        ],
        "encode_trace": [
            (
                "SFT learns the prompt, the empty block included",
                "(render(tokenizer, problem.problem, instruction, thinking), False)",
                "(render(tokenizer, problem.problem, instruction, thinking), True)",
            ),
        ],
        "pad_batch": [
            ("SFT learns the padding", "[-100] * padding", "[0] * padding"),
        ],
        "draw_traces": [
            (
                "SFT sees the test problems",
                "if problem.problem not in held_out:",
                "if problem.problem:",
            ),
        ],
        "sft": [
            (
                "SFT learns to repeat the token it sees",
                "labels[:, 1:].to(model.device)",
                "labels[:, :-1].to(model.device)",
            ),
            (
                "the learning rate does not warm up",
                "scale = min(1, (step + 1) / warmup) * cosine",
                "scale = cosine",
            ),
        ],
        "draw_batches": [
            ("SFT without a curriculum", "range(1, 2 + min(2, part))", "range(1, 4)"),
        ],
        "settle": [
            (
                "a pretrained model has the small one's rate",
                "PRETRAINED if args.model",
                "SMALL if args.model",
            ),
        ],
        "start_model": [
            ("SFT begins from nothing whatever --model says", "if not source:", "if True:"),
            (
                "a model that thinks is taught to open the block twice",
                'endswith("<think>")',
                'endswith("<x>")',
            ),
        ],
    },
    "lesson/teacher.py": {
        "write_pass": [
            ("SFT learns the mistakes", "(str(result), result == right)", "(str(result), True)"),
        ],
        "write_work": [
            (
                "a mistake without a check",
                "if checks and rng.random() < MISTAKES",
                "if rng.random() < MISTAKES",
            ),
        ],
        "break_up": [
            (
                "partial products do not add up",
                '(tens * n, "+", ones * n)',
                '(tens * n, "+", ones)',
            ),
        ],
    },
    "support/plan.py": {
        "settle_memory": [
            (
                "a CPU computes everything twice",
                '.replace("auto", "no")',
                '.replace("auto", "yes")',
            ),
            ("a T4 computes in bf16", 'config.dtype = "fp16"', "pass"),
            ("what does not fit is begun", "if not plan.fits():", "if False:"),
        ],
        "update_bytes": [
            ("Adam's moments take nothing", '"optimizer": n * 8', '"optimizer": 0'),
        ],
        "most_keys": [
            ("the allocator gets nothing", "memory * (1 - FREE)", "memory"),
            ("more keys than all slots can have", "min(slots * length, ", "max(0, "),
        ],
        "host_bytes": [
            ("the host's moments take nothing", '"moments": n * 8', '"moments": 0'),
        ],
        "fit_budgets": [
            ("what was chosen is lowered", 'if "budgets" not in given:', "if True:"),
            (
                "what was chosen is lowered, in evaluation",
                'if "full_budget" not in given:',
                "if True:",
            ),
            ("a preset's budgets were not chosen", "find_settings(config.model) | given", "given"),
            ("all budgets become the largest", "budget * room // largest", "room"),
        ],
    },
    "support/offload.py": {
        "HostAdamW.__init__": [
            (
                "rotary frequencies are rounded to bf16",
                "model.to(device)",
                "model.to(device, dtype)",
            ),
        ],
        "HostAdamW.step": [
            ("the model never gets what was learnt", "weight.copy_(master", "master.copy_(weight"),
        ],
        "HostAdamW.hand_over": [
            (
                "the last micro-batch's gradient alone counts",
                "self.sums[index].add_(gradient, alpha=1 / self.loss_scale)",
                "self.sums[index].copy_(gradient / self.loss_scale)",
            ),
            ("gradients stay on the device and add up", "weight.grad = None", "pass"),
            ("sums are in 16 bits", "dtype=torch.float32", "dtype=gradient.dtype"),
            ("the scale stays in the gradient", ", alpha=1 / self.loss_scale", ""),
        ],
        "HostAdamW.zero_grad": [
            ("gradients of the last update count again", "[None] * len(self.weights)", "self.sums"),
        ],
        "working_dtype": [
            ("--dtype is ignored", 'if dtype != "auto":', "if False:"),
        ],
    },
    "support/recompute.py": {
        "recomputed": [
            ("layers run twice for ever after", "del layer.forward", "pass"),
        ],
        "recomputed_layers": [
            ("no layer ever runs twice", 'if choice == "yes" else []', "if False else []"),
        ],
    },
    "support/model.py": {
        "pad_right": [
            (
                "left padding without a mask",
                "row[:len(sequence)] = sequence",
                "row[-len(sequence):] = sequence",
            ),
        ],
        "find_stop_ids": [
            (
                "the generation config's stop ids are ignored",
                'getattr(model.generation_config, "eos_token_id", None)',
                "None",
            ),
        ],
        "autocast": [
            (
                "a working copy in bf16 is run under autocast",
                "and model.dtype == torch.float32",
                "",
            ),
        ],
        "load_model": [
            (
                "a model that scales its logits is accepted",
                "    check_projection(model)\n    return model",
                "    return model",
            ),
        ],
        "read_model": [
            (
                "a model's own code is run",
                "AutoConfig.from_pretrained(source, trust_remote_code=False)",
                "AutoConfig.from_pretrained(source, trust_remote_code=True)",
            ),
        ],
    },
    "support/ranks.py": {
        "part": [
            ("all ranks have the whole", "items[ends[rank()] : ends[rank() + 1]]", "items"),
            ("what costs nothing at the end is lost", "ends[-1] = len(items)", ""),
        ],
        "add_up": [
            ("sums stay in the buffer they travelled in", "t.copy_(total.view_as(t))", "pass"),
        ],
        "tell": [
            (
                "the last rank tells",
                "gather(value if rank() == 0 else None)[0]",
                "gather(value)[-1]",
            ),
        ],
        "gather": [
            ("values are cut to the shortest", "int(lengths.max())", "int(lengths.min())"),
        ],
        "cores": [
            ("a container's quota is not looked at", "round(int(quota) / int(period))", "THREADS"),
        ],
        "check_alike": [
            ("drifted weights are accepted", "len(set(gather(digest.hexdigest()))) > 1", "False"),
        ],
    },
    "support/run.py": {
        "save_optimizer": [
            (
                "the scale of the loss is not saved",
                "if loss_scale(run.optimizer) > 1:",
                "if False:",
            ),
        ],
        "save_model": [
            (
                "a checkpoint has the working copy, not the masters",
                "value.to(getattr(torch, dtype))",
                "weight.to(getattr(torch, dtype))",
            ),
        ],
        "Run.stops": [
            (
                "each rank goes by its own signals",
                "ranks.tell(self.asked_to_stop)",
                "self.asked_to_stop",
            ),
        ],
        "Run.record": [
            (
                "stage_step is the step of the run",
                '"stage_step": state.stage_step',
                '"stage_step": state.step',
            ),
            (
                "snapshots go by the step of the stage",
                "state.step % self.config.snapshot_every",
                "state.stage_step % self.config.snapshot_every",
            ),
        ],
        "Run.progress": [
            (
                "the bar of a resumed stage starts at 0",
                "initial=self.state.stage_step",
                "initial=0",
            ),
        ],
        "Run.stop_if_bad": [
            ("bad steps are counted over the whole run", 'if metrics["updates"]:', "if False:"),
        ],
        "checkpoints": [
            ("backups are checkpoints", "re.fullmatch(", "re.match("),
        ],
        "State.next_stage": [
            ("a stage starts where the one before was", "self.stage_step = 0", "pass"),
            ("a stage inherits the validations of the one before", "self.accuracy = []", "pass"),
        ],
        "Run.__init__": [
            (
                "resume: the clock starts again",
                "time.monotonic() - self.state.seconds",
                "time.monotonic()",
            ),
        ],
        "make_optimizer": [
            ("weight decay", '"weight_decay": 0.0', '"weight_decay": 0.01'),
        ],
        "Run.save_checkpoint": [
            ("old checkpoints stay", "if old != final:", "if False:"),
            ("weights that are not finite are saved", "if not is_finite(self.model):", "if False:"),
        ],
        "Run.log": [
            ("NaN in metrics.jsonl", "json.dumps(line, allow_nan=False)", "json.dumps(line)"),
        ],
        "signals": [
            ("SIGTERM has no handler", "[signal.SIGINT, signal.SIGTERM]", "[signal.SIGINT]"),
            ("a closed terminal ends the run", "numbers.append(HANG_UP)", "pass"),
            (
                "the handlers that were there do not come back",
                "signal.signal(number, handler)",
                "pass",
            ),
        ],
        "Run.ask_to_stop": [
            ("a second signal is answered like the first", "return False", "return True"),
        ],
    },
    "support/start.py": {
        "load_optimizer": [
            (
                "resume: the moments of Adam are swapped",
                '{key: tensors[f"{name}/{key}"] for key in keys}',
                '{key: tensors[f"{name}/{old}"] for key, old in zip(keys, ("step", "exp_avg_sq", "exp_avg"))}',
            ),
        ],
        "read_checkpoint": [
            (
                "resume: the optimizer is not restored",
                'load_optimizer(run, path / "optimizer.safetensors")',
                "pass",
            ),
            (
                "resume: the cursor is not restored",
                'load_optimizer(run, path / "optimizer.safetensors")',
                'load_optimizer(run, path / "optimizer.safetensors")\nrun.state.cursor = 0',
            ),
            (
                "resume: stage_step is not restored",
                'load_optimizer(run, path / "optimizer.safetensors")',
                'load_optimizer(run, path / "optimizer.safetensors")\nrun.state.stage_step = 0',
            ),
            ("resume: an empty state is a run's start", ", whole=True", ""),
            ("resume: parts may be missing", "disk.check_manifest(path)", "pass"),
        ],
        "load_checkpoint": [
            (
                "resume: from the oldest checkpoint",
                "in reversed(found)",
                "in found",
            ),
        ],
        "resumed_config": [
            (
                "resume: options given again are ignored",
                "Config(**(options | given | {",
                "Config(**(given | options | {",
            ),
        ],
        "resumed_run": [
            (
                "resume: lines of metrics are doubled",
                'disk.keep_steps(folder / "metrics.jsonl", run.state.step)',
                "None",
            ),
            ("a resumed run is not locked", "locked = disk.lock(folder)", "locked = None"),
            ("what was left half written stays", "disk.remove(path)", "pass"),
        ],
        "check_same_data": [
            ("resume: other questions are accepted", '!= {"sha256"', '== {"sha"'),
        ],
        "new_run": [
            (
                "the data is not found again from another folder",
                "config.data = absolute(config.data)",
                "pass",
            ),
        ],
    },
    "support/rows.py": {
        "read_file": [
            ("tabs separate nothing", 'if suffix == ".csv" else', "if True else"),
        ],
        "read_lines": [
            ("blank lines are not counted", 'f"line {number}"', 'f"line {len(rows) + 1}"'),
        ],
    },
    "support/terminal.py": {
        "visible": [
            ("escapes are obeyed", "CONTROL.sub(", "re.compile('$^').sub("),
        ],
        "CalmStream.write": [
            ("a pipe that closes ends the run", "(OSError, ValueError)", "ValueError"),
        ],
    },
    "support/disk.py": {
        "free_name": [
            ("a link to nowhere is a free name", "os.path.lexists(found)", "os.path.exists(found)"),
        ],
        "new_folder": [
            (
                "a folder with files in it is written to",
                "not (folder.is_dir() and not any(folder.iterdir()))",
                "not folder.is_dir()",
            ),
        ],
        "try_folder": [
            (
                "an empty folder that was there is removed",
                "if not os.path.lexists(path)]",
                "]",
            ),
            ("no empty folder is removed", "path.rmdir()", "pass"),
        ],
        "lock": [
            ("two processes work in one run's folder", "own.acquire()", "pass"),
        ],
        "put_all": [
            (
                "what is written has its name before it is on the disk",
                "                flush(path)\n",
                "                pass\n",
            ),
            (
                "a file has its name before all are whole",
                "flush(path)",
                "os.replace(path, folder / path.name)\nflush(folder)",
            ),
            ("any folder is replaced", "if again and", "if"),
            (
                "a stage is not replaced",
                "if again and os.path.lexists(folder / path.name):",
                "if False:",
            ),
        ],
        "remove": [
            (
                "a folder that is removed by half looks whole",
                "os.replace(path, Path(beside) / path.name)",
                "shutil.rmtree(path)",
            ),
        ],
        "as_kind": [
            ("numbers of a state have no bounds", "if least <= ", "if True or least <= "),
        ],
        "as_dataclass": [
            (
                "a config of another program is read",
                'raise ValueError(f"{name} is unknown")',
                "values = {}",
            ),
        ],
        "append_line": [
            ("metrics are written through a link", " | NO_LINK", ""),
        ],
        "write_json": [
            (
                "JSON is written in place",
                "put(path, lambda made: made.write_bytes(to_json(value)))",
                "path.write_bytes(to_json(value))",
            ),
        ],
        "keep_steps": [
            (
                "resume: the last step of the checkpoint is cut from the metrics",
                "step <= last",
                "step < last",
            ),
        ],
    },
    "support/report.py": {
        "report": [
            (
                "the summary compares the start with itself",
                '"after": {mode: table[-1][mode]',
                '"after": {mode: table[0][mode]',
            ),
            (
                "the summary's compute is in tokens",
                '"flops": state.flops',
                '"flops": state.generated_tokens',
            ),
            ("the table leaves out the start", "for entry in table:", "for entry in table[1:]:"),
        ],
    },
    "answers/algebra.py": {
        "atoms": [
            ("an interval has its open ends", '+ (piece.brackets[0] == "(")', "+ 0"),
        ],
        "real_set": [
            ("a hole is closed", '"(["[first % 2]', '"[["[first % 2]'),
        ],
        "both": [
            ("an intersection is a union", '(combine, r"\\cap")', '(combine, r"\\cup")'),
        ],
        "bounds": [
            ("|x| < 1 is x < 1", 'if any(part[:1] == ["|"] for part in parts):', "if False:"),
        ],
        "ratio": [
            ("1:2:3 is 1/6", "shares[0] if len(shares) == 2", "shares[0] if shares"),
        ],
        "begins_factor": [
            (
                "2 3^n is a product",
                'is_power and (tokens[-1][0] not in DIGITS or tokens[-2:-1] == ["^"])',
                "is_power",
            ),
            ("(1) 5 is a product", "not is_label and (", "True and ("),
        ],
        "same_members": [
            (
                "a list that contains the answer is right",
                "a_in_b and all(any(same(x, y) for x in a.items) for y in b.items)",
                "a_in_b",
            ),
        ],
        "same_formula": [
            ("almost equal is equal", "MP.mag(u) - ZERO_BITS for u, v", "MP.mag(u) - 40 for u, v"),
        ],
    },
    "support/memory.py": {
        "memory_advice": [
            (
                "a CPU's full memory is taken for a fault",
                '"not enough memory", "can\'t allocate memory")',
                '"not enough memory")',
            ),
            (
                "any RuntimeError is taken for full memory",
                "if isinstance(error, RuntimeError) and not any(",
                "if False and not any(",
            ),
        ],
    },
    "bench/runs.py": {
        "tfpi_then_rl": [
            ("RL after TFPI costs nothing for TFPI", "spent = tfpi.total_flops()", "spent = 0"),
        ],
        "spread": [
            (
                "the spread over seeds with the deviation of a population",
                "np.std(rows, axis=0, ddof=1)",
                "np.std(rows, axis=0)",
            ),
        ],
        "read_runs": [
            ("half-evaluated runs are drawn", 'if (path / "evaluated").exists():', "if True:"),
        ],
    },
    "examples/trl_tfpi.py": {
        "make_rows": [
            ("TRL's start token stands there twice", "text.removeprefix(start)", "text"),
        ],
        "main": [
            ("each stage of TRL has the same prompts", "cursor += len(problems)", "pass"),
        ],
    },
    "support/config.py": {
        "check_evaluation": [
            ("a question is asked eight times", "options.k = options.show = 1", "options.show = 1"),
        ],
        "find_settings": [
            (
                "a stage's folder does not have its run's settings",
                'return saved | {"ranks": 0, "threads": 0}',
                'return {"model": model}',
            ),
            (
                "a preset can be changed by whoever asks for it",
                "return dict(PRESETS[model])",
                "return PRESETS[model]",
            ),
        ],
    },
    "support/page.py": {
        "escape": [
            ("a text is HTML", "html.escape(visible(text))", "visible(text)"),
            (
                "a page obeys what turns the direction of writing",
                "html.escape(visible(text))",
                "html.escape(str(text))",
            ),
        ],
        "write_problem": [
            (
                "each stage shows what was written before",
                "one.samples[mode]) for mode in MODES)",
                "shown[0].samples[mode]) for mode in MODES)",
            ),
            (
                "the filters know one mode alone",
                "one.samples[mode].correct for",
                "one.samples[MODES[0]].correct for",
            ),
        ],
        "write_text": [
            ("of a long response the end is missing", "size - half, size", "half, size - half"),
        ],
        "fill": [
            ("the policy stops the page's own script", "own.encode()", "name.encode()"),
        ],
        "find_samples": [
            (
                "samples of other problems stand side by side",
                "if [one.problem for one in shown] != [one.problem for one in found[0]]:",
                "if False:",
            ),
        ],
    },
    "support/samples.py": {
        "find_thinking": [
            ("a thought that was cut off is an answer", "if opened > closed:", "if False:"),
        ],
        "find_marks": [
            ("the first box is marked", "[*boxes][-1:]", "[*boxes][:1]"),
        ],
        "pieces": [
            ("a mark never ends", "turns[end][kind] -= 1", "pass"),
        ],
    },
    "support/show.py": {
        "show": [
            ("colours in a pipe", "colors = terminal and not", "colors = not"),
        ],
        "cells": [
            ("a model writes to the terminal", "visible(piece).expandtabs(4)", "piece"),
        ],
        "wrap": [
            ("a row is broken in a word", "blank or len(rows[-1])", "len(rows[-1])"),
        ],
    },
}

LIKELY = {
    "thinkfree.py": ["thinkfree", "tfpi"],
    "tfpi.py": ["tfpi", "wiring", "figures", "model", "run", "reliability"],
    "grpo.py": ["grpo", "figures", "logprobs", "offload", "tfpi", "ranks"],
    "logprobs.py": ["logprobs", "grpo", "recompute"],
    "rollout.py": ["rollout", "logprobs"],
    "cache.py": ["cache", "rollout"],
    "support/attention.py": ["cache", "rollout"],
    "support/graphs.py": ["rollout"],
    "reward.py": ["reward", "reward_golden"],
    "eval.py": ["eval", "figures", "wiring", "options", "tfpi", "ranks"],
    "problems.py": ["data", "problems"],
    "distill.py": ["distill", "commands"],
    "answers/algebra.py": ["reward_golden", "reward", "reward_fuzz"],
    "answers/spelling.py": ["reward", "reward_golden", "reward_fuzz"],
    "answers/tokens.py": ["reward_golden", "reward", "reward_fuzz"],
    "answers/units.py": ["reward_golden", "reward", "reward_fuzz"],
    "support/cli.py": ["options", "commands"],
    "lesson/arithmetic.py": ["problems"],
    "support/config.py": ["options", "commands", "bad_input", "run", "samples"],
    "support/disk.py": ["safety", "reliability", "commands", "run"],
    "support/memory.py": ["bad_input"],
    "support/model.py": ["model", "wiring", "rollout", "bad_input", "no_code"],
    "support/page.py": ["page"],
    "support/plan.py": ["plan"],
    "support/plot.py": ["commands", "report", "paper"],
    "support/offload.py": ["offload"],
    "support/recompute.py": ["recompute"],
    "support/report.py": ["report", "eval", "run"],
    "support/rows.py": ["data", "bad_input"],
    "support/samples.py": ["samples", "page"],
    "support/show.py": ["samples"],
    "support/ranks.py": ["ranks"],
    "support/run.py": [
        "ranks",
        "offload",
        "safety",
        "wiring",
        "options",
        "figures",
        "reliability",
        "run",
    ],
    "support/start.py": ["reliability", "safety", "run", "data"],
    "lesson/teacher.py": ["distill"],
    "support/terminal.py": ["safety"],
    "bench/figures.py": ["paper"],
    "bench/runs.py": ["paper"],
    "examples/trl_tfpi.py": ["examples"],
}
