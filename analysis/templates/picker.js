"use strict";
// Once for each picker that appears: on the page of a sweep that runs it comes with the first results.
const startPicker = () => {
  const box = document.getElementById("picker-box");
  if (!box || !box.hidden) return;
  const read = () => JSON.parse(document.getElementById("data-picker").textContent);
  const form = box.querySelector("form");
  const at = (name) => document.getElementById(`picker-${name}`);
  let data = read(), isKnee = false;
  const each = [...data.axes.keys()];
  const SAME = 1e-6; // losses have six decimals

  // The largest weighted loss, with a thousandth of the sum of all; less is better.
  function score(losses, weights) {
    const largest = Math.max(...weights);
    const weighted = each.map((k) => (largest ? weights[k] / largest : 1) * losses[k]);
    return Math.max(...weighted) + data.sum_share * losses.reduce((sum, loss) => sum + loss, 0);
  }
  // By how much of its range each axis misses its level.
  const missedBy = (losses, levels) => each.map((k) => {
    const missed = losses[k] - (1 - levels[k] / data.steps);
    return missed < SAME ? 0 : missed;
  });
  // Points that meet every level come first, then those that miss by less, then by score.
  function choose(weights, levels) {
    const missed = data.points.map((point) => Math.max(...missedBy(point.losses, levels)));
    const near = data.points.map((_, p) => p).filter((p) => missed[p] <= Math.min(...missed) + SAME);
    const scores = near.map((p) => score(data.points[p].losses, weights));
    return near.filter((_, n) => scores[n] <= Math.min(...scores) + SAME);
  }

  const written = (axis, value, decimals) => (value * axis.factor).toFixed(decimals).replace("-", "\u2212");
  const quoted = (text) => /^[\w@%+=:,./~-]+$/.test(text) ? text : `'${text.replace(/'/g, "'\\''")}'`;
  const whichSeed = (n) => n < 2 ? ""
    : `, ${n === 2 ? "the better" : n % 2 ? "the middle one" : "the better of the two middle ones"} of ${n} at equal weights`;
  const set = (kind) => each.map((k) => Number(at(`${kind}-${k}`).value));

  function show() {
    const weights = set("weight"), levels = set("level");
    at("knee").hidden = data.knee === null;
    each.forEach((k) => {
      const axis = data.axes[k], share = levels[k] / data.steps;
      const value = axis.worst + (axis.best - axis.worst) * share;
      const asked = share ? `${written(axis, value, axis.decimals)} ${axis.unit}` : "any";
      at(`weight-${k}-shown`).textContent = weights[k];
      at(`level-${k}-shown`).textContent = asked;
      at(`level-${k}`).setAttribute("aria-valuetext", asked);
    });
    const equal = isKnee ? [data.knee] : choose(weights, levels);
    const index = equal[0], point = data.points[index];
    const where = point.priorities ? ` at priorities ${point.priorities}` : "";
    const choice = `${isKnee ? "Knee point: " : ""}${point.arm}${where}`;
    // Said aloud only when it changes.
    if (at("choice").textContent !== choice) at("choice").textContent = choice;
    at("choice").className = `choice arm${point.colour}`;
    at("order").hidden = !where;
    each.forEach((k) => {
      at(`value-${k}`).textContent = point.shown[k];
      at(`meter-${k}`).value = 1 - point.losses[k];
    });
    const missed = isKnee ? each.map(() => 0) : missedBy(point.losses, levels);
    const lacking = each.filter((k) => missed[k]);
    at("missed").hidden = !lacking.length;
    at("missed").textContent = "No point reaches all of that. This one misses by least: " + lacking.map((k) => {
      const axis = data.axes[k], gap = Math.abs(axis.best - axis.worst) * missed[k];
      return `${axis.name} by ${written(axis, gap, axis.decimals + 1)} ${axis.gap_unit}`;
    }).join(", ") + ".";
    const isDefault = !isKnee && new Set(weights).size === 1 && !levels.some(Boolean);
    at("sure").textContent = isDefault ? data.sure
      : equal.length > 1 ? `${equal.length} points are equally good by these wishes; this is the first of them.` : "";
    if (data.from_store) {
      at("run").hidden = !point.run;
      at("no-network").hidden = Boolean(point.run);
      at("seed").textContent = `seed ${point.seed}${whichSeed(point.num_seeds)}`;
      at("command").textContent = `python -m mtl.predict ${quoted(at("store").value.trim() || "STORE")} ${point.run} IMAGE...`;
    }
    Object.assign(box.dataset, { index, equal: equal.length });
  }

  form.addEventListener("input", () => { isKnee = false; show(); });
  form.addEventListener("reset", () => { isKnee = false; setTimeout(show); });
  form.addEventListener("submit", (event) => event.preventDefault());
  at("knee").addEventListener("click", () => { isKnee = true; show(); });
  document.addEventListener("changed", () => {
    data = read();
    isKnee = isKnee && data.knee !== null;
    show();
  });
  // Where the page lies in a sweep of its store, its address names the folder; the file holds none.
  const inStore = decodeURIComponent(location.pathname)
    .match(/^(.+)\/sweeps\/[^/]+\/report\/(?:[^/]+\/)?report\.html$/);
  if (at("store") && location.protocol === "file:" && inStore) at("store").value = inStore[1];
  if (at("store")) at("store").addEventListener("input", show);
  box.hidden = false;
  form.reset();
  show();
};
startPicker();
