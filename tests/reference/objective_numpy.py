"""Computes every objective in numpy, in another form than align_fixtures.py does with torch:
closed forms instead of sums, scalars instead of tensors. Derivatives are computed by the
complex step, f'(x) = Im f(x + i h) / h, in which nothing cancels. align_fixtures.py writes a
case only if both results agree."""
import numpy as np

STEP = 1e-30


def softplus(z):
    """Returns log(1 + e^z) for complex z, computed without overflow."""
    return z + np.log(1 + np.exp(-z)) if z.real > 0 else np.log(1 + np.exp(z))


def entropy(z):
    """Returns the entropy, in nats, of a binary choice with log-odds z."""
    return np.log1p(np.exp(-z)) + z * np.exp(-z) / (1 + np.exp(-z))


def temperature(h, rho):
    """Returns the temperature t at which the derivative of the loss of aps by t is 0:
    entropy(|h| / t) = -rho."""
    low, high = 0.0, 700.0
    for _ in range(2000):
        z = (low + high) / 2
        low, high = (z, high) if entropy(z) > -rho else (low, z)
    return min(max(abs(h) / low, 0.1), 5.0)


def pair(kind, p, s, ref, x, reward, score, w, l, e):
    if kind in ("hinge", "hinge_prob"):
        a, b = (x[w], x[l]) if kind == "hinge" else (np.exp(x[w]), np.exp(x[l]))
        return b - a if b.real > a.real else 0.0
    if kind == "ipo":
        return ((s[w] - s[l]) - (ref[w] - ref[l]) - 0.5 / p["beta"]) ** 2
    h = p["beta"] * ((s[w] - s[l]) - (ref[w] - ref[l]))
    if kind == "aps":
        t = temperature(h.real, p["rho"])
        return t * (softplus(-h / t) + p["rho"])
    if kind == "logistic":
        h = p["beta"] * (x[w] - x[l])
    elif kind == "reward":
        h = score[w] - score[l]
    else:
        e = e + p["label_smoothing"]
    if kind == "dlma":
        h = h - p["margin_beta"] * np.clip(reward[w] - reward[l], -p["margin_limit"], p["margin_limit"])
    # equals (1 - e) softplus(-h) + e softplus(h), because softplus(h) - softplus(-h) = h
    return (softplus(-h) + e * h) * (reward[w] - reward[l] if kind == "rdo" else 1)


def vcb(p, s, x, y, ref, r):
    u = s - p["reference_weight"] * ref - p["lambda"] * r / (np.std(r) + 1e-6)
    m = len(u)
    return 2 / (m - 1) * ((u * u).sum() - u.sum() ** 2 / m)


def rrhf(p, s, x, y, ref, r):
    order = np.argsort(r)
    gaps = [x[i] - x[j] for a, i in enumerate(order) for j in order[a + 1:]]
    return sum(g for g in gaps if g.real > 0) - p["sft_weight"] * y[order[-1]]


def lire(p, s, x, y, ref, r):
    best = s.real.max()
    q, rho = np.exp((s - best) / p["list_temperature"]), np.exp(r - r.max())
    return -(q * rho).sum() / (q.sum() * rho.sum())


def pro(p, s, x, y, ref, r):
    order = np.argsort(-r)
    loss = -p["sft_weight"] * y[order[0]]
    for k, best in enumerate(order[:-1]):
        # the factor of the best answer is the largest reward gap, that to the last answer
        own = (r[best] - r[order[-1]]) * x[best]
        loss = loss + np.log(1 + sum(np.exp((r[best] - r[i]) * x[i] - own) for i in order[k + 1:]))
    return loss


GROUPS = dict(vcb=vcb, rrhf=rrhf, lire=lire, pro=pro)
KINDS = ("dpo", "ipo", "reward", "rdo", "aps", "dlma")


def loss(case, p, s, score):
    name, ref, reward = case["objective"], np.array(case["logp_ref"]), np.array(case["reward"])
    weight, length = np.array(case["weight"]), np.array(case["len"])
    x = s / length if p["length_normalize"] else s
    share = dict(token=1 / case["mean_len"], sequence=1 / length, sum=1)[p["loss_aggregation"]]
    y = s * share
    kind = name if name in KINDS else "dpo" if name == "selm" else p["rank_loss"]
    total = sum(c * pair(kind, p, s, ref, x, reward, score, w, l, e) for w, l, e, c in case["pair"])
    if name in GROUPS:
        ends = case["group"]
        total = sum(GROUPS[name](p, s[a:b], x[a:b], y[a:b], ref[a:b], reward[a:b])
                    for a, b in zip(ends, ends[1:]))
    if name == "selm":
        total = total + p["optimism"] * p["beta"] * (weight * (s - ref) * share).sum()
    if name in ("psle", "sft"):
        total = total - (weight * y).sum()
    return case["scale"] * total


def derivatives(f, at):
    out = np.zeros(len(at))
    for i in range(len(at)):
        z = np.array(at, complex)
        z[i] += 1j * STEP
        out[i] = np.imag(f(z)) / STEP
    return out


def check(case, p):
    """Fails if the loss or the derivatives in the case differ from those computed here."""
    s, score = np.array(case["logp"], complex), np.array(case["score"], complex)
    for what, got, want in (
            ("loss", np.real(loss(case, p, s, score)), case["loss"]),
            ("dlogp", derivatives(lambda z: loss(case, p, z, score), case["logp"]), case["dlogp"]),
            ("dscore", derivatives(lambda z: loss(case, p, s, z), case["score"]), case["dscore"])):
        off = np.max(np.abs(got - np.array(want)) / np.maximum(1, np.abs(want)))
        assert off < 1e-12, (case["objective"], case["param"], what, off)
