"""Writes tests/fixtures/align/trl.json: losses and gradients computed by TRL's own code, in float64.

TRL has DPO with and without label smoothing, IPO, the logistic rank loss without a reference (CPO and, per
token, SimPO), the reward model's loss and SFT. Each case is a problem of align_fixtures.py. The script
writes nothing unless TRL's results agree with torch autograd in align_fixtures.py and with
objective_numpy.py. Run with a Python that has trl, torch and numpy:
  python trl_fixtures.py ../fixtures/align"""
import json
import pathlib
import sys
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import torch
from trl import DPOTrainer, RewardTrainer
from trl.experimental.cpo import CPOTrainer

import objective_numpy
from align_fixtures import DEFAULT, clean, objective_case

PLAIN = [(0, 1, 0.0, 1.0), (3, 2, 0.0, 1.0), (4, 8, 0.0, 1.0), (6, 7, 0.0, 1.0)]
DOUBTED = [(0, 1, 0.0, 1.0), (3, 2, 0.1, 1.0), (4, 8, 0.0, 0.25), (1, 7, 0.3, 2.0)]


def trainer(model, **own):
    """Returns an object with the parts of a trainer that TRL's losses use: settings, and a place
    for metrics."""
    gather = SimpleNamespace(device="cpu", gather=lambda x: x, gather_for_metrics=lambda x: x)
    return SimpleNamespace(model=model, accelerator=gather, aux_loss_enabled=False, ld_alpha=None,
                           use_weighting=False, precompute_ref_logps=True, loss_weights=[1.0],
                           f_divergence_type="reverse_kl", _total_train_tokens=0, _tp_size=1,
                           _metrics=dict(train=defaultdict(list)), **own)


class Answers:
    """A model that has a given log-prob for every sequence, divided over its tokens in the ratio
    1 : 2 : 3 ..."""
    training = True

    def __init__(self, s, length):
        mask = torch.arange(1 + int(length.max())) <= length[:, None]
        self.mask = mask & (torch.arange(1 + int(length.max())) > 0)
        share = self.mask[:, 1:] * torch.arange(1, 1 + int(length.max()), dtype=torch.float64)
        self.log_probs = s[:, None] * share / share.sum(1, keepdim=True)

    def __call__(self, **_):
        nothing = torch.zeros_like(self.log_probs)
        return SimpleNamespace(log_probs=self.log_probs, entropy=nothing, mean_logits=nothing,
                               is_top1=nothing.bool())


def by_dpo_trainer(case, kind, s, score):
    """Computes the loss with DPOTrainer._compute_loss, with all pairs as one batch of equal weights.
    `aot` sorts its batch; so it gets one pair at a time, and is then DPO with label smoothing."""
    length, ref = torch.tensor(case["len"]), torch.tensor(case["logp_ref"], dtype=torch.float64)
    pairs, total = case["pair"], 0
    one = kind == "aot"
    for batch in ([[q] for q in pairs] if one else [pairs]):
        win, lose = ([q[i] for q in batch] for i in (0, 1))
        model = Answers(s[win + lose], length[win + lose])
        beta, doubt = case["param"].get("beta", 0.1), case["param"].get("label_smoothing", 0.0)
        own = trainer(model, loss_types=[kind], beta=beta,
                      label_smoothing=doubt + (batch[0][2] if one else 0))
        inputs = dict(input_ids=model.mask.long(), attention_mask=torch.ones_like(model.mask),
                      completion_mask=model.mask.long(), ref_chosen_logps=ref[win],
                      ref_rejected_logps=ref[lose])
        loss = DPOTrainer._compute_loss(own, model, inputs, False)
        total = total + case["scale"] * loss * (batch[0][3] if one else len(batch))
    return total


def by_cpo_trainer(case, kind, s, score):
    """Computes the loss with CPOTrainer.cpo_loss. It compares two values of a pair: log-ratios for DPO and
    IPO, log-probs for psle."""
    p, total = case["param"], 0
    if case["objective"] == "psle": # psle with rank_loss logistic
        x = s / torch.tensor(case["len"]) if p.get("length_normalize", True) else s
    else:
        x = s - torch.tensor(case["logp_ref"], dtype=torch.float64)
    for w, l, e, c in case["pair"]:
        own = trainer(None, alpha=0.0, loss_type=kind, beta=p.get("beta", 0.1), simpo_gamma=0.0,
                      label_smoothing=e + p.get("label_smoothing", 0.0))
        total = total + case["scale"] * c * CPOTrainer.cpo_loss(own, x[w:w + 1], x[l:l + 1])[0][0]
    return total


def by_reward_trainer(case, kind, s, score):
    win, lose = ([q[i] for q in case["pair"]] for i in (0, 1))
    model = lambda **_: SimpleNamespace(logits=score[win + lose][:, None])
    own = trainer(SimpleNamespace(training=True), args=SimpleNamespace(center_rewards_coefficient=None))
    inputs = dict(attention_mask=torch.ones(1))
    return case["scale"] * len(win) * RewardTrainer.compute_loss(own, model, inputs)


def by_sft_loss(case, kind, s, score):
    """Computes the loss `sft` of DPOTrainer: the mean over the tokens of the chosen answers."""
    n = case["n"]
    model = Answers(torch.cat([s, s.detach()]), torch.tensor(case["len"] * 2))
    own = trainer(model, loss_types=["sft"], beta=0.1, label_smoothing=0.0)
    nothing = torch.zeros(n, dtype=torch.float64)
    inputs = dict(input_ids=model.mask.long(), attention_mask=torch.ones_like(model.mask),
                  completion_mask=model.mask.long(), ref_chosen_logps=nothing,
                  ref_rejected_logps=nothing)
    return DPOTrainer._compute_loss(own, model, inputs, False)


def agree(what, a, b):
    a, b = np.asarray(a, float), np.asarray(b, float)
    worst = np.max(np.abs(a - b) / np.maximum(1, np.abs(b)))
    assert worst < 1e-13, (what, worst)


def trl_case(rng, source, fn, kind, name, pairs, **over):
    case = objective_case(rng, name, pairs=pairs, weighted=False, **over)
    if name == "sft":
        case.update(weight=[1.0] * case["n"], scale=1.0 / case["n"], mean_len=float(np.mean(case["len"])))
    s, score = (torch.tensor(case[k], dtype=torch.float64, requires_grad=True) for k in ("logp", "score"))
    loss = fn(case, kind, s, score)
    loss.backward()
    grads = [np.zeros(case["n"]) if v.grad is None else v.grad.numpy() for v in (s, score)]
    where = f"{name} by {source}"
    if name != "sft":
        agree(where + ", torch: loss", loss.item(), case["loss"])
        agree(where + ", torch: dlogp", grads[0], case["dlogp"])
        agree(where + ", torch: dscore", grads[1], case["dscore"])
    case.update(source=source, loss=loss.item(), dlogp=grads[0], dscore=grads[1])
    objective_numpy.check(case, {**DEFAULT, **case["param"]})
    return case


def cases():
    rng = np.random.default_rng(51)
    case = lambda *a, **k: trl_case(rng, *a, **k)
    dpo, cpo = "DPOTrainer, loss_type ", "CPOTrainer, loss_type "
    return [case(dpo + "sigmoid", by_dpo_trainer, "sigmoid", "dpo", PLAIN),
            case(dpo + "sigmoid", by_dpo_trainer, "sigmoid", "dpo", PLAIN, beta=0.5),
            case(dpo + "aot", by_dpo_trainer, "aot", "dpo", DOUBTED),
            case(dpo + "aot", by_dpo_trainer, "aot", "dpo", DOUBTED, beta=0.3, label_smoothing=0.2),
            case(cpo + "sigmoid", by_cpo_trainer, "sigmoid", "dpo", DOUBTED, label_smoothing=0.1),
            # TRL's IPO divides log-ratios by the length. plumb's IPO does not, like the paper. So
            # the cases with DPOTrainer have answers of one token.
            case(dpo + "ipo", by_dpo_trainer, "ipo", "ipo", PLAIN, one_token=True),
            case(dpo + "ipo", by_dpo_trainer, "ipo", "ipo", PLAIN, one_token=True, beta=0.4),
            case(cpo + "ipo", by_cpo_trainer, "ipo", "ipo", PLAIN),
            case(cpo + "ipo", by_cpo_trainer, "ipo", "ipo", PLAIN, beta=0.02),
            case(dpo + "sigmoid", by_dpo_trainer, "sigmoid", "psle", PLAIN, rank_loss="dpo"),
            case(cpo + "sigmoid", by_cpo_trainer, "sigmoid", "psle", DOUBTED, rank_loss="logistic",
                 length_normalize=False),
            case(cpo + "simpo", by_cpo_trainer, "simpo", "psle", DOUBTED, rank_loss="logistic", beta=2.0),
            case("RewardTrainer", by_reward_trainer, "", "reward", PLAIN),
            case(dpo + "sft", by_sft_loss, "", "sft", [])]


def main(folder):
    text = ",\n".join(json.dumps(clean(c)) for c in cases())
    (pathlib.Path(folder) / "trl.json").write_text("[\n" + text + "\n]\n")


if __name__ == "__main__":
    main(sys.argv[1])
