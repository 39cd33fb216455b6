"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data-picker").textContent);
  const box = document.getElementById("picker-box");
  const form = box.querySelector("form");
  const at = (name) => document.getElementById(`picker-${name}`);
  const numAxes = data.axes.length;
  const each = [...Array(numAxes).keys()];

  // The same steps, in the same order, as analysis/picker.py: both come to the same last bit.
  const meanOf = (point) =>
    each.map((k) => point.losses.reduce((sum, of) => sum + of[k], 0) / point.seeds.length);
  const means = data.points.map(meanOf);
  const place = new Map(data.seeds.map((seed, number) => [seed, number]));
  const resampled = data.draws.map((draw) => data.points.map((point, p) => {
    const n = point.seeds.length;
    const counts = point.seeds.map((seed) => draw[place.get(seed)]);
    const total = counts.reduce((sum, count) => sum + count, 0);
    if (n < 2 || total === 0) return means[p];
    const widening = Math.sqrt(n / (n - 1));
    return each.map((k) => {
      const drawn = counts.reduce((sum, count, s) => sum + count * point.losses[s][k], 0) / total;
      return means[p][k] + widening * (drawn - means[p][k]);
    });
  }));
  function score(losses, weights) {
    const largest = Math.max(...weights);
    let result = -Infinity, total = 0;
    for (const k of each) {
      const share = largest ? weights[k] / largest : 1;
      result = Math.max(result, share * losses[k]);
      total += losses[k];
    }
    return result + data.sum_share * total;
  }
  function shortfall(losses, levels) {
    let missed = 0;
    for (const k of each) {
      missed = Math.max(missed, losses[k] - (data.steps - levels[k]) * (data.unit / data.steps));
    }
    return missed < 1 ? 0 : missed;
  }
  // All that are equally good, the first first.
  function least(rows, weights, levels) {
    let equal = [], bestMissed = Infinity, bestScore = Infinity;
    rows.forEach((losses, p) => {
      const missed = shortfall(losses, levels);
      if (missed > bestMissed) return;
      const own = score(losses, weights);
      if (missed < bestMissed || own < bestScore) [equal, bestMissed, bestScore] = [[p], missed, own];
      else if (own === bestScore) equal.push(p);
    });
    return equal;
  }
  function middleSeed(point, weights) {
    const ranked = point.losses
      .map((losses, s) => [score(losses, weights), s])
      .sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    return ranked[Math.floor((ranked.length - 1) / 2)][1];
  }

  const written = (axis, value, decimals) => (value * axis.factor).toFixed(decimals).replace("-", "\u2212");
  const levelValue = (axis, loss) => axis.worst + (axis.best - axis.worst) * (1 - loss);
  const quoted = (text) => /^[\w@%+=:,./~-]+$/.test(text) ? text : `'${text.replace(/'/g, "'\\''")}'`;
  function whichSeed(n) {
    const of = n < 2 ? "" : n === 2 ? ", the better of 2" : n % 2 ? `, the middle one of ${n}` : `, the better of the two middle ones of ${n}`;
    return of && `${of} by these weights`;
  }
  const read = (kind) => each.map((k) => Number(at(`${kind}-${k}`).value));

  function show(knee) {
    const weights = read("weight"), levels = read("level");
    each.forEach((k) => {
      const axis = data.axes[k], level = levels[k];
      const asked = level
        ? `${written(axis, levelValue(axis, 1 - level / data.steps), axis.decimals)} ${axis.unit}` : "any";
      at(`weight-${k}-shown`).textContent = weights[k];
      at(`level-${k}-shown`).textContent = asked;
      at(`level-${k}`).setAttribute("aria-valuetext", asked);
    });
    const equal = knee ? [data.knee] : least(means, weights, levels);
    const index = equal[0], isTied = equal.length > 1;
    const point = data.points[index], missed = knee ? 0 : shortfall(means[index], levels);
    const where = point.priorities ? ` at priorities ${point.priorities}` : "";
    const choice = `${knee ? "Knee point: " : ""}${point.arm}${where}`;
    // Said aloud only when it changes.
    if (at("choice").textContent !== choice) at("choice").textContent = choice;
    at("choice").className = `choice arm${point.colour}`;
    at("order").hidden = !where;
    each.forEach((k) => {
      at(`value-${k}`).textContent = point.shown[k];
      at(`meter-${k}`).value = 1 - means[index][k] / data.unit;
    });
    const lacking = each.filter((k) => missed && means[index][k] - (data.steps - levels[k]) * (data.unit / data.steps) >= 1);
    at("missed").hidden = !lacking.length;
    at("missed").textContent = lacking.length ? "No point reaches all of that. This one misses by least: " + lacking.map((k) => {
      const axis = data.axes[k];
      const gap = Math.abs(axis.best - axis.worst) * (means[index][k] / data.unit - 1 + levels[k] / data.steps);
      return `${axis.name} by ${written(axis, gap, axis.decimals + 1)} ${axis.gap_unit}`;
    }).join(", ") + "." : "";
    const agreeing = isTied ? 0 : resampled.filter((rows) => {
      const found = least(rows, weights, levels);
      return found.length === 1 && found[0] === index;
    }).length;
    at("sure").textContent = knee ? "The sliders have no say in the knee point."
      : isTied ? `${equal.length} points are equally good by these wishes; this is the first of them.`
      : !resampled.length ? "One seed: nothing says how sure this choice is."
      : `How sure: ${agreeing} of ${resampled.length} resamples of the seeds choose the same point.`;
    const s = middleSeed(point, weights);
    if (data.from_store) {
      at("run").hidden = !point.runs[s];
      at("no-network").hidden = Boolean(point.runs[s]);
      at("seed").textContent = `seed ${point.seeds[s]}${whichSeed(point.seeds.length)}`;
      at("command").textContent = `python -m mtl.predict ${quoted(at("store").value.trim() || "STORE")} ${point.runs[s]} IMAGE...`;
    }
    Object.assign(box.dataset, { index, seed: point.seeds[s], missed, equal: equal.length, agreeing: resampled.length && !isTied ? agreeing : "" });
  }

  let isKnee = false;
  form.addEventListener("input", () => { isKnee = false; show(false); });
  form.addEventListener("reset", () => { isKnee = false; setTimeout(() => show(false)); });
  form.addEventListener("submit", (event) => event.preventDefault());
  if (at("knee")) at("knee").addEventListener("click", () => { isKnee = true; show(true); });
  // Where the page lies in a sweep of its store, its own place tells the folder; the file holds none.
  const inStore = decodeURIComponent(location.pathname)
    .match(/^(.+)\/sweeps\/[^/]+\/report\/(?:[^/]+\/)?report\.html$/);
  if (at("store") && location.protocol === "file:" && inStore) at("store").value = inStore[1];
  if (at("store")) at("store").addEventListener("input", () => show(isKnee));
  box.hidden = false;
  form.reset();
  show(false);
})();
