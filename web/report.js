// Draws the report from the JSON in the element "data" (the keys: web/README.md), by the figures of chart.js. Any key
// may be null or absent; a part without data says so in words or is left out. What is shown (step, k, split, ...) is the
// state, and the state is in the address, so that a link opens the same view.
(function () {
  'use strict';

  const { element, number, isNumber, list } = Charts;
  const LOADED = performance.now(), errors = [];

  // ---------------------------------------------------------------------------------------------- small helpers

  const byId = (id) => document.getElementById(id);
  const hasNumbers = (x) => list(x).some(isNumber);
  const unique = (x) => x.filter((value, i) => x.indexOf(value) === i);
  const ascending = (x) => x.slice().sort((a, b) => a - b);
  const plural = (n, noun) => `${number(n)} ${noun}${n === 1 ? '' : 's'}`;
  const percent = (x) => (isNumber(x) ? `${number(100 * x)} %` : '–');
  const upTo = (n) => Array.from({ length: n }, (_, i) => i + 1);
  const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
  const SERIES = ['blue', 'red', 'green', 'purple', 'orange', 'sky'];
  const SHAPES = ['circle', 'square', 'triangle', 'diamond'];
  const DASHES = [null, '7 3', '2 3', '10 3 2 3'];

  const OPERATORS = { hessian: 'Hessian', ggn: 'Gauss-Newton', fisher: 'Fisher', gauss_newton: 'Gauss-Newton' };
  const operatorName = (name) => OPERATORS[name] || name || 'operator not named';
  const METHODS = { dense: 'exact (dense)', krylov: 'block Krylov' };
  const methodName = (name) => METHODS[name] || (name ? `sketched (${name})` : 'method not named');
  const stepName = (step) => `step ${number(step)}`;
  const place = (d) => [isNumber(d.step) ? stepName(d.step) : null, d.split, operatorName(d.operator)].filter(Boolean)
      .join(' · ');
  const fullName = (d) => `${place(d)} · ${methodName(d.method)}`;

  // How far pair i (from 0) can be trusted; results that say nothing of it are drawn as if they were certified.
  const NOISE = 0, VALUE = 1, CLUSTER = 2, PAIR = 3;
  // Spectra may be thinned: `pairs` are those (from 1) that eigenvalues, residuals, ... are of; trust and sign are known of all.
  function complete(d) {
    const n = list(d.eigenvalues).length;
    d.levels = typeof d.trust === 'string' ? [...d.trust].map(Number) : Array.isArray(d.trust) ? d.trust : null;
    d.thinned = n > 0 && list(d.pairs).length === n;
    if (!d.thinned) d.pairs = upTo(n);
    d.below = d.thinned && typeof d.negative === 'string' ? [...d.negative].map((c) => c === '1') : list(d.eigenvalues).map((v) => v < 0);
    d.count = Math.max(n, d.below.length, (d.levels || []).length);
  }
  const saysTrust = (d) => Boolean(d.levels);
  const trustOf = (d, i) => (saysTrust(d) ? d.levels[i] : PAIR);
  const countOf = (d, level) => upTo(d.count).filter((pair) => trustOf(d, pair - 1) === level).length;
  const thinning = (d) => (d.thinned ? ` Drawn are ${number(d.pairs.length)} of ${number(d.count)}: the first 50 of each sign, of the others fewer and fewer; the file holds all.` : '');
  const certifiedOf = (d) => countOf(d, PAIR) + countOf(d, CLUSTER);
  /** Of the eigenvalues whose sign is certain, whether they are negative. */
  const certainSigns = (d) => d.below.filter((_, i) => trustOf(d, i) >= VALUE);
  /** The first k for which pair k may be noise, or infinity. */
  const firstNoise = (d) => (d.levels || []).indexOf(NOISE) + 1 || Infinity;
  const TRUST_WORDS = { [NOISE]: ' (may be noise)', [VALUE]: ' (value only)', [CLUSTER]: ' (in a cluster)', [PAIR]: '' };
  const FILLING = { [NOISE]: 'hollow', [VALUE]: 'pale', [CLUSTER]: 'soft', [PAIR]: 'full' };
  const fillings = (d, indices) => indices.map((i) => FILLING[trustOf(d, d.pairs[i] - 1)] || 'full');

  // ---------------------------------------------------------------------------------------------- the data

  let runs = [], groups = [], page = {};
  const parametersOf = (run) => (isNumber(run.parameters) ? run.parameters : null);

  function load(data) {
    page = data;
    runs = (Array.isArray(data.runs) ? data.runs : [data]).filter((r) => r && typeof r === 'object');
    if (!runs.length) runs = [{}];
    for (const run of runs) {
      run.decompositions = list(run.decompositions).filter((d) => d && typeof d === 'object');
      for (const d of run.decompositions) {
        d.run = run;
        complete(d);
      }
    }
    groups = list(data.groups).map((g) => ({ name: String(g.name), differs: list(g.differs).map(String),
        runs: list(g.runs).map((i) => runs[i]).filter(Boolean) }))
      .filter((g) => g.runs.length);
    if (!groups.length) groups = runs.map((run) => ({ name: String(run.title || 'run'), differs: [], runs: [run] }));
    // Recipes of one name are told apart by what differs.
    for (const g of groups) {
      g.label = groups.filter((other) => other.name === g.name).length > 1 && g.differs.length
        ? `${g.name}, ${g.differs.map((t) => t.replace(/: .* \/ /, ' = ')).join(', ')}` : g.name;
    }
  }
  const runName = (run) => (isNumber(run.seed)
      ? `${run.folder || run.title} (seed ${run.seed}${run.subset ? `, subset ${run.subset}` : ''})` : String(run.folder || run.title || 'run'));

  /** The overlap of the mask that is chosen; that of the largest parameters has no name. */
  const maskKey = (m) => [m.score, m.population].filter(Boolean).join(' · ');
  function overlapOf(d) {
    if (!d) return null;
    if (!state.mask) return d.overlap || null;
    const found = list(d.masks).find((m) => maskKey(m) === state.mask);
    return found ? found.overlap || null : null;
  }
  const hasOverlap = (d) => hasNumbers((overlapOf(d) || {}).magnitude);
  const maskWords = () => (state.mask ? `mask by ${state.mask}` : 'largest parameters');

  /** The k of a curve: those the file names, of the two-way null's sizes, or 1, 2, ... */
  function sizesOf(o, curve) {
    const n = list(curve).length, two = list(o && o.nulls && o.nulls.two_way && o.nulls.two_way.sizes);
    return n && list(o && o.k).length === n ? o.k : n && two.length === n ? two : upTo(n);
  }
  function valueAt(o, curve, k) {
    const at = sizesOf(o, curve).indexOf(k);
    return at < 0 ? null : list(curve)[at];
  }
  const largest = (o) => { const k = sizesOf(o, o.magnitude); return k[k.length - 1]; };
  /** Chance: k/D, or what the uniform null says in another population of parameters. */
  function chanceCurve(d, o) {
    if (o.nulls && o.nulls.uniform && hasNumbers(o.nulls.uniform.mean)) return o.nulls.uniform.mean;
    if (hasNumbers(o.chance)) return o.chance;
    const D = parametersOf(d.run);
    return D ? sizesOf(o, o.magnitude).map((k) => k / D) : [];
  }
  /** The size that stands for k: itself or, where only others were computed, one nearby. */
  function nearestSize(sizes, k) {
    const best = sizes.reduce((a, b) => (Math.abs(Math.log(b / k)) < Math.abs(Math.log(a / k)) ? b : a), sizes[0]);
    return best && Math.abs(Math.log(best / k)) < Math.log(1.3) ? best : null;
  }
  const ratio = (a, b) => (isNumber(a) && isNumber(b) && b > 0 ? a / b : null);

  /** Overlap at k as a product, with what is known of each factor; null where there is no overlap near k. */
  function factorsAt(d, k) {
    const o = overlapOf(d);
    if (!o || !hasNumbers(o.magnitude)) return null;
    const known = list(o.factors), size = known.length ? nearestSize(known.map((f) => f.size), k)
        : nearestSize(sizesOf(o, o.magnitude), k);
    if (!size) return null;
    const chance = valueAt(o, chanceCurve(d, o), size), overlap = valueAt(o, o.magnitude, size);
    const [low, high] = edges(o).map((curve) => ratio(valueAt(o, curve, size), chance));
    const f = { size, overlap, chance, total: ratio(overlap, chance), low, high,
        layer: ratio(valueAt(o, list(o.random_by_layer_mean), size), chance) };
    const found = known.find((one) => one.size === size);
    if (!found) return f;
    Object.assign(f, found, { total: ratio(found.overlap, found.chance) });
    const two = (o.nulls || {}).two_way || {}, i = list(two.sizes).indexOf(size);
    const mean = list(two.mean)[i], std = list(two.std)[i], effective = list(two.effective)[i];
    if (isNumber(mean) && mean > 0 && isNumber(std)) {
      f.nullLow = Math.max(0, 1 - 1.96 * std / mean);
      f.nullHigh = 1 + 1.96 * std / mean;
      if (effective > 0) f.unitsError = 1.96 * std / Math.sqrt(effective) / mean * f.units;
    }
    return f;
  }
  const isFew = (f) => isNumber(f.free) && f.free < 100;
  const significance = (f) => (!isNumber(f.p) ? '' : isNumber(f.z) && !isFew(f) ? `z ${number(f.z)}, p ${number(f.p)}`
      : `p ${number(f.p)}`);

  /** Bounds on the overlap with the true eigenspaces or, of sketches, three deviations to both sides. */
  function edges(o) {
    const deviation = list(o.magnitude_deviation);
    if (!hasNumbers(deviation)) return [list(o.magnitude_low), list(o.magnitude_high)];
    const edge = (sign) => list(o.magnitude).map((v, i) => (isNumber(v) && isNumber(deviation[i])
        ? Math.max(0, v + sign * 3 * deviation[i]) : null));
    return [edge(-1), edge(1)];
  }
  const isSpread = (o) => hasNumbers(o.magnitude_deviation);

  // Student's t, two-sided 95 %, by degrees of freedom.
  const T95 = [0, 12.706, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.306, 2.2622, 2.2281, 2.201, 2.1788, 2.1604, 2.1448,
      2.1314,
    2.1199, 2.1098, 2.1009, 2.093, 2.086, 2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423];
  const t95 = (df) => T95[df] || 1.96 + 2.4 / df;

  /**
   * What repeated runs say of a number, [run, value] each: the mean over seeds, of the means of each seed's disjoint subsets of
   * samples where it has several. Two 95 % t-intervals, never mixed: `low` to `high` over seeds, and `subsets`, within a seed:
   * what other samples of that number would make. Both on logarithms where `log`.
   */
  function repeated(found, log) {
    if (!found.length || found.some(([, v]) => !isNumber(v) || (log && v <= 0))) return { n: 0, mean: null };
    const f = log ? Math.log : (v) => v, back = log ? Math.exp : (v) => v, seeds = new Map();
    for (const [run, v] of found) {
      const seed = isNumber(run.seed) ? run.seed : `run ${runs.indexOf(run)}`;
      seeds.set(seed, (seeds.get(seed) || []).concat(f(v)));
    }
    const average = (x) => x.reduce((a, b) => a + b, 0) / x.length;
    const squares = (x) => { const m = average(x); return x.reduce((s, v) => s + (v - m) ** 2, 0); };
    const all = [...seeds.values()], means = all.map(average), n = means.length, mean = average(means);
    const within = (half) => ({ low: back(mean - half), high: back(mean + half) });
    const result = { n, mean: back(mean), ...(n > 1 ? within(t95(n - 1) * Math.sqrt(squares(means) / (n - 1) / n)) : {}) };
    const df = all.reduce((s, x) => s + x.length - 1, 0);
    if (df) {
      const variance = all.reduce((s, x) => s + squares(x), 0) / df, of = all.reduce((s, x) => s + 1 / x.length, 0) / n ** 2;
      result.subsets = { ...within(t95(df) * Math.sqrt(variance * of)), each: all.map((x) => x.length) };
    }
    return result;
  }

  // ---------------------------------------------------------------------------------------------- the state

  const state = { run: 0, step: null, split: null, operator: null, method: null, mask: '', k: null, theme: 'auto', y: 'log',
      x: 'linear', null: 'layer', pruned: null, measure: 'accuracy', score: '', open: [] };
  const DETAILS = ['spectrum', 'trust', 'concentration', 'nulls', 'training', 'settings'];

  const selectedRun = () => runs[state.run] || runs[0];
  /** The decomposition of a run that has these values or agrees most with them, the first ones weighing most. */
  function pick(run, wanted, must) {
    const order = ['step', 'split', 'operator', 'method'];
    const usable = run.decompositions.filter((d) => list(must).every((key) => d[key] === wanted[key]));
    const agreement = (d) => order.reduce((sum, key, i) => sum + (d[key] === wanted[key] ? 1 << (5 - i) : 0),
        0) + (d.method === 'dense' ? 0 : 0.5);
    return usable.length ? usable.reduce((a, b) => (agreement(b) > agreement(a) ? b : a)) : null;
  }
  /** Of a step and split, of the operator that is shown. */
  const at = (run, step, split) => pick(run, { ...state, step, split }, ['step', 'split', 'operator']);
  const selected = () => pick(selectedRun(), state);
  const everything = () => [].concat(...runs.map((run) => run.decompositions));
  const valuesOf = (key) => {
    const values = unique(everything().map((d) => d[key]));
    return values.every(isNumber) ? ascending(values) : values;
  };
  /** The k that can be chosen: where the overlap is known as a product, else a few round ones. */
  function stops() {
    const all = everything().map(overlapOf).filter((o) => o && hasNumbers(o.magnitude));
    const sizes = ascending(unique([].concat(...all.map((o) => list(o.factors).map((f) => f.size)))));
    if (sizes.length) return sizes;
    const curves = all.map((o) => sizesOf(o, o.magnitude));
    const known = ascending(unique([].concat(...curves))), round = known.filter((k) => /^[125]0*$/.test(String(k)));
    return unique(round.concat(known.slice(-1)));
  }

  function read() {
    const hash = new URLSearchParams(location.hash.slice(1));
    const wanted = (key, values, usual) => {
      const found = values.find((v) => String(v) === hash.get(key));
      return found === undefined ? usual : found;
    };
    state.run = wanted('run', runs.map((_, i) => i), 0);
    // First the last step, on training data, approximate: what the program is for.
    const rank = (d) => [isNumber(d.step) ? d.step : -1, d.split === 'train' ? 1 : 0, d.method === 'dense' ? 0 : 1];
    const usual = (selectedRun() || { decompositions: [] }).decompositions.slice().sort((a, b) => {
      const x = rank(a), y = rank(b), i = x.findIndex((value, j) => value !== y[j]);
      return i < 0 ? 0 : y[i] - x[i];
    })[0] || {};
    for (const key of ['step', 'split', 'operator', 'method']) state[key] = wanted(key, valuesOf(key), usual[key]);
    state.mask = wanted('mask', unique([].concat(...everything().map((d) => list(d.masks).map(maskKey)))), '');
    // The largest k that all runs have.
    const all = stops(), shared = Math.min(...runs.map((run) => Math.max(1,
        ...run.decompositions.map((d) => (hasOverlap(d) ? largest(overlapOf(d)) : 1)))));
    state.k = wanted('k', all, all.filter((k) => k <= shared).pop() || all[0] || 1);
    state.theme = wanted('theme', ['light', 'dark'], 'auto');
    state.y = wanted('y', ['linear'], 'log');
    state.x = wanted('x', ['log'], 'linear');
    const curves = [].concat(...runs.map(prunedCurves)), pruned = ascending(unique(curves.map((c) => c.step)));
    state.pruned = wanted('pruned', pruned, pruned.length ? pruned[pruned.length - 1] : null);
    state.measure = wanted('measure', ['loss'], 'accuracy');
    state.score = wanted('score', unique(curves.map((c) => c.score)), '');
    state.null = wanted('null', ['output_unit', 'input_unit', 'two_way'], 'layer');
    const open = hash.get('open') || '';
    state.open = open === 'all' ? DETAILS.slice() : open.split('.').filter((id) => DETAILS.includes(id));
  }
  function write() {
    const hash = new URLSearchParams();
    const put = (key, value, usual) => { if (value !== usual && value !== null && value !== undefined) hash.set(key, value); };
    put('run', state.run, 0);
    for (const key of ['step', 'split', 'operator', 'method', 'mask', 'k']) put(key, state[key], '');
    put('theme', state.theme, 'auto');
    put('y', state.y, 'log');
    put('x', state.x, 'linear');
    put('null', state.null, 'layer');
    put('pruned', state.pruned, null);
    put('measure', state.measure, 'accuracy');
    put('score', state.score, '');
    put('open', state.open.join('.'), '');
    const text = `#${hash}`;
    if (text === location.hash) return;
    try { history.replaceState(null, '', text); } catch (error) { location.replace(text); }
  }
  function set(change) {
    Object.assign(state, change);
    const all = stops();
    if (!all.includes(state.k)) state.k = (nearestSize(all, state.k) || all[all.length - 1] || 1);
    write();
    update();
  }

  // ---------------------------------------------------------------------------------------------- controls

  // Each returns the label with its control and how to set it to the state.
  function choice(key, label, values, name, more) {
    const box = element('select', { name: key }, ...values.map((v, i) => element('option', { value: i }, name(v))));
    box.addEventListener('change', () => set({ [key]: values[box.selectedIndex] }));
    return { node: element('label', more || {}, label, box), sync: () => { box.selectedIndex = values.indexOf(state[key]); } };
  }
  function slider(key, label, values) {
    const shown = element('output');
    const box = element('input', { type: 'range', name: key, min: 0, max: values.length - 1, step: 1 });
    const tell = (value) => {
      shown.textContent = number(value);
      box.setAttribute('aria-valuetext', shown.textContent);
    };
    let waiting = false;
    box.addEventListener('input', () => {
      tell(values[box.value]);
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; set({ [key]: values[box.value] }); });
    });
    return { node: element('label', {}, label, box, shown),
      sync: () => { box.value = Math.max(0, values.indexOf(state[key])); tell(state[key]); } };
  }
  /** A group of buttons, one pressed. */
  function toggle(label, key, choices, names) {
    return element('span', { class: 'toggle', role: 'group', 'aria-label': label }, element('span', {}, label),
        ...choices.map((value, i) => {
      const button = element('button', { type: 'button', 'aria-pressed': String(value === state[key]) },
          names ? names[i] : value);
      button.addEventListener('click', () => set({ [key]: value }));
      return button;
    }));
  }
  let controls = [], built = null;
  /** Controls stay the same elements while they are used; only another mask may have other k. */
  function fillSelector() {
    const form = byId('selector'), ks = stops();
    if (built !== ks.join()) {
      const steps = valuesOf('step').filter(isNumber);
      const masks = unique([].concat(...everything().map((d) => list(d.masks).map(maskKey))));
      const names = { split: ['Split', String], operator: ['Matrix', operatorName], method: ['Method', methodName] };
      const several = Object.keys(names).filter((key) => valuesOf(key).length > 1);
      controls = [
        runs.length > 1 ? choice('run', 'Run', runs.map((_, i) => i), (i) => runName(runs[i]), { class: 'wide' }) : null,
        steps.length > 1 ? slider('step', 'Step', steps) : null,
        ks.length > 1 ? slider('k', 'k', ks) : null,
        ...several.map((key) => choice(key, names[key][0], valuesOf(key), names[key][1])),
        masks.length ? choice('mask', 'Mask', [''].concat(masks), (m) => m || 'magnitude') : null,
        choice('theme', 'Theme', ['auto', 'light', 'dark'], String, { class: 'theme' }),
      ].filter(Boolean);
      const focused = form.contains(document.activeElement) ? document.activeElement.name : null;
      form.replaceChildren(...controls.map((c) => c.node));
      form.hidden = false;
      built = ks.join();
      const again = focused && form.querySelector(`[name="${focused}"]`);
      if (again) again.focus({ preventScroll: true });
    }
    for (const c of controls) c.sync();
  }

  // ---------------------------------------------------------------------------------------------- the answer

  // Only the last factor is about parameters as such. A few per cent below 1 say nothing: the two-way null takes that
  // much too much where magnitudes are a number for the row times one for the column times noise (docs/theory.md).
  const VERDICTS = {
    yes: ['Yes.', 'the largest parameters lie in directions of larger curvature than their layers and units account for'],
    little: ['Hardly.', 'of the largest parameters as such there is little: a few per cent above what layers and units account for'],
    no: ['Not as such.', 'the largest parameters lie where their layers and units are, and no more than that can be told'],
    below: ['Not as such.', 'the largest parameters lie where their layers and units are; a factor a few per cent below 1 says nothing, since magnitudes without any meaning have it too'],
    less: ['The contrary.', 'the largest parameters lie in directions of smaller curvature than their layers and units account for'],
  };
  function verdict(factor, decided) {
    if (!isNumber(factor)) return null;
    return VERDICTS[!decided ? 'no' : factor >= 1.05 ? 'yes' : factor > 1 ? 'little' : factor > 0.93 ? 'below' : 'less'];
  }
  const interval = (low, high) => (isNumber(low) && isNumber(high) && number(low) !== number(high)
      ? ` [${number(low)}, ${number(high)}]` : '');

  /** What is said of one group of runs at the state: factors with intervals and the words that say of what. */
  function answer(group) {
    const found = group.runs.map((run) => at(run, state.step, state.split)).filter(Boolean);
    const factors = found.map((d) => factorsAt(d, state.k));
    if (!found.length || factors.some((f) => !f)) return null;
    const d = found[0], several = factors.length > 1, f = factors[0];
    const pairs = (key) => factors.map((x, i) => [found[i].run, x[key]]), one = (key) => (several ? repeated(pairs(key), true) : { n: 1, mean: f[key] });
    const result = { d, runs: factors.length, size: f.size, overlap: one('overlap').mean, chance: f.chance, total: one('total'), layer: one('layer'),
      units: one('units'), parameter: one('parameter'), f };
    result.n = result.total.n;
    // Each run's worst case or spread bounds its own overlap, so the mean lies between the means of the bounds.
    const edge = (key) => (!factors.every((x) => isNumber(x[key])) ? null : factors.some((x) => x[key] <= 0) ? 0 : repeated(pairs(key), true).mean);
    const exact = found.every((x) => x.method === 'dense'), solver = { low: edge('low'), high: edge('high') };
    // One no wider than rounding says nothing.
    result.solver = exact ? { exact } : isNumber(solver.low) && isNumber(solver.high) ? { ...solver, small: solver.high - solver.low < 2e-3 * result.total.mean } : null;
    if (!several && isNumber(f.unitsError)) result.nullError = { low: f.units - f.unitsError, high: f.units + f.unitsError };
    const p = result.parameter, by = isNumber(p.low) ? p : p.subsets;
    result.verdict = verdict(p.mean, by ? by.low > 1 || by.high < 1 : f.p < 0.05);
    return result;
  }
  /** The interval that stands in brackets: over seeds, else over subsets, else the solver's. */
  const bracket = (x, a) => (isNumber(x.low) ? x : x.subsets || (a && a.solver && !a.solver.small && a.solver) || {});

  function sentence(group, a) {
    const D = parametersOf(a.d.run), mask = state.mask ? `mask of ${number(a.size)} parameters by ${state.mask}`
        : `${number(a.size)} largest${D ? ` of ${number(D)}` : ''} parameters`;
    const words = [`${groups.length > 1 ? `${group.label}: a` : 'A'}t ${stepName(a.d.step)} the ${mask} ${state.mask ? 'holds' : 'hold'} ${number(a.total.mean)} times`,
      `${interval(bracket(a.total, a).low, bracket(a.total, a).high)} the share of the top-${number(a.size)} eigenspace (${[operatorName(a.d.operator), a.d.split].filter(Boolean).join(', ')}) that chance would give`];
    if (isNumber(a.parameter.mean)) {
      const of = (x) => `${number(x.mean)}${interval(bracket(x).low, bracket(x).high)}`;
      words.push(`: which layer ${of(a.layer)} × which units ${of(a.units)} × which parameter ${of(a.parameter)}`,
        a.runs > 1 ? '' : isNumber(a.f.nullLow) && !isFew(a.f)
              ? ` (null: ${number(a.f.nullLow)} to ${number(a.f.nullHigh)}; p ${number(a.f.p)})` : ` (p ${number(a.f.p)})`);
      words.push(`; ${a.verdict[1]}.`);
    } else if (isNumber(a.layer.mean)) {
      words.push(`, of which ${number(a.layer.mean)} are by layer; this file knows no units: seigh overlap makes it anew.`);
    } else {
      words.push('.');
    }
    return element('p', { class: 'answer' }, a.verdict ? element('strong', {}, a.verdict[0]) : null, a.verdict ? ' ' : null,
        words.join(''));
  }
  const eachOf = (counts) => (unique(counts).length > 1 ? `${number(Math.min(...counts))} to ${number(Math.max(...counts))}` : number(counts[0]));
  /**
   * By what the factor over chance is uncertain, three things that are never added up: which network, which samples of the data,
   * what the solver found. The largest of those that are known is named first, and then what is not known.
   */
  function uncertainties(a) {
    const total = a.total, o = overlapOf(a.d), known = [], unknown = [];
    const add = (name, range, words, missing) => {
      if (range) known.push({ name, words, ...range, size: Math.log(range.high / Math.max(range.low, 1e-300)) }); else unknown.push(`of the ${name} (${missing})`);
    };
    add('run', isNumber(total.low) ? total : null, `over ${number(a.n)} seeds`, 'other seeds: sweep.seeds');
    add('sampled data', total.subsets, total.subsets && `over ${eachOf(total.subsets.each)} disjoint subsets ${a.n > 1 ? 'within each seed' : 'of samples'}`,
        'disjoint subsets of samples: sweep.subsets, curvature.subset');
    const solver = a.solver;
    // A worst case that allows anything, down to no overlap at all, is no knowledge.
    if (solver && solver.low <= 0) unknown.push(`of the solver (its worst case, [0, ${number(solver.high)}], excludes little)`);
    else if (solver && !solver.exact && !solver.small) add('solver', solver, isSpread(o) ? 'three standard deviations by the sketch’s columns' : 'its worst case');
    else if (!solver) unknown.push('of the solver (no bounds in its files)');
    known.sort((x, y) => y.size - x.size);
    const words = (x) => ` [${number(x.low)}, ${number(x.high)}], ${x.words}`, parts = [];
    if (known.length) parts.push('Of the factor over chance the largest uncertainty that is known is that ', element('strong', {}, `of the ${known[0].name}`), `:${words(known[0])}`,
        ...known.slice(1).map((x) => `; of the ${x.name}${words(x)}`));
    if (solver && (solver.exact || solver.small)) parts.push(known.length ? '; of the solver none' : 'Of the solver there is no uncertainty', solver.exact ? ': the decomposition is exact' : ' that shows in three digits');
    if (unknown.length) parts.push(parts.length ? '. ' : '', 'Not known: ', unknown.join('; '));
    return element('p', { class: 'note three' }, ...parts, '.');
  }
  function uncertainty(a) {
    const parts = [];
    if (a.runs > 1) {
      const by = a.n > 1 ? 'seeds' : 'subsets of samples, of one network';
      return `Geometric means over ${number(a.runs)} runs that differ in the ${a.total.subsets ? (a.n > 1 ? 'seed and the subset of samples' : 'subset of samples') : 'seed'} alone; brackets: 95 % t-intervals on logarithms over ${by}.${a.n > 1 && a.total.subsets ? ' Subsets are averaged within a seed first. What seeds make contains what samples make, since each seed draws its own.' : ''}${a.n > 1 ? '' : ' It is one network: nothing here says what another seed would give.'}`;
    }
    if (isNumber(a.f.nullLow) && !isFew(a.f)) parts.push('The null’s range holds 95 % of random masks with the same count in every unit, of this one network.');
    if (isFew(a.f)) parts.push(`Only ${number(a.f.free)} of the mask’s entries are free to move in the null: p stands for z.`);
    parts.push('It is one run: nothing here says what another seed would give.');
    return parts.join(' ');
  }
  function tiles(a) {
    // By what it is uncertain, a line each: they are never added up.
    const ranges = (x, note) => {
      const all = [['run', x], ['data', x.subsets], ...(x === a.total && a.solver && !a.solver.small ? [['solver', a.solver]] : []),
        ...(x === a.units && a.nullError ? [['null', a.nullError]] : [])].filter(([, r]) => r && interval(r.low, r.high))
          .map(([of, r]) => [of, `${number(r.low)} to ${number(r.high)}`]);
      return all.length ? all : [[null, note || '\u00a0']];
    };
    const tile = (name, what, x, note, kind) => element('div', { class: `tile ${kind || ''}` },
        element('span', { class: 'what' }, name),
      element('b', {}, number(x.mean)), ...ranges(x, note).map(([of, words]) => element('span', { class: 'range', 'data-of': of }, words)),
          element('span', { class: 'why' }, what));
    const sign = (s) => element('span', { class: 'sign' }, s);
    if (!isNumber(a.parameter.mean)) return element('div', { class: 'tiles' },
        tile('overlap / chance', `overlap ${number(a.overlap)}`, a.total));
    return element('div', { class: 'tiles' }, tile('overlap / chance', `overlap ${number(a.overlap)}, chance ${number(a.chance)}`,
        a.total), sign('='),
      tile('layer', 'which layers the mask is in', a.layer), sign('×'), tile('units', 'which units of them', a.units), sign('×'),
      tile('parameter', 'which parameters of those', a.parameter, isNumber(a.f.nullLow) && !isFew(a.f)
          ? `null ${number(a.f.nullLow)} to ${number(a.f.nullHigh)}` : `p ${number(a.f.p)}`, 'main'));
  }
  const groupOfRun = (run) => groups.find((g) => g.runs.includes(run)) || groups[0];

  function drawAnswer(content) {
    const mine = groupOfRun(selectedRun()), all = groups.map((g) => [g, answer(g)]).filter(([, a]) => a);
    if (!all.length) return absent(content, hasOverlap(selected()) ? 'Not every run of the group has this step and k.'
        : 'No overlap has been computed here.');
    const chosen = all.find(([g]) => g === mine) || all[0], shown = chosen[1];
    // Of many groups the chosen one's; all of them are in the table.
    for (const [g, a] of all.length > 3 ? [chosen] : all)
      content.append(sentence(g, a), uncertainties(a), element('p', { class: 'note' }, uncertainty(a)));
    if (all.length > 3) content.append(element('p', { class: 'note' },
        `${number(all.length - 1)} further groups of runs: choose one of their runs, or see the table of groups.`));
    if (all.length > 1) subtitle(content, groupOfRun(shown.d.run).label);
    content.append(tiles(shown));
    if (shown.size !== state.k) absent(content,
        `The product is known at k = ${number(shown.size)}, the size nearest to ${number(state.k)}.`);
  }

  function drawSigns(content) {
    const found = new Map();
    for (const run of runs) for (const d of run.decompositions) for (const text of list(d.signs)) {
      const where = runs.length > 1 ? `${runName(run)}: ${place(d)}` : fullName(d);
      found.set(String(text), (found.get(String(text)) || []).concat(where));
    }
    byId('signs').hidden = !found.size;
    if (!found.size) return;
    const all = element('ul', {}, ...[...found].map(([text, places]) => element('li', {}, text,
      element('span', { class: 'note' },
          ` — ${places.slice(0, 2).join('; ')}${places.length > 2 ? `; and ${number(places.length - 2)} more` : ''}`))));
    if (found.size <= 6) {
      content.append(all);
      return;
    }
    // Many: how often each kind was found, and all of them on demand.
    const kinds = new Map();
    for (const [text, places] of found) {
      const kind = text.split(':')[0].replace(/^[0-9]+ of [0-9]+ /, '').replace(/ at k = [0-9]+$/, '');
      kinds.set(kind, (kinds.get(kind) || 0) + places.length);
    }
    const of = runs.reduce((sum, run) => sum + run.decompositions.length, 0);
    content.append(element('ul', {}, ...[...kinds].map(([kind, count]) =>
      element('li', {}, `${kind}: in ${number(count)} of ${plural(of, 'decomposition')}`))),
    element('details', { id: 'all-signs' }, element('summary', {}, `All ${number(found.size)}`), all));
  }

  // ---------------------------------------------------------------------------------------------- overview

  function part(id, draw) {
    const content = byId(id).querySelector('.content');
    content.replaceChildren();
    try {
      draw(content);
    } catch (error) {
      fault(error.message);
      content.replaceChildren(element('p', { class: 'message' }, `This part could not be drawn: ${error.message}.`));
      if (window.console) console.error(error);
    }
  }
  /** Redrawing must not make the page jump. All heights are read before anything changes, so the page is laid out once. */
  function hold() {
    const contents = [...document.querySelectorAll('.content')], heights = contents.map((c) => c.offsetHeight);
    contents.forEach((c, i) => { c.style.minHeight = `${heights[i]}px`; });
  }
  /** Draws the figures of all parts filled since, and lets go of the heights that were kept. */
  function finish() {
    Charts.flush();
    for (const content of document.querySelectorAll('.content')) content.style.minHeight = '';
    document.documentElement.dataset.charts = String(Charts.count());
  }
  const absent = (content, text) => content.append(element('p', { class: 'absent' }, text));
  const grid = (content, kind) => { const box = element('div', { class: kind || 'grid' }); content.append(box); return box; };
  const subtitle = (content, text) => content.append(element('h3', { class: 'sub' }, text));

  /** Curves by step, of groups of runs or, of one run, of its splits: {name, colour, shown, values(step) -> list of factors}. */
  function overTime() {
    if (groups.length > 1 || runs.length > 1) {
      return groups.map((g, i) => ({ name: g.label, colour: SERIES[i % 6], shape: SHAPES[i % 4],
          main: g.runs.includes(selectedRun()), runs: g.runs, split: state.split }));
    }
    const splits = valuesOf('split');
    return splits.map((split, i) => ({ name: String(split || 'overlap'), colour: SERIES[i % 6], shape: SHAPES[i % 4],
        main: split === state.split, runs, split }));
  }
  const seedsOf = (some) => unique(some.map((run) => run.seed)).length;
  const stepAxis = (steps) => ({ label: 'training step', ticks: steps, name: (x) => stepName(x) });

  function drawOverTime(content) {
    const steps = valuesOf('step').filter(isNumber), lines = overTime();
    const factors = new Map();  // computed once: [line, run, step]
    for (const l of lines) for (const run of l.runs) {
      factors.set(`${lines.indexOf(l)} ${runs.indexOf(run)}`, steps.map((step) =>
          { const d = at(run, step, l.split); return d ? factorsAt(d, state.k) : null; }));
    }
    if (![...factors.values()].some((row) => row.some(Boolean))) return absent(content,
        'No overlap was computed, so there is nothing to show over time.');
    // Uncertainties of the run and of the solver are not mixed in one figure.
    const repeats = lines.some((l) => l.runs.length > 1), bySubset = lines.some((l) => l.runs.length > 1 && seedsOf(l.runs) === 1);
    const rowsOf = (l) => l.runs.map((run) => factors.get(`${lines.indexOf(l)} ${runs.indexOf(run)}`));
    const curves = (key, low, high) => lines.map((l) => {
      const rows = rowsOf(l), several = rows.length > 1;
      const there = (i) => rows.map((row, j) => [l.runs[j], row[i]]).filter(([, f]) => f);
      const first = (i) => (there(i)[0] || [])[1] || {};
      const means = steps.map((_, i) => {
        if (!several) return { mean: first(i)[key], low: low && !repeats ? low(first(i)) : null, high: high && !repeats ? high(first(i)) : null };
        const all = repeated(there(i).map(([run, f]) => [run, f[key]]), true), range = bracket(all);
        return { mean: all.mean, low: range.low, high: range.high };
      });
      return { name: l.name, colour: l.colour, shape: l.shape, dots: true, width: l.main ? 2.4 : 1.5,
          dash: l.main || lines.length < 2 ? null : '6 3', x: steps,
        y: means.map((m) => (isNumber(m.mean) ? m.mean : null)), low: means.map((m) => m.low), high: means.map((m) => m.high),
            wide: !several };
    });
    const singles = (key) => [].concat(...lines.map((l) => (l.runs.length > 1
        ? l.runs.map((run, j) => ({ name: runName(run), colour: l.colour, faint: true, quiet: true, unlisted: true,
      x: steps, y: rowsOf(l)[j].map((f) => (f ? f[key] : null)) })) : [])));
    const whiskers = repeats ? ` Whiskers: 95 % t-interval over ${bySubset ? 'seeds, of a single one over its subsets of samples' : 'seeds'}; faint: single runs.` : '';
    const charts = [['Overlap over chance', 'total',
        `How much more of the top-k eigenspace the mask holds than chance would.${whiskers || ' Whiskers: the solver’s bounds, where they are wider than a mark.'}`,
        (f) => (f.high - f.low > 0.01 * f.total ? f.low : null), (f) => (f.high - f.low > 0.01 * f.total ? f.high : null)],
      ['Which layer', 'layer', `The layer null over chance.${whiskers}`],
      ['Which units', 'units', `The two-way null over the layer null.${whiskers || ' Whiskers: the sampling error of the null.'}`,
          (f) => f.units - f.unitsError, (f) => f.units + f.unitsError],
      ['Which parameter', 'parameter',
          `Overlap over the two-way null: the only factor about magnitudes as such.${whiskers || ' Thin dashed lines: 95 % of masks with the same counts.'}`]]
      .map(([title, key, caption, low, high]) => ({ title, key, caption, series: curves(key, low, high).concat(singles(key)) }))
      .filter((c) => c.series.some((s) => hasNumbers(s.y)));
    const main = lines.find((l) => l.main) || lines[0], parameter = charts.find((c) => c.key === 'parameter');
    if (parameter && !repeats) {
      const row = rowsOf(main)[0];
      for (const [key, name] of [['nullLow', '95 % of the null'], ['nullHigh', '']]) {
        parameter.series.push({ name, kind: 'edge', colour: main.colour, quiet: true, unlisted: !name, x: steps,
            y: row.map((f) => (f ? f[key] : null)) });
      }
    }
    // One logarithmic scale for all: on it the three factors add up to the first.
    const every = [].concat(...charts.map((c) => [].concat(...c.series.map((s) =>
        (s.wide ? s.y : s.y.concat(list(s.low), list(s.high))))))).filter((v) => isNumber(v) && v > 0).concat(1);
    const min = Math.max(Math.min(...every) / 1.12, 0.02), max = Math.max(...every) * 1.15;
    const box = grid(content, 'grid four');
    for (const c of charts) {
      Charts.lines(box, { title: c.title, caption: c.caption, height: 210, compact: true, series: c.series, x: stepAxis(steps),
          y: { label: '× (log)', log: true, min, max },
        rules: [{ y: 1, name: '' }], marks: [{ x: state.step, name: '' }], at: state.step, pick: (x) => set({ step: x }) });
    }
    content.append(element('p', { class: 'note' },
        `k = ${number(state.k)}. All share one logarithmic scale, on which the three factors add up to the first.${steps.length > 1 ? ' A click on a chart chooses its step.' : ''}`));
  }

  const NULLS = [['uniform', 'chance', 'ink', '2 3'], ['layer', 'layer null', 'purple', '7 3'],
      ['output_unit', 'output-unit null', 'sky', '4 2'], ['input_unit', 'input-unit null', 'orange', '4 2']];
  const NULL_NAMES = { layer: 'layer', output_unit: 'output unit', input_unit: 'input unit', two_way: 'two-way', joint: 'joint permutation of units' };

  /** Null curves by k of a decomposition's overlap. */
  function nullSeries(d, o) {
    const series = [], nulls = o.nulls || {};
    for (const [key, name, colour, dash] of NULLS) {
      const curve = key === 'uniform' ? chanceCurve(d, o) : list(nulls[key] && nulls[key].mean);
      if (hasNumbers(curve)) series.push({ name, colour, dash, width: 1.6, x: sizesOf(o, curve), y: curve });
    }
    const two = nulls.two_way || {};
    if (hasNumbers(two.mean)) {
      series.push({ name: 'two-way null (mean, 95 %)', short: 'two-way null', kind: 'dots', colour: 'red', shape: 'square',
          x: two.sizes, y: two.mean,
        low: two.mean.map((m, i) => Math.max(0, m - 1.96 * list(two.std)[i])),
            high: two.mean.map((m, i) => m + 1.96 * list(two.std)[i]) });
    }
    if (!o.nulls) {
      for (const [key, name, colour, dash] of [['random', 'random masks (mean)', 'orange', '4 2'],
          ['random_by_layer', 'random masks, same count per layer (mean)', 'purple', '7 3']]) {
        const mean = list(o[`${key}_mean`]), std = list(o[`${key}_std`]);
        if (hasNumbers(mean)) series.push({ name, short: name.split(',')[0], colour, dash, width: 1.6, x: sizesOf(o, mean),
            y: mean, words: (i) => (isNumber(std[i]) ? ` ± ${number(std[i])}` : '') });
      }
    }
    return series;
  }
  function solverEdges(o, colour) {
    const [low, high] = edges(o);
    // Of exact decompositions it is no wider than a line.
    if (!low.some((v, i) => isNumber(v) && isNumber(high[i]) && high[i] - v > 0.01 * high[i])) return [];
    const name = isSpread(o) ? 'spread of the sketch (± 3 std)' : 'bounds for the true eigenspace';
    return [[low, name], [high, '']].map(([y, words]) => ({ name: words, kind: 'edge', loose: true, colour, quiet: true,
        unlisted: !words, x: sizesOf(o, y), y }));
  }
  /** What lies below this would squeeze all else: a mask that misses the eigenspace at very small k. */
  const floorOf = (d, o) => (chanceCurve(d, o).filter((v) => v > 0)[0] || 0) / 30;

  function drawByK(content, d) {
    const o = overlapOf(d);
    if (!o || !hasNumbers(o.magnitude)) return absent(content, `No overlap was computed for ${fullName(d)}.`);
    const chance = chanceCurve(d, o), sizes = sizesOf(o, o.magnitude), [low, high] = edges(o);
    const series = [{ name: state.mask ? `mask by ${state.mask}` : 'k largest parameters', short: state.mask || 'k largest',
        colour: 'blue', width: 3, x: sizes, y: o.magnitude,
      words: (i) => `${isNumber(ratio(o.magnitude[i], chance[i])) ? ` (${number(o.magnitude[i] / chance[i])} × chance)` : ''}${isNumber(low[i]) && isNumber(high[i]) ? `, ${isSpread(o) ? 'spread' : 'true'} ${number(low[i])} to ${number(high[i])}` : ''}` }];
    if (hasNumbers(o.best)) series.push({ name: 'best possible mask', short: 'best', colour: 'green', dash: '10 4',
        x: sizesOf(o, o.best), y: o.best });
    series.push(...nullSeries(d, o), ...solverEdges(o, 'blue'));
    const chosen = state.null, n = (o.nulls || {})[chosen], band = (o.bands || {})[chosen];
    let words = '';
    if (chosen !== 'two_way' && n && hasNumbers(n.mean)) {
      const colour = { layer: 'purple', output_unit: 'sky', input_unit: 'orange' }[chosen];
      const k = sizesOf(o, n.mean), given = band && hasNumbers(band.low), simultaneous = given || (band && isNumber(band.factor));
      const pairs = given ? [band.low, band.high] : [-1, 1].map((s) => n.mean.map((m, i) => (simultaneous && list(band.without).includes(k[i]) ? null
          : Math.max(0, m + s * (simultaneous ? band.factor : 1.96) * list(n.std)[i]))));
      pairs.forEach((y, j) => series.push({ name: j ? ''
          : `${NULL_NAMES[chosen]} null, 95 %${simultaneous ? ' for all k together' : ''}`, kind: 'edge', loose: true, colour,
          quiet: true, unlisted: j === 1, x: sizesOf(o, y), y }));
      words = simultaneous ? ` The thin dashed lines hold masks of the ${NULL_NAMES[chosen]} null for all k at once with probability 95 %${isNumber(band.p) ? `; the largest |z| over k has p = ${number(band.p)}` : ''}.`
        : ` The thin dashed lines hold 95 % of the ${NULL_NAMES[chosen]} null’s masks at each k by itself.`;
    }
    if (sizes.length < largest(o)) words += ` Curves are drawn at ${number(sizes.length)} of ${number(largest(o))} k, all of the first 50 among them; the files hold all.`;
    const first = firstNoise(d), K = largest(o), marks = [{ x: state.k, name: '' }];
    if (first <= K) marks.push({ x: first, name: `first pair that may be noise (k = ${number(first)})`, colour: 'red' });
    const available = ['layer', 'output_unit', 'input_unit'].filter((key) => (o.nulls || {})[key]);
    const bounds = solverEdges(o, 'blue').length ? (isSpread(o)
      ? ' The spread is three standard deviations of what the curve would vary by with other columns of the sketch (jackknife), and no bound.'
      : ' The true eigenspace overlaps with the mask somewhere within the bounds: a worst case from residuals and from what can have been missed.')
          : '';
    Charts.lines(content, { title: `Overlap by k: ${fullName(d)}`, height: 380, series, marks, at: state.k,
      caption: `Share of the top-k eigenspace that lies in the span of k parameters (Σcos²θ/k over the principal angles: 0 orthogonal, 1 equal), beside what masks would have that keep only some of the mask’s properties.${bounds}${words}`,
      x: { label: 'k (parameters kept = eigenvectors kept)', log: true, min: 1, max: Math.max(2, K),
          name: (x) => `k = ${number(x)}${TRUST_WORDS[trustOf(d, x - 1)] || ''}` },
      y: { label: 'overlap Σcos²θ/k', log: true, floor: floorOf(d, o) },
          pick: (x) => { const k = nearestSize(stops(), x); if (k) set({ k }); } },
    available.length > 1 ? element('div', {}, toggle('95 % of the null by', 'null', available,
        available.map((key) => NULL_NAMES[key]))) : null);
  }

  function drawNullsOverTime(content, run) {
    const steps = valuesOf('step').filter((s) => isNumber(s) && at(run, s, state.split)),
        columns = steps.map((s) => at(run, s, state.split));
    const values = (get) => columns.map((d) => { const o = overlapOf(d),
        f = factorsAt(d, state.k); return f ? get(d, o, f) : null; });
    const curve = (key) => values((d, o, f) => (key === 'uniform' ? f.chance
        : valueAt(o, list(((o.nulls || {})[key] || {}).mean), f.size)));
    const series = [{ name: `the ${maskWords()}`, short: 'overlap', colour: 'blue', dots: true, width: 3, x: steps,
        y: values((d, o, f) => f.overlap), low: values((d, o, f) => (f.high - f.low > 0.01 * f.total ? f.low * f.chance : null)),
        high: values((d, o, f) => (f.high - f.low > 0.01 * f.total ? f.high * f.chance : null)), wide: true }];
    for (const [key, name, colour, dash] of NULLS) series.push({ name, colour, dash, width: 1.6, dots: true, r: 2, x: steps,
        y: curve(key) });
    const two = (get) => values((d, o, f) => { const t = (o.nulls || {}).two_way || {},
        i = list(t.sizes).indexOf(f.size); return i < 0 ? null : get(t, i); });
    series.push({ name: 'two-way null (95 %)', short: 'two-way null', kind: 'dots', colour: 'red', shape: 'square', x: steps,
        y: two((t, i) => t.mean[i]),
      low: two((t, i) => Math.max(0, t.mean[i] - 1.96 * t.std[i])), high: two((t, i) => t.mean[i] + 1.96 * t.std[i]) });
    const drawn = series.filter((s) => hasNumbers(s.y));
    if (!drawn.length) return absent(content, 'No overlap was computed here.');
    Charts.lines(content, { title: `Overlap and its nulls over time: k = ${number(state.k)}${state.split ? `, ${state.split}` : ''}`,
        height: 380, series: drawn, at: state.step, marks: [{ x: state.step, name: '' }],
      caption: 'Each null keeps one property of the mask and shuffles the rest: nothing (chance), the counts of every layer, of every output or input unit, of both at once (two-way). What is left between overlap and the two-way null is about parameters as such.',
      x: stepAxis(steps), y: { label: 'overlap Σcos²θ/k', log: true }, pick: (x) => set({ step: x }) });
  }

  function drawOverview(content) {
    drawOverTime(content);
    const d = selected();
    if (!d) return;
    if (runs.length > 1) subtitle(content, `One of the runs: ${runName(selectedRun())}`);
    const box = grid(content, 'pair');
    const left = element('div', {}), right = element('div', {});
    box.append(left, right);
    drawByK(left, d);
    drawNullsOverTime(right, selectedRun());
  }

  function table(columns, rows, more) {
    const head = element('tr', {}, ...columns.map(([name, kind]) => element('th', { scope: 'col', class: kind || '' }, name)));
    return element('div', { class: 'scroll' }, element('table', more || {}, element('thead', {}, head),
        element('tbody', {}, ...rows.map((r) => element('tr', r.chosen ? { class: 'selected' } : {},
      ...r.cells.map((c, i) => element('td', { class: columns[i][1] || '', 'data-label': columns[i][0] },
          element('span', {}, c))))))));
  }
  const N = 'number';

  function drawGroups(content) {
    byId('groups').hidden = runs.length < 2;
    if (runs.length < 2) return;
    const show = (x) => (isNumber(x.mean) ? `${number(x.mean)}${interval(x.low, x.high)}` : '–');
    const within = (x) => (x.subsets ? interval(x.subsets.low, x.subsets.high).trim() || number(x.mean) : '–');
    const rows = [], KEYS = ['total', 'layer', 'units', 'parameter'], reference = groups[0];
    const factorsOf = (g, step) => g.runs.map((r) => { const d = at(r, step, state.split); return [r, d ? factorsAt(d, state.k) : null]; });
    for (const g of groups) {
      const steps = ascending(unique([].concat(...g.runs.map((r) => r.decompositions.filter((d) => d.split === state.split
          && hasOverlap(d)).map((d) => d.step)))));
      const last = steps[steps.length - 1], first = steps[0];
      for (const step of unique([first, last])) {
        const f = factorsOf(g, step);
        if (f.some(([, one]) => !one)) continue;
        const all = (key) => repeated(f.map(([r, one]) => [r, one[key]]), true), total = all('total');
        rows.push({ chosen: g.runs.includes(selectedRun()) && step === last,
            cells: [g.label, number(seedsOf(g.runs)), total.subsets ? eachOf(total.subsets.each) : '1', number(step), number(f[0][1].size), number(all('overlap').mean),
            ...KEYS.map((key) => show(all(key)))] });
        if (total.subsets) rows.push({ cells: [`${g.label}, over subsets`, '', '', number(step), '', '', ...KEYS.map((key) => within(all(key)))] });
        if (g === reference || step !== last) continue;
        // By pairs: the same seed on the same samples.
        const other = factorsOf(reference, step), pairs = f.map(([r, one]) => [r, one, (other.find(([x]) => x.seed === r.seed && (x.subset || 0) === (r.subset || 0)) || [])[1]])
            .filter(([, , base]) => base);
        if (!pairs.length) continue;
        const over = (key) => repeated(pairs.map(([r, one, base]) => [r, ratio(one[key], base[key])]), true);
        rows.push({ cells: [`${g.label} over ${reference.label}`, number(seedsOf(pairs.map(([r]) => r))), '', number(step), '', number(over('overlap').mean),
            ...KEYS.map((key) => show(over(key)))] });
        if (over('total').subsets) rows.push({ cells: [`${g.label} over ${reference.label}, over subsets`, '', '', number(step), '', '', ...KEYS.map((key) => within(over(key)))] });
      }
    }
    content.append(table([['Group'], ['Seeds', N], ['Subsets', N], ['Step', N], ['k', N], ['Overlap', N], ['Over chance', N], ['Layer', N],
        ['Units', N], ['Parameter', N]], rows, { class: 'cards' }),
      element('p', { class: 'note' },
          'First and last step of each group. Runs that differ in nothing but the seed and the subset of samples are a group: geometric mean with the 95 % t-interval on logarithms over seeds, of each seed first over its subsets; over subsets: what other samples of that number would make of the mean, by how subsets differ within a seed. One group over another: ratios of runs with the same seed on the same subset. The first step is the control: what magnitudes that are random numbers have.'));
    if (groups.length > 1) {
      content.append(element('ul', {}, ...groups.map((g) => element('li', {},
          `${g.label}: ${g.runs.map(runName).join('; ')}${g.differs.length ? ` — differs from the first in ${g.differs.join(', ')}` : ''}`))));
    }
  }

  function drawMasks(content, d) {
    const masks = d ? list(d.masks) : [];
    byId('masks').hidden = !masks.length;
    if (!masks.length) return;
    const all = [{ score: 'magnitude', population: 'all', overlap: d.overlap, parameters: parametersOf(d.run),
        key: '' }].concat(masks.map((m) => ({ ...m, key: maskKey(m) })));
    const kept = state.mask;
    const rows = all.map((m) => {
      state.mask = m.key;
      const f = factorsAt(d, state.k) || {};
      return { m, f, chosen: m.key === kept };
    });
    state.mask = kept;
    content.append(table([['Mask by'], ['Among'], ['Parameters', N], ['Ties at the cut', N], ['Overlap', N], ['Over chance', N],
        ['Layer', N], ['Units', N], ['Parameter', N], ['z or p', N]],
      rows.map(({ m, f, chosen }) => ({ chosen, cells: [String(m.score), String(m.population || ''), number(m.parameters),
          number(m.ties), number(f.overlap), number(f.total), number(f.layer), number(f.units), number(f.parameter),
          significance(f) || '–'] })), { class: 'cards' }));
    absent(content, `At k = ${number(state.k)}, ${fullName(d)}. The mask that is chosen above is shown in all figures of overlap.`);
    const curves = rows.filter(({ m }) => m.overlap && hasNumbers(m.overlap.magnitude));
    Charts.lines(content, { title: `Overlap of masks by k: ${fullName(d)}`, caption: 'All masks against the same eigenspaces.',
        height: 300,
      series: curves.map(({ m, chosen }, i) => ({ name: `${m.score} · ${m.population || 'all'}`, colour: SERIES[i % 6],
          dash: DASHES[Math.floor(i / 6) % 4], width: chosen ? 3 : 1.6, x: sizesOf(m.overlap, m.overlap.magnitude),
          y: m.overlap.magnitude })),
      x: { label: 'k', log: true, name: (x) => `k = ${number(x)}` }, y: { label: 'overlap Σcos²θ/k', log: true,
          floor: d.overlap ? floorOf(d, d.overlap) : 0 }, at: state.k, marks: [{ x: state.k, name: '' }] });
  }

  function drawTensors(content, d) {
    const t = d && d.tensors;
    byId('tensors').hidden = !t || !list(t.names).length;
    if (byId('tensors').hidden) return;
    const size = nearestSize(list(t.sizes), state.k) || list(t.sizes)[list(t.sizes).length - 1], i = list(t.sizes).indexOf(size);
    const row = (x) => list(list(x)[i]).map((v) => (Array.isArray(v) ? v[0] : v));
    const total = list(t.parameters).reduce((a, b) => a + b, 0), names = t.names.map(String);
    const shares = list(t.parameters).map((n) => n / total), space = row(t.space), mask = row(t.mask), within = row(t.within);
    Charts.bars(content, { title: `Where mask and curvature lie: k = ${number(size)}, ${place(d)}`, what: 'tensor', labels: names,
        words: percent,
      caption: 'Of each parameter tensor its share of the mask, of the top-k eigenspace (sum of leverages over k) and of all parameters.',
      series: [{ name: 'share of the mask', colour: 'blue', values: mask },
          { name: 'share of the top-k eigenspace', colour: 'red', values: space },
          { name: 'share of the parameters', colour: 'soft', values: shares }] });
    content.append(table([['Tensor'], ['Kind'], ['Parameters', N], ['Mask', N], ['Eigenspace', N], ['Overlap within', N]],
        names.map((n, j) => ({ cells: [n, String(list(t.kinds)[j] || '–'), number(list(t.parameters)[j]), percent(mask[j]),
        percent(space[j]), number(within[j])] }))));
  }

  // ---------------------------------------------------------------------------------------------- pruning

  function prunedCurves(run) { return list((run.pruning || {}).curves).filter((c) => c && isNumber(c.step)); }
  const fineTuned = (group) => Math.max(0, ...group.runs.map((run) => (run.pruning || {}).fine_tune || 0));
  /** A run's result by a score, or by random masks with its counts: the mean over draws, null where one is not known. */
  function prunedValue(run, score, control, sparsity, key) {
    const values = prunedCurves(run).filter((c) => c.step === state.pruned && c.score === score && Boolean(c.control) === control)
        .map((c) => list(c[key])[list(c.sparsity).indexOf(sparsity)]);
    return values.length && values.every(isNumber) ? values.reduce((a, b) => a + b, 0) / values.length : null;
  }
  const prunedRuns = (group) => group.runs.filter((run) => prunedCurves(run).some((c) => c.step === state.pruned));
  const prunedMean = (group, score, control, sparsity, key) => repeated(prunedRuns(group)
      .map((run) => [run, prunedValue(run, score, control, sparsity, key)]), key.endsWith('loss'));
  /** How far a is from b, run by run: a difference of accuracies, a ratio of losses. */
  function prunedGap(group, key, a, b) {
    const loss = key.endsWith('loss'), value = (run, [score, control, sparsity]) => prunedValue(run, score, control, sparsity, key);
    return repeated(prunedRuns(group).map((run) => {
      const x = value(run, a), y = value(run, b);
      return [run, !isNumber(x) || !isNumber(y) ? null : loss ? ratio(x, y) : Math.round(1e9 * (x - y)) / 1e9];
    }), loss);
  }
  const prunedScores = (group) => unique([].concat(...prunedRuns(group).map((run) => prunedCurves(run)
      .filter((c) => c.step === state.pruned && c.score !== 'none').map((c) => c.score))));
  const sparsitiesOf = (group) => ascending(unique([].concat(...prunedRuns(group).map((run) => [].concat(...prunedCurves(run)
      .filter((c) => c.step === state.pruned && c.score !== 'none').map((c) => list(c.sparsity)))))));
  /** What the network classifies, or its loss where targets are no classes or it is chosen. */
  const prunedKind = (group, chosen) => (chosen !== 'loss' && prunedRuns(group).some((run) => prunedCurves(run)
      .some((c) => hasNumbers(c.accuracy))) ? 'accuracy' : 'loss');
  const accuracyWords = (run) => ((run.training || {}).accuracy_of === 'train' ? 'accuracy on training samples' : 'test accuracy');
  const withInterval = (x, words) => `${words(x.mean)}${isNumber(x.low) ? ` [${words(x.low)}, ${words(x.high)}]` : ''}`;

  /** By which score most is left where 80 % are pruned, or at the sparsity nearest to that. */
  function prunedAnswer(group) {
    const all = sparsitiesOf(group), tuned = fineTuned(group) > 0, kind = prunedKind(group), loss = kind === 'loss';
    if (!all.length) return null;
    const sparsity = all.reduce((a, b) => (Math.abs(b - 0.8) < Math.abs(a - 0.8) ? b : a));
    const key = tuned ? `tuned_${kind}` : kind;
    const rows = prunedScores(group).map((score) => ({ score, x: prunedMean(group, score, false, sparsity, key) }))
        .filter((row) => isNumber(row.x.mean)).sort((a, b) => (loss ? a.x.mean - b.x.mean : b.x.mean - a.x.mean));
    if (!rows.length) return null;
    const mask = (i) => [rows[i].score, false, sparsity], best = rows[0];
    return { group, sparsity, key, loss, tuned, rows, whole: prunedMean(group, 'none', false, 0, key),
      control: prunedGap(group, key, mask(0), [best.score, true, sparsity]), next: rows[1] ? prunedGap(group, key, mask(0), mask(1)) : null };
  }
  function prunedSentence(a) {
    const points = (x) => `${number(100 * x)}`, name = groups.length > 1 ? `${a.group.label}: w` : 'W';
    const [best, next] = a.rows, run = prunedRuns(a.group)[0], value = (x) => withInterval(x, a.loss ? number : percent);
    const gap = (x, worse, better, of) => (a.loss ? `its loss is ${withInterval(x, number)} times that of ${of}`
        : `${withInterval({ ...x, ...(x.mean < 0 ? { mean: -x.mean, low: -x.high, high: -x.low } : {}) }, points)} points ${x.mean < 0 ? worse : better} ${of}`);
    const even = a.loss ? 1 : 0, open = (x) => isNumber(x.low) && x.low < even && x.high > even;
    const words = [`${name}ith ${percent(a.sparsity)} of ${number((run.pruning || {}).prunable)} parameters pruned at ${stepName(state.pruned)}${a.tuned ? ` and ${number(fineTuned(a.group))} steps of fine-tuning` : ', without fine-tuning'}, most is left by `,
      element('strong', {}, best.score), `: ${a.loss ? 'test loss' : accuracyWords(run)} ${value(best.x)}`,
      isNumber(a.whole.mean) ? ` (the whole network, ${a.tuned ? 'trained as much further' : 'unpruned'}: ${value(a.whole)})` : ''];
    if (isNumber(a.control.mean)) {
      words.push(`, ${gap(a.control, 'below', 'above', 'random masks with its counts by layer')}${open(a.control) ? ', which the seeds do not tell from none' : ''}`);
    } else {
      words.push('; it has no random control');
    }
    if (next && a.next && isNumber(a.next.mean)) words.push(a.loss ? `. Next is ${next.score}: ${gap(a.next, '', '', 'it')}`
        : `. Next is ${next.score}, ${withInterval(a.next, points)} points behind`, open(a.next) ? ', which the seeds do not tell from none' : '');
    return element('p', { class: 'answer' }, ...words, '.');
  }
  function prunedUncertainty(a) {
    const { n, subsets } = a.rows[0].x, parts = [];
    parts.push(n > 1 ? `Means over ${number(n)} seeds with 95 % t-intervals, mean ± t s/√n ${a.loss ? 'of logarithms of losses' : 'of the accuracies themselves, which may therefore pass 100 %'}; distances are taken seed by seed. Random masks are averaged over their draws within a seed first.`
      : `${subsets ? `One seed, means over its ${number(subsets.each[0])} subsets of samples` : 'It is one run'}: nothing here says what another seed would give, so nothing has an interval. Random masks are averaged over their draws.`);
    if (a.rows.length > 1) parts.push(`The best of ${number(a.rows.length)} scores is named after the fact, which flatters it.`);
    return parts.join(' ');
  }

  function drawPruning(content) {
    const some = groups.filter((g) => g.runs.some((run) => prunedCurves(run).length));
    byId('pruning').hidden = !some.length;
    if (!some.length) return;
    const mine = groupOfRun(selectedRun()), group = some.includes(mine) ? mine : some[0];
    const all = some.map((g) => [g, prunedAnswer(g)]).filter(([, a]) => a), chosen = all.find(([g]) => g === group);
    for (const [, a] of all.length > 3 ? [chosen || all[0]] : all) content.append(prunedSentence(a),
        element('p', { class: 'note' }, prunedUncertainty(a)));
    const steps = ascending(unique([].concat(...some.map((g) => [].concat(...g.runs.map((run) => prunedCurves(run).map((c) => c.step)))))));
    const scores = prunedScores(group), x = sparsitiesOf(group), kind = prunedKind(group, state.measure), tune = fineTuned(group);
    const controls = element('div', {}, steps.length > 1 ? toggle('Step', 'pruned', steps, steps.map(number)) : null,
        prunedKind(group) === 'accuracy' ? toggle('What is left', 'measure', ['accuracy', 'loss']) : null);
    if (scores.length > 1) {
      const select = choice('score', 'Score', [''].concat(scores), (s) => s || 'all', { class: 'toggle' });
      select.sync();
      controls.append(select.node);
    }
    if (groups.length > 1) subtitle(content, group.label);
    content.append(controls);
    if (!x.length) return absent(content, `Nothing was pruned at ${stepName(state.pruned)} here.`);

    const scale = kind === 'accuracy' ? (v) => (isNumber(v) ? Math.round(1e8 * v) / 1e6 : null) : (v) => (isNumber(v) ? v : null);
    const only = scores.includes(state.score) ? state.score : null, several = prunedRuns(group).length > 1;
    const series = (key) => {
      const curve = (score, control) => { const means = x.map((s) => prunedMean(group, score, control, s, key));
        return { x, y: means.map((m) => scale(m.mean)), low: means.map((m) => scale(m.low)), high: means.map((m) => scale(m.high)) }; };
      const drawn = [];
      scores.forEach((score, i) => {
        const look = { colour: SERIES[i % 6], shape: SHAPES[Math.floor(i / 6) % 4], faint: Boolean(only) && score !== only };
        const own = curve(score, false), control = curve(score, true), bare = (c) => (only === score ? c : { x: c.x, y: c.y });
        if (hasNumbers(own.y)) drawn.push({ ...look, name: score, dots: true, width: only === score ? 3 : 1.8,
            ...(scores.length > 4 ? bare(own) : own),
          words: (j) => (isNumber(control.y[j]) ? ` (control ${number(control.y[j])})` : '') });
        if (hasNumbers(control.y)) drawn.push({ ...look, name: `${score}, random by layer`, dash: '5 4', width: 1.3, quiet: only !== score,
            unlisted: true, ...bare(control) });
      });
      // Drawn by nothing, for the legend.
      if (drawn.some((s) => s.unlisted)) drawn.push({ name: 'random masks with a score’s counts by layer', quiet: true, colour: 'soft',
          dash: '5 4', width: 1.3, x: [], y: [] });
      return drawn;
    };
    const panels = [['at once', kind]].concat(tune ? [[`after ${number(tune)} steps of fine-tuning`, `tuned_${kind}`]] : [])
        .map(([title, key]) => ({ title, key, series: series(key), whole: prunedMean(group, 'none', false, 0, key) }))
        .filter((p) => p.series.some((s) => hasNumbers(s.y)));
    // One scale for both, so that they can be held against each other.
    const every = [].concat(...panels.map((p) => [].concat(...p.series.map((s) => s.y), [scale(p.whole.mean)]))).filter((v) => isNumber(v) && v > 0);
    const range = kind === 'accuracy' ? { min: 0, max: 100 }
        : { log: true, min: Math.min(...every) / 1.15, max: Math.max(...every) * 1.15 };
    const label = kind === 'accuracy' ? `${accuracyWords(prunedRuns(group)[0])} (%)` : 'test loss (mean per sample)';
    const box = grid(content, 'pair');
    for (const p of panels) {
      Charts.lines(box, { title: `${capital(kind)} ${p.title}, ${stepName(state.pruned)}`, height: 340, series: p.series,
        caption: `${several ? 'Means over seeds. ' : ''}Dashed, in the colour of its score: random masks that keep as many of each tensor, mean over draws; what a score does beyond choosing layers is the distance between the two.${several && p.series.some((s) => s.low) ? ' Whiskers: 95 % t-intervals over seeds.' : several ? ' Choose one score to see its intervals.' : ''}`,
        x: { label: 'share of the prunable parameters that is zero', ticks: x, by: (s) => -Math.log(1 - s),
            words: (s) => `${number(100 * s)} %`, name: (s) => `${number(100 * s)} % pruned` },
        y: { label, ...range }, at: (chosen ? chosen[1] : {}).sparsity,
        rules: isNumber(p.whole.mean) ? [{ y: scale(p.whole.mean), name: `nothing pruned${p.key === kind ? '' : ', trained as much further'} (${number(scale(p.whole.mean))})` }] : [] });
    }
    prunedTable(content, group, chosen && chosen[1]);
  }
  function prunedTable(content, group, a) {
    if (!a) return;
    const kind = prunedKind(group, state.measure), keys = [kind].concat(a.tuned ? [`tuned_${kind}`] : []);
    const value = (x) => (isNumber(x.mean) ? withInterval(x, kind === 'loss' ? number : (v) => number(100 * v)) : '–');
    const of = (key) => (score) => { const mask = [score, false, a.sparsity], control = [score, true, a.sparsity];
      return [value(prunedMean(group, ...mask, key)), value(prunedMean(group, ...control, key)), value(prunedGap(group, key, mask, control))]; };
    const beyond = kind === 'loss' ? 'Over control' : 'Beyond it';
    content.append(table([['Score'], ...[].concat(...keys.map((key) => (key === kind ? [['At once', N], ['Control at once', N], [beyond, N]]
        : [['Tuned', N], ['Control, tuned', N], [`${beyond}, tuned`, N]])))], a.rows.map(({ score }) => ({ chosen: score === state.score, cells: [score, ...[].concat(...keys.map((key) => of(key)(score)))] })),
        { class: 'cards' }),
      element('p', { class: 'note' }, `${percent(a.sparsity)} pruned, ${stepName(state.pruned)}; ${kind === 'loss' ? 'losses, and their ratio' : 'accuracies in per cent, and their difference in points'}. Rows by what is left in the end.`));
  }

  function drawExact(content) {
    const all = selectedRun() ? selectedRun().decompositions : [];
    const pairs = all.filter((d) => d.method === 'dense').map((exact) =>
        ({ exact, sketched: all.filter((d) => d.method !== 'dense' && place(d) === place(exact)) }))
        .filter((p) => p.sketched.length);
    byId('exact').hidden = !pairs.length;
    if (!pairs.length) return;
    const box = grid(content, 'grid');
    for (const { exact, sketched } of pairs) {
      const oe = overlapOf(exact), overlapping = sketched.filter(hasOverlap);
      if (oe && hasNumbers(oe.magnitude) && overlapping.length) {
        const series = [{ name: 'exact', colour: 'ink', width: 1.8, x: sizesOf(oe, oe.magnitude), y: oe.magnitude }];
        overlapping.forEach((d, i) => {
          const o = overlapOf(d);
          series.unshift({ name: d.method, colour: SERIES[(i + 1) % 6], dash: '5 4', width: 2.6, x: sizesOf(o, o.magnitude),
              y: o.magnitude });
          series.push(...solverEdges(o, SERIES[(i + 1) % 6]));
        });
        series.push({ name: 'chance', colour: 'soft', dash: '2 3', width: 1.4, x: sizesOf(oe, oe.magnitude),
            y: chanceCurve(exact, oe) });
        const facts = sketched.map((d) => d.exact_comparison).filter(Boolean)
            .map((c) => (isNumber(c.overlap_difference) ? `At the largest k they differ by ${percent(c.overlap_difference)}.`
            : '')).join(' ');
        Charts.lines(box, { title: `Overlap, ${place(exact)}`, compact: true, height: 210, series, at: state.k,
            marks: [{ x: state.k, name: '' }], caption: facts,
          x: { label: 'k', log: true, name: (x) => `k = ${number(x)}` },
              y: { label: 'overlap', log: true, floor: floorOf(exact, oe) } });
      }
      if (hasNumbers(exact.eigenvalues)) {
        const K = Math.max(...sketched.map((d) => d.count), 2), kept = exact.pairs.filter((pair) => pair <= K),
            size = (d) => list(d.eigenvalues).map((v) => (isNumber(v) ? Math.abs(v) : null));
        const series = [];
        sketched.forEach((d, i) => series.push({ name: d.method, kind: 'dots', colour: SERIES[(i + 1) % 6], r: 2,
            filling: fillings(d, list(d.eigenvalues).map((_, j) => j)), x: d.pairs, y: size(d) }));
        series.unshift({ name: 'exact', colour: 'ink', width: 1.4, x: kept,
            y: size(exact).slice(0, kept.length) });
        const facts = sketched.map((d) => d.exact_comparison).filter(Boolean)
            .map((c) => [isNumber(c.relative_frobenius_error) ? `|H − Ĥ| / |H| = ${number(c.relative_frobenius_error)}` : null,
          isNumber(c.leading_eigenvalues_difference)
              ? `the ${number(c.leading)} leading eigenvalues differ by at most ${number(c.leading_eigenvalues_difference)} (relative)`
              : null].filter(Boolean).join('; ')).join('. ');
        Charts.lines(box, { title: `|λ|, ${place(exact)}`, compact: true, height: 210, series,
            caption: facts ? `${capital(facts)}.` : '', x: { label: 'index', name: (x) => `index ${number(x)}`, whole: true },
            y: { label: '|λ|', log: true } });
      }
    }
    content.append(element('p', { class: 'note' },
        'Approximate results over the exact ones: where the method works, the two fall on top of each other. Filled marks are certified pairs, pale ones certain in value only, hollow ones may be noise.'));
  }

  function drawDynamics(content) {
    const d = (selectedRun() || {}).dynamics;
    byId('dynamics').hidden = !d;
    if (!d) return;
    const box = grid(content, 'grid maps');
    for (const m of list(d.maps)) {
      const steps = list(m.steps), others = Array.isArray(m.other_steps) ? m.other_steps : steps;
      Charts.heat(box, { title: `${m.name}${isNumber(m.rho) ? `, ρ = ${number(m.rho)}` : ''}${isNumber(m.k) ? ` (k = ${number(m.k)})` : ''}`,
          rows: steps, columns: others, values: list(m.values), chance: m.chance, xLabel: 'step', yLabel: 'step' });
    }
    if (list(d.crystallisation).length) {
      const thresholds = unique([].concat(...d.crystallisation.map((c) => list(c.thresholds))));
      subtitle(content, 'When it stays above its final form');
      content.append(table([['Of what'], ['ρ', N], ['Similarity(0, end)', N],
          ...thresholds.map((t) => [`above ${number(t)} from step`, N])],
          d.crystallisation.map((c) => ({ cells: [String(c.what), number(c.rho), number(c.similarity0),
        ...thresholds.map((t) => { const i = list(c.thresholds).indexOf(t), step = list(c.steps)[i],
            before = list(c.before)[i]; return i < 0 ? '–' : isNumber(step)
            ? `${number(step)}${isNumber(before) ? ` (after ${number(before)})` : ''}` : 'not before the last record'; })] })),
            { class: 'cards' }));
    }
    if (list(d.gradient).length) {
      Charts.lines(content, { title: 'Gradient in the top eigenspace',
          caption: 'Share ‖Uᵀg‖²/‖g‖² of the gradient that lies in the top-k eigenspace.', height: 260,
        series: d.gradient.map((g, i) => ({ name: `${g.split}${isNumber(g.k) ? `, k = ${number(g.k)}` : ''}`,
            colour: SERIES[i % 6], dots: true, shape: SHAPES[i % 4], x: list(g.steps), y: list(g.share) })),
        x: { label: 'training step', name: stepName }, y: { label: 'share', min: 0, max: 1 } });
    }
  }

  // ---------------------------------------------------------------------------------------------- details

  const SELECTIONS = { positive: 'Most positive eigenvalues', negative: 'Most negative eigenvalues',
      both: 'Eigenvalues at both ends' };

  /** One sign's eigenvalues on a panel of its own. */
  function panel(content, d, sign, title) {
    const indices = list(d.eigenvalues).map((v, i) => i).filter((i) => isNumber(d.eigenvalues[i])
        && (sign > 0 ? d.eigenvalues[i] >= 0 : d.eigenvalues[i] < 0) && !(state.y === 'log' && d.eigenvalues[i] === 0));
    if (!indices.length) return absent(content, `${title}: none among the ${plural(d.count, 'pair')}.`);
    const ranks = new Map(), own = sign < 0;
    d.below.forEach((below, i) => { if (below === own) ranks.set(i + 1, ranks.size + 1); });
    const rank = indices.map((i) => ranks.get(d.pairs[i])), residuals = list(d.residuals);
    const series = [{ name: sign > 0 ? 'λ > 0' : 'λ < 0', short: 'λ', kind: 'dots', colour: sign > 0 ? 'blue' : 'red',
        shape: sign > 0 ? 'circle' : 'triangle', filling: fillings(d, indices), x: rank,
        y: indices.map((i) => Math.abs(d.eigenvalues[i])),
      words: (j) => `${isNumber(residuals[indices[j]]) ? ` ± ${number(residuals[indices[j]])}` : ''}${isNumber(list(d.angle)[indices[j]]) ? `, vector within ${number(d.angle[indices[j]])} rad` : ''}${TRUST_WORDS[trustOf(d, d.pairs[indices[j]] - 1)]}; index ${number(d.pairs[indices[j]])}` }];
    // Residuals that are rounding lie far below all eigenvalues, and need no line.
    const smallest = Math.min(...series[0].y), bounds = indices.map((i) => residuals[i]);
    if (bounds.some((r) => isNumber(r) && r > smallest / 30)) series.push({ name: 'residual bound', kind: 'edge', loose: true,
        colour: 'soft', quiet: true, x: rank, y: bounds });
    Charts.lines(content, { title, series, height: 300, x: { label: 'rank among those of its sign', log: state.x === 'log',
        whole: true, name: (x) => `rank ${number(x)}` },
      y: { label: '|λ|', log: state.y === 'log', zero: true },
          caption: `${number(d.thinned ? ranks.size : indices.length)} of ${plural(d.count, 'pair')}${d.thinned && indices.length < ranks.size ? `, ${number(indices.length)} of them drawn` : ''}.` });
  }
  function drawSpectrum(content, d) {
    const values = list(d.eigenvalues);
    if (!hasNumbers(values)) return absent(content, `No eigenvalues are stored for ${fullName(d)}.`);
    content.append(element('div', {}, toggle('|λ| axis', 'y', ['log', 'linear']), toggle('rank axis', 'x', ['linear', 'log'])));
    const known = certainSigns(d), negative = known.filter(Boolean).length, mixed = countOf(d, VALUE),
        noise = countOf(d, NOISE), clustered = countOf(d, CLUSTER), words = [];
    if (!saysTrust(d)) {
      words.push(d.method === 'dense' ? 'Computed exactly.' : 'Without residuals it is not known which of them can be trusted.');
    } else {
      if (d.method === 'dense') words.push('Computed exactly, up to rounding.');
      words.push(`A true eigenvalue lies within ± the residual of each. ${number(certifiedOf(d))} of ${plural(d.count, 'pair')} are certified${mixed || noise ? ' (filled)' : ''}${clustered ? `, ${number(clustered)} of them together with others that they cannot be told from` : ''}.`);
      if (mixed) words.push(`Of ${number(mixed)} (pale) an eigenvalue lies there, but the eigenvector may mix those of several, or a larger one may have been missed.`);
      if (noise) words.push(`${number(noise)} (hollow) do not exceed their residual and may be noise.`);
    }
    if (known.length) words.push(`${number(negative)} of the ${number(known.length)}${saysTrust(d) ? ' whose sign is certain' : ''} are negative.`);
    content.append(element('p', { class: 'note' },
        `${SELECTIONS[d.selection] || 'Largest eigenvalues by magnitude'}, ${fullName(d)}. ${words.join(' ')}${thinning(d)}`));
    const box = grid(content, 'pair'), left = element('div', {}), right = element('div', {});
    box.append(left, right);
    panel(left, d, 1, 'Positive eigenvalues');
    panel(right, d, -1, 'Negative eigenvalues');

    const l = d.localisation;
    if (l && (hasNumbers(l.participation) || hasNumbers(l.layers))) {
      const D = parametersOf(d.run), sizes = list((d.tensors || {}).parameters), more = grid(content, 'pair');
      const haar = isNumber(l.participation_random) ? l.participation_random : D ? 3 / (D + 2) : null;
      const layered = isNumber(l.layers_random) ? l.layers_random : D && sizes.length
          ? sizes.reduce((s, n) => s + n * (n + 2), 0) / (D * (D + 2)) : null;
      for (const [curve, reference, title, caption] of [[l.participation, haar, 'Localisation of eigenvectors',
          'Inverse participation ratio Σ U⁴ of each vector: 1 on a single parameter.'],
          [l.layers, layered, 'Localisation by layers',
          'Σ over tensors of the squared share of each vector: 1 within a single tensor.']]) {
        if (hasNumbers(curve)) Charts.lines(more, { title, caption: d.thinned ? `${caption} Of ${number(d.count)} vectors ${number(curve.length)} are drawn.` : caption, height: 240,
            series: [{ name: 'eigenvectors', short: '', kind: 'dots', r: 2, colour: 'blue',
            filling: fillings(d, list(curve).map((_, i) => i)), x: d.pairs.length >= curve.length ? d.pairs.slice(0, curve.length) : upTo(curve.length), y: curve }],
            rules: isNumber(reference) ? [{ y: reference, name: `a random vector (${number(reference)})` }] : [],
            x: { label: 'index of the vector', whole: true, name: (x) => `vector ${number(x)}` },
            y: { label: 'ratio (log)', log: true } });
      }
    }
  }

  /**
   * The certificate in words. The estimate e of the error E comes from random probes, and bounds hold for the squares:
   * P(e² ≤ (1−ε)E²) ≤ probability_underestimate and P(e² ≥ (1+ε)E²) ≤ probability_overestimate.
   */
  function statement(d) {
    const c = d.certificate;
    if (d.method === 'dense') return 'Exact, up to rounding: no probability is involved.';
    if (!c) return 'No certificate was computed.';
    const e = c.error_estimate, eps = c.epsilon, parts = [];
    if (isNumber(e) && isNumber(eps)) {
      if (isNumber(c.probability_underestimate)
          && eps < 1) parts.push(`above ${number(e / Math.sqrt(1 - eps))} with probability at most ${percent(c.probability_underestimate)}`);
      if (isNumber(c.probability_overestimate)) parts.push(`below ${number(e / Math.sqrt(1 + eps))} with probability at most ${percent(c.probability_overestimate)}`);
    }
    const from = isNumber(c.probes) ? `Estimated from ${plural(c.probes, 'random probe')}` : 'Estimated';
    return parts.length ? `${from} (ε = ${number(eps)}): the true error is ${parts.join(', and ')}.` : `${from}.`;
  }
  function drawTrust(content, chosen) {
    const all = selectedRun().decompositions;
    const share = (d) => { const known = certainSigns(d); return known.length
        ? percent(known.filter(Boolean).length / known.length) : '–'; };
    for (const text of [
      'Error is the Frobenius norm of what the decomposition misses of the operator; relative error divides it by the operator’s own norm.',
      'Every pair has a bound on its residual ‖Hu − λu‖, and a true eigenvalue lies within that of λ. The bound is certain up to rounding for krylov, hmt and dense, and holds for each pair with probability 99.9 % for seigh and nystrom. A pair is certified when twice the bound is below the gap to every other eigenvalue, found or not: what was not found is bounded by the norm of what the computation left of the matrix. Several that cannot be told from each other, but from all others, are certified together, as a cluster. Of any other pair an eigenvalue lies within the bound, but its vector may mix those of several eigenvalues. Where the bound reaches |λ| and nothing else excludes zero, the pair may be noise.',
      'The negative share is of the pairs whose sign is certain. The selected decomposition is highlighted.',
    ]) absent(content, text);
    content.append(table([['Decomposition'], ['λ₁', N], ['Negative share', N], ['Certified pairs', N], ['Value only', N],
        ['May be noise', N], ['Error (Frobenius)', N], ['Relative error', N], ['Operator products', N], ['Time (s)', N],
        ['What the estimate is worth', 'words']],
      all.map((d) => ({ chosen: d === chosen, cells: [fullName(d), number(list(d.eigenvalues)[0]), share(d),
          saysTrust(d) ? `${number(certifiedOf(d))} of ${number(d.k || d.count)}` : '–',
          saysTrust(d) ? number(countOf(d, VALUE)) : '–', saysTrust(d) ? number(countOf(d, NOISE)) : '–',
        d.method === 'dense' ? 'exact' : number(d.certificate && d.certificate.error_estimate),
            d.method === 'dense' ? 'exact' : percent(d.certificate && d.certificate.relative_error), number(d.products),
            number(d.seconds), statement(d)] })), { class: 'cards' }));
    if (hasNumbers(chosen.residuals)) {
      const n = chosen.residuals.length, x = chosen.pairs.length === n ? chosen.pairs : upTo(n), scale = Math.abs(list(chosen.eigenvalues)[0]) || 1;
      Charts.lines(content, { title: `Residuals: ${fullName(chosen)}`, height: 260,
          caption: 'Upper bounds on ‖Hu − λu‖ of each pair, over |λ₁|, beside the pairs’ |λ|.',
        series: [{ name: 'residual / |λ₁|', short: 'residual', kind: 'dots', r: 2, colour: 'red',
            filling: fillings(chosen, chosen.residuals.map((_, i) => i)), x,
            y: chosen.residuals.map((r) => ratio(r, scale)) }, { name: '|λ| / |λ₁|', short: '|λ|', colour: 'blue', width: 1.4,
            x, y: list(chosen.eigenvalues).map((v) => (isNumber(v) ? Math.abs(v) / scale : null)) }],
        x: { label: 'index of the pair', whole: true, name: (x) => `pair ${number(x)}${TRUST_WORDS[trustOf(chosen, x - 1)]}` },
            y: { label: 'over |λ₁|', log: true } });
    }
  }
  /** Shares of the matrix' norms that the top k pairs are, by step: curves by group of runs, split and matrix. */
  function drawConcentrationOverTime(box) {
    const steps = valuesOf('step').filter(isNumber), several = groups.length > 1 || runs.length > 1, wanted = ['step', 'split', 'operator'];
    const kept = (c, key) => { const k = c && nearestSize(list(c.k), state.k); return k ? list(c[key])[list(c.k).indexOf(k)] : null; };
    const all = [];
    for (const [i, g] of (several ? groups : [{ label: '', runs }]).entries()) for (const [j, split] of valuesOf('split').entries())
      for (const [m, operator] of valuesOf('operator').entries()) all.push({ runs: g.runs, split, operator,
          colour: SERIES[(groups.length > 1 ? i : valuesOf('operator').length > 1 ? m : j) % 6], dash: DASHES[(groups.length > 6 ? Math.floor(i / 6) : j) % 4], shape: SHAPES[(groups.length > 1 ? m : j) % 4],
          group: groups.length > 1 ? g.label : null, name: [groups.length > 1 ? g.label : null, valuesOf('operator').length > 1 ? operatorName(operator) : null, split].filter(Boolean).join(', ') });
    // Too many to be told apart: those of the split and the matrix that are shown.
    const lines = all.length > 8 ? all.filter((l) => l.split === state.split && l.operator === state.operator).map((l) => ({ ...l, name: l.group || l.name })) : all;
    const repeats = lines.some((l) => l.runs.length > 1);
    for (const [key, title, caption] of [
      ['share', `κ by step: the top ${number(state.k)} pairs’ share of ‖H‖²`, 'κₖ = Σλᵢ², i ≤ k, over the squared Frobenius norm.'],
      ['nuclear', `The top ${number(state.k)} pairs’ share of Σ|λ|`, 'Σ|λᵢ|, i ≤ k, over the nuclear norm: where all eigenvalues are known.']]) {
      const series = lines.map((l) => {
        const of = (run, step) => {
          const found = run.decompositions.filter((d) => wanted.every((w) => d[w] === { step, split: l.split, operator: l.operator }[w])
              && isNumber(kept(d.concentration, key)));
          return (found.find((d) => d.method === state.method) || found[0] || {}).concentration;
        };
        const x = steps.map((step) => repeated(l.runs.map((run) => [run, kept(of(run, step), key)]).filter(([, v]) => isNumber(v)), true));
        const solver = (side) => steps.map((step) => kept(of(l.runs[0], step), side));
        const seeds = l.runs.length > 1, low = seeds ? x.map((m) => m.low) : solver('low'), high = seeds ? x.map((m) => m.high) : solver('high');
        return { name: l.name || title, short: l.name ? null : 'share', colour: l.colour, dash: l.dash, shape: l.shape, dots: true, x: steps, y: x.map((m) => m.mean),
          wide: seeds, ...(key === 'share' && (seeds || !repeats) ? { low, high } : {}) };
      }).filter((s) => hasNumbers(s.y));
      if (series.length) Charts.lines(box, { title, height: 240, series, at: state.step, pick: (x) => set({ step: x }), marks: [{ x: state.step, name: '' }],
        caption: `${caption}${key === 'nuclear' ? '' : repeats ? ' Geometric means; whiskers: 95 % t-intervals over seeds.'
          : ' Whiskers: 95 % by the random probes that the norm is estimated with, none where it is exact.'}${lines.length < all.length ? ' Of the chosen split and matrix.' : ''}`,
        x: stepAxis(steps), y: { label: 'share', zero: true } });
    }
  }
  function drawConcentration(content, d) {
    // Of the upper bound the page holds what makes it of the lower one.
    const scree = { ...d.scree }, box = grid(content, 'pair');
    if (isNumber(scree.error)) scree.upper = list(scree.lower).map((v) => (isNumber(v) ? (Math.sqrt(v) + scree.error) ** 2 : null));
    drawConcentrationOverTime(box);
    if (!hasNumbers(scree.lower) && !hasNumbers(scree.upper)) return absent(content,
        `No scree bounds were computed for ${fullName(d)}.`);
    const x = (curve) => (list(scree.k).length === curve.length ? scree.k : upTo(curve.length));
    Charts.lines(box, { title: `What the top k eigenpairs leave out: ${fullName(d)}`, height: 240,
      caption: 'Bounds on the share of the matrix’s squared Frobenius norm (sum of squared eigenvalues) that is not in the k leading eigenpairs.',
      series: [{ name: 'upper bound', colour: 'red', y: list(scree.upper), x: x(list(scree.upper)) },
          { name: 'lower bound', colour: 'blue', dash: '6 4', y: list(scree.lower), x: x(list(scree.lower)) }].filter((s) =>
          hasNumbers(s.y)),
      x: { label: 'k (eigenpairs kept)', whole: true, name: (k) => `k = ${number(k)}` },
          y: { label: 'share of ‖A‖² left out', zero: true, max: 1 }, at: state.k });
  }
  function drawNulls(content, d) {
    const o = overlapOf(d) || {}, factors = list(o.factors), two = (o.nulls || {}).two_way || {};
    if (!factors.length) return absent(content,
        'This overlap file holds no nulls by unit; seigh overlap makes it anew once it is deleted.');
    content.append(table([['k', N], ['Overlap', N], ['Chance', N], ['Layer', N], ['Units', N], ['Parameter', N], ['z', N],
        ['p', N], ['Free entries', N], ['Effective samples', N], ['Autocorrelation', N], ['Moves accepted', N]],
        factors.map((f) => {
      const i = list(two.sizes).indexOf(f.size);
      return { chosen: f.size === state.k, cells: [number(f.size), number(f.overlap), number(f.chance), number(f.layer),
          number(f.units), number(f.parameter), number(f.z), number(f.p), number(f.free), number(list(two.effective)[i]),
          number(list(two.autocorrelation)[i]), percent(list(two.acceptance)[i])] };
    }), { class: 'cards' }));
    absent(content, 'The two-way null keeps the mask’s count in every row and every column of every tensor and is sampled by swaps: z and p are of the overlap among its masks, and describe random placement in this network, no other seeds. With fewer than 100 entries free to move z says little, leverages being heavy-tailed: then p.');
    const at_ = (key, what) => valueAt(o, list(((o.nulls || {})[key] || {})[what]), state.k);
    content.append(table([['Null at the chosen k'], ['Mean', N], ['Deviation', N], ['Overlap over it', N], ['z', N],
        ['Share free to move', N], ['p of max |z| over k', N], ['Share of the ceiling', N], ['Rank correlation', N]],
        ['layer', 'output_unit', 'input_unit', 'two_way', ...((o.nulls || {}).joint ? ['joint'] : [])].map((key) => {
      const mean = at_(key, 'mean'), std = at_(key, 'std'), overlap = valueAt(o, o.magnitude, state.k),
          ceiling = o.ceiling || d.ceiling, rank = (d.rank_correlation || o.rank_correlation || {})[key];
      const reach = Array.isArray(ceiling) ? (ceiling.find((c) => c.size === state.k) || {})[key] : ceiling
          && Array.isArray(ceiling[key]) ? valueAt(o, ceiling[key], state.k) : null;
      return { cells: [NULL_NAMES[key], number(mean), number(std), number(ratio(overlap, mean)),
          isNumber(std) && std > 0 ? number((overlap - mean) / std) : '–', percent(at_(key, 'free')),
          number(((o.bands || {})[key] || {}).p), percent(reach), rank
          ? `${number(rank.value)}${isNumber(rank.error) ? ` ± ${number(rank.error)}` : ''}` : '–'] };
    }), { class: 'cards' }));
    absent(content, 'Share of the ceiling: (overlap − null) over (best mask with the same counts − null). Joint: the mask on hidden units that have changed places. Rank correlation: of magnitudes and leverages within the groups of the null, for no mask size in particular.');
  }
  function drawTraining(content) {
    const shown = runs.filter((run) => run === selectedRun() || runs.length > 1)
        .filter((r) => hasNumbers((r.training || {}).loss) || hasNumbers((r.training || {}).test_accuracy));
    if (!shown.length) return absent(content, 'There is no training record in this folder.');
    const box = grid(content, 'pair'), of = shown.every((r) => r.training.accuracy_of === 'train')
        ? 'accuracy on training samples' : 'test accuracy';
    for (const [key, title, label, caption, scale] of [['loss', 'Training loss', 'loss (mean per sample)',
        'Mean loss during training; the curvature is that of this loss at the saved steps.', 1],
      ['test_accuracy', capital(of), `${of} (%)`, 'Share of these samples that the network classifies correctly.', 100]]) {
      const series = shown.filter((r) => hasNumbers(r.training[key])).map((r) =>
          ({ name: runs.length > 1 ? runName(r) : label, colour: SERIES[Math.max(0, groups.indexOf(groupOfRun(r))) % 6],
          faint: r !== selectedRun(), dots: r === selectedRun(), r: 2.5,
        x: list(r.training.step), y: r.training[key].map((v) => (isNumber(v) ? v * scale : null)) }));
      if (series.length) Charts.lines(box, { title, caption, series, height: 260, x: { label: 'training step', name: stepName },
          y: { label, zero: true, ...(scale === 100 ? { max: 100 } : {}) }, at: state.step });
    }
  }
  function drawSettings(content, d) {
    const run = selectedRun() || {};
    const rows = list(run.settings).filter(Array.isArray).map(([name, value]) => [String(name), String(value)]);
    if (run.folder) rows.unshift(['Folder', String(run.folder)]);
    if (d) {
      const known = [['k', d.k], ['products at most', d.s], ['samples', d.samples]].filter((f) => isNumber(f[1]))
          .map(([name, value]) => `${name} = ${number(value)}`).concat(d.dtype ? [String(d.dtype)] : []);
      if (known.length) rows.push(['Selected decomposition', `${d.id || fullName(d)}: ${known.join(', ')}`]);
    }
    if (!rows.length) return absent(content, 'No settings are stored in this folder.');
    content.append(element('div', { class: 'scroll' }, element('table', { class: 'pairs' },
        element('tbody', {}, ...rows.map(([name, value]) => element('tr', {}, element('th', { scope: 'row' }, name),
        element('td', {}, value)))))));
    const lines = list(run.headline).concat(runs.length > 1 ? list(page.headline) : []);
    if (lines.length) content.append(element('h3', { class: 'sub' }, 'As the command says it'),
        element('pre', {}, lines.map(String).join('\n')));
  }

  const DRAW = { spectrum: drawSpectrum, trust: drawTrust, concentration: drawConcentration, nulls: drawNulls,
      training: drawTraining, settings: drawSettings };

  // ---------------------------------------------------------------------------------------------- the synthetic study

  // A page of its own: pairs of subspaces without a network, so there is nothing else to show.
  const METRIC_NAMES = { geodesic: 'geodesic', chordal_2: 'chordal, 2-norm', chordal_frobenius: 'chordal, Frobenius',
      projection_2: 'projection, 2-norm', projection_frobenius: 'projection, Frobenius', fubini_study: 'Fubini–Study',
      overlap: 'overlap (a similarity)', intersection_over_union: 'intersection over union (a similarity)' };
  const metricName = (name) => METRIC_NAMES[name] || String(name);

  function drawSynthetic(content) {
    const s = page.synthetic, dimension = list(s.dimension), ratios = list(s.ratio), kinds = list(s.kinds).map(String);
    const spread = (values) => {
      const known = list(values).filter(isNumber);
      if (!known.length || known.length < list(values).length && known.length > 1) return '–';
      const low = Math.min(...known), high = Math.max(...known);
      return number(low) === number(high) ? number(low) : `${number(low)} to ${number(high)}`;
    };
    const most = (values) => { const known = list(values).filter(isNumber); return known.length ? Math.max(...known) : null; };
    content.append(element('p', { class: 'answer' }, String(s.verdict || '')),
      table([['Metric'], ['Off by, all cells', N], ['Off by, resolved', N], ['Says orthogonal', N], ['Slope', N],
          ['Between kinds', N], ['Follows k/D']], list(s.findings).map((f) => ({ chosen: f.follows, cells: [
        metricName(f.metric), number(most(f.off)), number(most(f.off_resolved)), percent(most(f.saturated)), spread(f.slope),
        number(f.between_kinds), f.follows ? 'yes' : 'no'] })), { class: 'cards' }),
      element('p', { class: 'note' },
          'Of each metric’s median s, as a similarity: overlap and intersection over union themselves, one minus a distance. Off by: the largest |s − k/D|, the worst kind of pair. A cell is resolved where two masks have a parameter in common on average, k²/D ≥ 1. Says orthogonal: the share of resolved cells with k < D in which s < .01. Slope: of log s on log k/D, resolved cells, by kind. Between kinds: the largest difference of medians in one resolved cell. Follows: off by .1 at most where resolved, never orthogonal, and slopes within .1 of 1.'));
    const views = [['D', 'ratio', 'over dimension, a line for each ratio', list(s.dimensions), list(s.ratios)],
      ['k/D', 'D', 'over the ratio, a line for each dimension', list(s.fine_ratios), list(s.fine_dimensions)]];
    kinds.forEach((kind, i) => {
      for (const [label, by, title, xs, lines] of views) {
        content.append(element('h2', {}, `${kind}, ${title}`));
        const box = grid(content, 'grid four'), overD = by === 'ratio', x = ascending(xs);
        list(s.findings).forEach((f, m) => {
          const levels = list(list(list(s.quantiles)[i])[m]);
          if (!hasNumbers(levels[2])) return;
          const series = [], edges = [];
          lines.forEach((line, j) => {
            const at = x.map((v) => dimension.findIndex((d, c) => (overD ? d === v && ratios[c] === line
                : d === line && ratios[c] === v)));
            const curve = (level) => at.map((c) => (c < 0 ? null : levels[level][c])), colour = SERIES[j % 6];
            series.push({ name: `${by} ${number(line)}`, short: number(line), colour, dots: true, r: 2, width: 1.6,
                dash: DASHES[j % 4], x, y: curve(2), low: curve(1), high: curve(3) });
            for (const level of [0, 4]) edges.push({ kind: 'edge', colour, quiet: true, unlisted: true,
                name: `${by} ${number(line)}, quantile ${number(list(s.levels)[level])}`, x, y: curve(level) });
          });
          Charts.lines(box, { title: metricName(f.metric), compact: true, height: 210, series: series.concat(edges),
            caption: m ? null : `Medians of ${number(s.pairs)} pairs, whiskers from quartile to quartile, thin lines at the quantiles .05 and .95.`,
            x: { label, log: true, name: (v) => `${label} = ${number(v)}` },
            y: { label: f.similarity ? 'similarity' : 'distance', min: -0.03, max: 1.03 } });
        });
      }
    });
  }

  // ---------------------------------------------------------------------------------------------- putting it together

  function fault(text) {
    errors.push(text);
    document.documentElement.dataset.errors = errors.join(' | ');
  }
  function say(text) {
    const message = byId('message');
    message.textContent = text;
    message.hidden = false;
  }

  function drawDetail(id) {
    const d = selected();
    part(id, (content) => (d || id === 'training' || id === 'settings' ? DRAW[id](content, d)
        : absent(content, 'No decomposition has been computed in this folder.')));
  }
  function update() {
    const root = document.documentElement, d = selected();
    hold();
    if (state.theme === 'auto') delete root.dataset.theme; else root.dataset.theme = state.theme;
    fillSelector();
    if (page.synthetic) {
      part('synthetic', drawSynthetic);
      drawDetail('settings');
      return finish();
    }
    part('answer', drawAnswer);
    part('signs', drawSigns);
    part('overview', drawOverview);
    part('groups', drawGroups);
    part('masks', (c) => drawMasks(c, d));
    part('pruning', drawPruning);
    part('tensors', (c) => drawTensors(c, d));
    part('exact', drawExact);
    part('dynamics', drawDynamics);
    for (const id of DETAILS) if (byId(id).open) drawDetail(id);
    finish();
  }

  function start() {
    window.addEventListener('error', (event) =>
        { fault(event.message); say(`Part of this page could not be drawn: ${event.message}.`); });
    byId('message').hidden = true;
    document.documentElement.dataset.errors = '';
    let data;
    try {
      data = JSON.parse(byId('data').textContent);
    } catch (error) {
      fault(error.message);
      return say(`The data of this report cannot be read (${error.message}).`);
    }
    load(data && typeof data === 'object' ? data : {});
    byId('title').textContent = page.title || document.title || 'seigh report';
    byId('footer').textContent = `Written by seigh${page.version ? ` ${page.version}` : ''}.`;
    byId('selector').addEventListener('submit', (event) => event.preventDefault());
    if (page.synthetic) {
      const shown = ['synthetic', 'settings'];
      for (const node of document.querySelectorAll('section, details')) node.hidden = !shown.includes(node.id);
      document.querySelector('main > h2').hidden = true;
      document.querySelector('.question').textContent =
          'Which metric between subspaces can be read as a share? Pairs that have nothing in common, over dimension and ratio.';
    }
    if (!everything().length && !page.training
        && !page.settings) say('This report holds no data: nothing has been computed in this folder yet.');

    read();
    for (const id of DETAILS) {
      const box = byId(id);
      box.open = state.open.includes(id);
      box.addEventListener('toggle', () => {
        const open = DETAILS.filter((one) => byId(one).open);
        if (open.join() === state.open.join()) return;
        const fresh = box.open && !state.open.includes(id);
        state.open = open;
        write();
        if (fresh) drawDetail(id);
        finish();
      });
    }
    update();
    window.addEventListener('hashchange', () => {
      read();
      for (const id of DETAILS) byId(id).open = state.open.includes(id);
      update();
    });
    // On paper everything is open.
    window.addEventListener('beforeprint', () => { for (const id of page.synthetic ? ['settings'] : DETAILS) { byId(id)
        .open = true; drawDetail(id); } finish(); });
    document.documentElement.dataset.ready = String(Math.round(performance.now() - LOADED));
  }

  start();
})();
