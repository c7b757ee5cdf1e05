// Draws the report from the JSON in the element "data" (the keys: web/README.md). Any key may be null or absent; a
// part without data says so in words. Only features that behave alike in Chart.js 3.9 and 4 are used, through the
// global `Chart`.
(function () {
  'use strict';

  // Okabe and Ito's palette: told apart by colour-blind readers. Shapes and dashes repeat what the colours say.
  const BLUE = '#0072b2', VERMILLION = '#d55e00', GREEN = '#009e73', PURPLE = '#cc79a7', SKY = '#56b4e9',
    ORANGE = '#e69f00', BLACK = '#222222', GREY = '#8a929c';
  const SERIES = [BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY];

  // ---------------------------------------------------------------------------------------------- small helpers

  const byId = (id) => document.getElementById(id);
  const isNumber = (x) => typeof x === 'number' && isFinite(x);
  const list = (x) => (Array.isArray(x) ? x : []);
  const hasNumbers = (x) => list(x).some(isNumber);
  const unique = (x) => x.filter((value, i) => x.indexOf(value) === i);
  const plural = (n, noun) => `${number(n)} ${noun}${n === 1 ? '' : 's'}`;

  /** A new element with attributes and children; strings become text, never markup. */
  function element(tag, attributes, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
    for (const child of children) if (child !== null && child !== undefined) node.append(child);
    return node;
  }

  function superscript(n) {
    return String(n).replace(/./g, (c) => (c === '-' ? '⁻' : '⁰¹²³⁴⁵⁶⁷⁸⁹'[Number(c)]));
  }

  /** Three significant digits; powers of ten for the very large and the very small; a dash for what is not known. */
  function number(x) {
    if (!isNumber(x)) return '–';
    if (x === 0) return '0';
    const size = Math.abs(x), sign = x < 0 ? '−' : '';
    if (Number.isInteger(x) && size < 1e7) return sign + size.toLocaleString('en');
    if (size >= 1e-3 && size < 1e5) return sign + String(Number(size.toPrecision(3)));
    const [digits, exponent] = size.toExponential(2).split('e');
    const mantissa = String(Number(digits)), power = '10' + superscript(Number(exponent));
    return sign + (mantissa === '1' ? power : `${mantissa} × ${power}`);
  }
  const percent = (x) => (isNumber(x) ? `${number(100 * x)} %` : '–');

  const OPERATORS = { hessian: 'Hessian', ggn: 'Gauss-Newton', fisher: 'Fisher', gauss_newton: 'Gauss-Newton' };
  const operatorName = (name) => OPERATORS[name] || name || 'operator not named';
  const METHODS = { dense: 'exact (dense)', krylov: 'block Krylov' };
  const methodName = (name) => METHODS[name] || (name ? `sketched (${name})` : 'method not named');
  const stepName = (step) => `step ${number(step)}`;
  const place = (d) => [isNumber(d.step) ? stepName(d.step) : null, d.split, operatorName(d.operator)]
    .filter(Boolean).join(' · ');
  const fullName = (d) => `${place(d)} · ${methodName(d.method)}`;

  // How far pair i (from 0) can be trusted; results that say nothing of it are drawn as if they were certified.
  const NOISE = 0, VALUE = 1, CLUSTER = 2, PAIR = 3;
  const saysTrust = (d) => Array.isArray(d.trust);
  const trustOf = (d, i) => (saysTrust(d) ? d.trust[i] : PAIR);
  const countOf = (d, level) => list(d.eigenvalues).filter((_, i) => trustOf(d, i) === level).length;
  const certifiedOf = (d) => countOf(d, PAIR) + countOf(d, CLUSTER);
  /** Eigenvalues whose sign is certain. */
  const certainValues = (d) => list(d.eigenvalues).filter((v, i) => isNumber(v) && trustOf(d, i) >= VALUE);
  /** The first k for which pair k may be noise, or infinity. */
  const firstNoise = (d) => list(d.eigenvalues).findIndex((_, i) => trustOf(d, i) === NOISE) + 1 || Infinity;
  const TRUST_WORDS = { [NOISE]: 'may be noise', [VALUE]: 'value only', [CLUSTER]: 'in a cluster', [PAIR]: '' };
  const remark = (d, i) => (TRUST_WORDS[trustOf(d, i)] ? ` (${TRUST_WORDS[trustOf(d, i)]})` : '');

  // ---------------------------------------------------------------------------------------------- charts

  /** Points (x, y) for Chart.js; a value that is not known, or not positive where a log axis needs it, leaves a gap. */
  function points(x, y, positiveOnly) {
    return list(y).map((value, i) => ({
      x: x ? x[i] : i + 1,
      y: isNumber(value) && !(positiveOnly && value <= 0) ? value : null,
    })).filter((p) => isNumber(p.x));
  }

  /** Ticks of a log axis: the decades, with 2 and 5 between them when there is room (the same in every Chart.js). */
  function logTicks(scale) {
    const first = Math.floor(Math.log10(scale.min)), last = Math.ceil(Math.log10(scale.max));
    const span = Math.log10(scale.max / scale.min);
    const leads = span < 0.8 ? [1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9] : span < 3 ? [1, 2, 5] : [1];
    const stride = Math.max(1, Math.ceil(span / 9));
    const ticks = [];
    for (let e = first; e <= last; e += stride) {
      for (const lead of leads) {
        const value = Number(`${lead}e${e}`);
        if (value >= scale.min * (1 - 1e-9) && value <= scale.max * (1 + 1e-9)) ticks.push({ value });
      }
    }
    if (ticks.length) scale.ticks = ticks;
  }

  function axis(title, options) {
    const { log, lastTick, ...rest } = options || {};
    const scale = {
      type: log ? 'logarithmic' : 'linear',
      title: { display: true, text: title },
      grid: { color: '#e8ebef' },
      ticks: { callback: (value) => number(value), maxRotation: 0 },
      ...rest,
    };
    // The room right of the last value gets no tick of its own.
    if (lastTick) {
      scale.afterBuildTicks = (s) => {
        s.ticks = s.ticks.filter((t) => t.value <= lastTick && Number.isInteger(t.value));
      };
    }
    if (log) {
      scale.afterBuildTicks = logTicks;
      scale.ticks.autoSkip = false;
    }
    return scale;
  }

  /** Limits of a log axis holding these values, with a little room. Nothing positive: one decade below 1. */
  function logLimits(values, floor) {
    const positive = values.filter((v) => isNumber(v) && v > 0);
    if (!positive.length) return { min: 0.1, max: 1 };
    // Not Math.min(...positive): a spread of very many values would overflow the call stack.
    const smallest = positive.reduce((a, b) => Math.min(a, b)), largest = positive.reduce((a, b) => Math.max(a, b));
    return { min: Math.max(smallest / 1.3, floor || 0), max: largest * 1.3 };
  }

  // What our data sets may carry besides Chart.js's own options: `quiet` (no tooltip), `unlisted` (not in the legend),
  // `name` (a label short enough for a tooltip on a narrow screen).
  function line(label, colour, data, options) {
    return {
      type: 'line', label, data, borderColor: colour, backgroundColor: colour, borderWidth: 2,
      pointRadius: data.length > 40 ? 0 : 2.5, pointHitRadius: 8, pointStyle: 'line', tension: 0, spanGaps: false,
      ...options,
    };
  }
  function dots(label, colour, data, options) {
    return {
      type: 'scatter', label, data, borderColor: colour, backgroundColor: colour, pointRadius: 3, pointHitRadius: 8,
      showLine: false, ...options,
    };
  }
  /** What dots of a trust level look like: filled, less so in a cluster, pale within a full outline, hollow with a faint one. */
  function trustMark(level, colour) {
    if (level === PAIR) return { borderColor: colour, backgroundColor: colour };
    if (level === CLUSTER) return { borderColor: colour, backgroundColor: colour + 'aa', borderWidth: 1.5 };
    return level === VALUE ? { borderColor: colour, backgroundColor: colour + '55', borderWidth: 1 }
      : { borderColor: colour + '70', backgroundColor: 'transparent', borderWidth: 1 };
  }
  const LEVELS = [[PAIR, ''], [CLUSTER, ', in a cluster'], [VALUE, ', value only'], [NOISE, ', may be noise']];

  /** A shaded band from `lower` to `upper`, as two data sets without outline. */
  function band(label, colour, lower, upper, opacity) {
    const bare = { borderWidth: 0, pointRadius: 0, pointHoverRadius: 0, pointHitRadius: 0, quiet: true };
    return [
      line(label, colour, upper, { ...bare, fill: '+1', backgroundColor: colour + (opacity || '40'), pointStyle: 'rect' }),
      line('', colour, lower, { ...bare, unlisted: true, fill: false }),
    ];
  }
  /** Bounds on the overlap with the true eigenspaces or, of sketches, three deviations to both sides. */
  function edges(overlap) {
    const deviation = list(overlap.magnitude_deviation);
    if (!hasNumbers(deviation)) return [list(overlap.magnitude_low), list(overlap.magnitude_high)];
    const edge = (sign) => list(overlap.magnitude).map((v, i) => (isNumber(v) && isNumber(deviation[i]) ? v + sign * 3 * deviation[i] : null));
    return [edge(-1), edge(1)];
  }
  const isSpread = (overlap) => hasNumbers(list(overlap.magnitude_deviation));
  /** Where the overlap with the true eigenspaces lies at worst, or spreads, cut off where the axis ends. Nothing if not known. */
  function trueOverlap(label, colour, overlap, limits) {
    const [low, high] = edges(overlap);
    // Of exact decompositions it is no wider than a line.
    if (!low.some((v, i) => isNumber(v) && isNumber(high[i]) && high[i] - v > 0.01 * high[i])) return [];
    const cut = (values) => points(null, values.map((v) =>
      (isNumber(v) ? Math.min(Math.max(v, limits.min), limits.max) : null)));
    return band(label, colour, cut(low), cut(high), '20');
  }
  function verticalLine(label, x, limits) {
    return line(label, GREY, [{ x, y: limits.min }, { x, y: limits.max }],
      { borderWidth: 1.5, borderDash: [2, 3], pointRadius: 0, pointHoverRadius: 0, pointHitRadius: 0, quiet: true });
  }

  const charts = new Map();  // element that holds charts → its charts, so that redrawing frees the old ones

  /** Chart.js's legend items, with the dashes and the width of the lines they stand for. */
  function legendItems(chart) {
    return Chart.defaults.plugins.legend.labels.generateLabels(chart).map((item) => {
      const set = chart.data.datasets[item.datasetIndex];
      return set.pointStyle === 'line' ? { ...item, lineDash: set.borderDash || [], lineWidth: set.borderWidth } : item;
    });
  }

  /** Draws one chart with its title and caption into `parent`; `controls` (optional) go between title and chart. */
  function figure(parent, { title, caption, datasets, x, y, tooltip, tooltipTitle, controls }) {
    // Wide legend marks show dashes, but would stretch the shapes of dots.
    const onlyLines = datasets.every((set) => set.pointStyle === 'line' || set.pointStyle === 'rect' || set.unlisted);
    const drawn = datasets.some((set) => !set.quiet && set.data.some((p) => isNumber(p.y)));
    if (!drawn) caption += ' There is nothing to draw: every value is zero (a log axis has no place for it) or missing.';
    const canvas = element('canvas', { role: 'img', 'aria-label': `${title}. ${caption}` });
    parent.append(element('figure', {}, element('h3', {}, title), controls, element('div', { class: 'canvas' }, canvas),
      element('figcaption', {}, caption)));
    const chart = new Chart(canvas, {
      type: 'scatter',
      data: { datasets },
      options: {
        animation: false, responsive: true, maintainAspectRatio: false, normalized: true,
        interaction: { mode: 'nearest', axis: 'x', intersect: false },
        scales: { x, y },
        plugins: {
          legend: {
            display: datasets.length > 1,
            position: 'bottom',
            labels: {
              usePointStyle: true, boxWidth: 10, boxHeight: 10, ...(onlyLines ? { pointStyleWidth: 28 } : {}),
              generateLabels: legendItems,
              filter: (item, data) => !data.datasets[item.datasetIndex].unlisted,
            },
          },
          tooltip: {
            backgroundColor: 'rgba(20, 26, 34, 0.94)', boxPadding: 4,
            filter: (item) => !item.dataset.quiet,
            callbacks: {
              title: (items) => (items.length ? tooltipTitle(items[0].parsed.x) : ''),
              label: (item) => tooltip(item),
            },
          },
        },
      },
    });
    const home = parent.closest('section') || parent;
    charts.set(home, (charts.get(home) || []).concat(chart));
    return chart;
  }

  const plainTooltip = (item) => `${item.dataset.name || item.dataset.label}: ${number(item.parsed.y)}`;

  /** A group of buttons, one pressed. */
  function toggle(label, choices, current, choose) {
    return element('span', { class: 'toggle', role: 'group', 'aria-label': label }, element('span', {}, label),
      ...choices.map((choice) => {
        const button = element('button', { type: 'button', 'aria-pressed': String(choice === current) }, choice);
        button.addEventListener('click', () => choose(choice));
        return button;
      }));
  }

  // ---------------------------------------------------------------------------------------------- parts of the page

  /**
   * Fills a section's content with draw(content). A failure is told in words in that section and leaves the others
   * alone; so is a Chart.js that is missing, since then `new Chart` throws.
   */
  function part(id, draw) {
    const section = byId(id), content = section.querySelector('.content');
    content.style.minHeight = `${content.offsetHeight}px`;  // redrawing must not make the page jump
    for (const chart of charts.get(section) || []) chart.destroy();
    charts.delete(section);
    content.replaceChildren();
    try {
      draw(content);
    } catch (error) {
      content.replaceChildren(element('p', { class: 'message' }, `This part could not be drawn: ${error.message}.`));
      if (window.console) console.error(error);
    }
    content.style.minHeight = '';
  }
  const absent = (content, text) => content.append(element('p', { class: 'absent' }, text));

  function drawTraining(content, data) {
    const training = data.training || {}, steps = list(training.step);
    if (!hasNumbers(training.loss) && !hasNumbers(training.test_accuracy)) {
      return absent(content, 'There is no training record in this folder.');
    }
    const pair = element('div', { class: 'pair' });
    content.append(pair);
    const at = (x) => stepName(x);
    const x = () => axis('training step (parameter updates)');
    if (hasNumbers(training.loss)) {
      figure(pair, {
        title: 'Training loss',
        caption: 'Mean loss during training; the curvature below is that of this loss at the saved steps.',
        datasets: [line('loss', BLUE, points(steps, training.loss), { pointStyle: 'circle' })],
        x: x(), y: axis('loss (mean per sample)', { beginAtZero: true }), tooltip: plainTooltip, tooltipTitle: at,
      });
    }
    if (hasNumbers(training.test_accuracy)) {
      // Without a test part it is of the samples that the network was given.
      const what = training.accuracy_of === 'train' ? 'accuracy on training samples' : 'test accuracy';
      figure(pair, {
        title: what[0].toUpperCase() + what.slice(1),
        caption: `Share of ${training.accuracy_of === 'train' ? 'the training' : 'held-out'} samples that the network classifies correctly.`,
        datasets: [line(what, VERMILLION, points(steps, list(training.test_accuracy)
          .map((a) => (isNumber(a) ? 100 * a : null))), { pointStyle: 'circle' })],
        x: x(), y: axis(`${what} (%)`, { beginAtZero: true, suggestedMax: 100 }),
        tooltip: (item) => `${item.dataset.label}: ${number(item.parsed.y)} %`, tooltipTitle: at,
      });
    }
  }

  const SELECTIONS = { positive: 'Most positive eigenvalues', negative: 'Most negative eigenvalues', both: 'Eigenvalues at both ends' };
  const view = { magnitude: 'log', index: 'linear' };  // axes of the spectrum, kept from one selection to the next

  function drawSpectrum(content, d) {
    const values = list(d.eigenvalues);
    if (!hasNumbers(values)) return absent(content, `No eigenvalues are stored for ${fullName(d)}.`);
    const log = view.magnitude === 'log', logIndex = view.index === 'log';
    const choose = (test) => values.map((value, i) => ({ x: i + 1, y: Math.abs(value), signed: value }))
      .filter((p, i) => isNumber(values[i]) && (!log || values[i] !== 0) && test(values[i], i));
    const shapes = { plus: { pointStyle: 'circle' }, minus: { pointStyle: 'triangle', pointRadius: 3.5 } };
    // The first set is drawn last: the rarer negative ones stay visible.
    const datasets = [];
    for (const [level, what] of LEVELS) {
      datasets.push(
        dots(`negative λ${what}`, VERMILLION, choose((v, i) => v < 0 && trustOf(d, i) === level),
          { ...shapes.minus, ...trustMark(level, VERMILLION) }),
        dots(`positive λ${what}`, BLUE, choose((v, i) => v >= 0 && trustOf(d, i) === level),
          { ...shapes.plus, ...trustMark(level, BLUE) }));
    }
    const limits = log ? logLimits(values.map(Math.abs)) : { min: 0 };
    // Residuals that are rounding lie far below all eigenvalues, and need no line.
    const bounds = points(null, list(d.residuals), log);
    if (bounds.some((p) => p.y > limits.min)) datasets.push(line('residual bound', GREY, bounds, { borderWidth: 1, pointRadius: 0, quiet: true }));
    const drawn = datasets.filter((set) => set.data.length);
    const known = certainValues(d), negative = known.filter((v) => v < 0).length;
    const mixed = countOf(d, VALUE), noise = countOf(d, NOISE), clustered = countOf(d, CLUSTER);
    const sentences = [];
    if (!saysTrust(d)) {
      sentences.push(d.method === 'dense' ? 'Computed exactly.' : 'Without residuals it is not known which of them can be trusted.');
    } else {
      if (d.method === 'dense') sentences.push('Computed exactly, up to rounding.');
      sentences.push(`A true eigenvalue lies within ± the residual of each. ${number(certifiedOf(d))} of ${plural(values.length, 'pair')} are certified${mixed || noise ? ' (filled)' : ''}${clustered ? `, ${number(clustered)} of them together with others that they cannot be told from` : ''}.`);
      if (mixed) sentences.push(`Of ${number(mixed)} (pale) an eigenvalue lies there, but the eigenvector may mix those of several, or a larger one may have been missed.`);
      if (noise) sentences.push(`${number(noise)} (hollow) do not exceed their residual and may be noise.`);
    }
    const note = sentences.join(' ');
    const redraw = (change) => { Object.assign(view, change); part('spectrum', (c) => drawSpectrum(c, d)); };
    figure(content, {
      title: `${SELECTIONS[d.selection] || 'Largest eigenvalues by magnitude'}: ${fullName(d)}`,
      caption: `Size of each eigenvalue against its rank, sign by colour and shape${known.length
        ? `; ${number(negative)} of the ${number(known.length)}${saysTrust(d) ? ' whose sign is certain' : ''} are negative` : ''}. ${note}`,
      controls: element('div', {}, toggle('|λ| axis', ['log', 'linear'], view.magnitude, (c) => redraw({ magnitude: c })),
        toggle('Index axis', ['linear', 'log'], view.index, (c) => redraw({ index: c }))),
      datasets: drawn,
      x: axis('index of the eigenvalue (1 = leading)',
        logIndex ? { log: true, min: 1, max: Math.max(2, values.length) }
          : { min: 0, max: values.length + 1, lastTick: values.length }),
      y: axis('|λ| (loss per squared unit of parameter)',
        log ? { log: true, ...limits } : { beginAtZero: true }),
      tooltip: (item) => {
        const i = item.parsed.x - 1, residual = list(d.residuals)[i];
        return `λ = ${number(item.raw.signed)}${isNumber(residual) ? ` ± ${number(residual)}` : ''}${remark(d, i)}`;
      },
      tooltipTitle: (x) => `index ${number(x)}`,
    });
  }

  /** chance[k-1] = k/D, computed here if the file does not have it. */
  function chanceOf(d, data) {
    const overlap = d.overlap || {};
    if (hasNumbers(overlap.chance)) return overlap.chance;
    return isNumber(data.parameters) ? list(overlap.magnitude).map((_, i) => (i + 1) / data.parameters) : [];
  }

  const BAND_WORDS = 'The true eigenspace, which the computed one only approximates, overlaps with the k largest parameters somewhere within the shaded band. The band is a worst case from residuals and from what can have been missed, and wide where eigenvalues lie close to each other; the computed curve is usually much nearer.';

  const SPREAD_WORDS = 'The shaded band is a spread and no bound: three standard deviations of what the curve would vary by with other columns of the sketch, estimated by leaving a tenth of them out at a time (jackknife), as far as the smaller sketches reach. What all sketches of this size get wrong it does not show.';

  function drawOverlap(content, d, data) {
    const overlap = d.overlap || {};
    if (!hasNumbers(overlap.magnitude)) return absent(content, `No overlap was computed for ${fullName(d)}.`);
    const K = overlap.magnitude.length, chance = chanceOf(d, data);
    // Overlaps far below chance (a mask that misses the eigenspace at very small k) would squeeze all else.
    const smallest = chance.filter((v) => v > 0)[0] || 0;
    const series = [overlap.magnitude, overlap.best, overlap.random_mean, overlap.random_by_layer_mean, chance];
    const limits = logLimits([].concat(...series.map(list)), smallest / 30);
    limits.max = Math.min(limits.max, 1.3);
    const std = { random: list(overlap.random_std), layer: list(overlap.random_by_layer_std) };
    const curve = (values) => points(null, values, true);
    const datasets = [line('k largest parameters (magnitude mask)', BLUE, curve(overlap.magnitude),
      { borderWidth: 3, name: 'k largest', low: edges(overlap)[0], high: edges(overlap)[1], spread: isSpread(overlap) })];
    const bounds = trueOverlap(isSpread(overlap) ? 'spread of the sketch (± 3 std)' : 'where it lies for the true eigenspace', BLUE, overlap, limits);
    if (hasNumbers(overlap.best)) {
      datasets.push(line('best possible mask', GREEN, curve(overlap.best), { borderDash: [10, 4], name: 'best' }));
    }
    if (hasNumbers(overlap.random_mean)) {
      datasets.push(line('random masks (mean)', ORANGE, curve(overlap.random_mean), { std: std.random, name: 'random' }));
      if (hasNumbers(std.random)) {
        const edge = (sign) => list(overlap.random_mean).map((mean, i) => (isNumber(mean) && isNumber(std.random[i])
          ? Math.max(mean + sign * std.random[i], limits.min) : null));
        datasets.push(...band('random masks (± 1 std)', ORANGE, curve(edge(-1)), curve(edge(1))));
      }
    }
    if (hasNumbers(overlap.random_by_layer_mean)) {
      datasets.push(line('random masks, same count per layer (mean)', PURPLE, curve(overlap.random_by_layer_mean),
        { borderDash: [6, 3], std: std.layer, name: 'random by layer' }));
    }
    if (chance.length) datasets.push(line('chance, k/D', BLACK, curve(chance), { borderDash: [2, 3], borderWidth: 1.5, pointRadius: 0 }));
    datasets.push(...bounds);
    const first = firstNoise(d), cut = first <= K;
    if (cut) datasets.push(verticalLine(`first eigenpair that may be noise (k = ${number(first)})`, first, limits));
    figure(content, {
      title: `Overlap by k: ${fullName(d)}`,
      caption: 'Share of the top-k eigenspace that lies in the span of k parameters (Σcos²θ/k over the principal angles: 0 orthogonal, 1 equal), beside the best k parameters and random ones.' +
        (bounds.length ? ` ${isSpread(overlap) ? SPREAD_WORDS : BAND_WORDS}` : '') + (cut ? ' To the right of the dotted line the eigenspace holds directions that cannot be told from noise.' : ''),
      datasets,
      x: axis('k (parameters kept = eigenvectors kept)', { log: true, min: 1, max: Math.max(2, K) }),
      y: axis('overlap Σcos²θ/k (no unit)', { log: true, ...limits }),
      tooltip: (item) => {
        const spread = item.dataset.std && item.dataset.std[item.dataIndex];
        const ratio = chance[Math.round(item.parsed.x) - 1];
        const times = ratio > 0 && !item.dataset.label.startsWith('chance')
          ? ` (${number(item.parsed.y / ratio)} × chance)` : '';
        const low = list(item.dataset.low)[item.dataIndex], high = list(item.dataset.high)[item.dataIndex];
        const within = isNumber(low) && isNumber(high) ? `, ${item.dataset.spread ? 'spread' : 'of the true eigenspace'} ${number(low)} to ${number(high)}` : '';
        return `${plainTooltip(item)}${isNumber(spread) ? ` ± ${number(spread)}` : ''}${times}${within}`;
      },
      tooltipTitle: (x) => `k = ${number(x)}${remark(d, x - 1).replace('(', '(pair: ')}`,
    });
  }

  function drawOverlapByStep(content, d, data) {
    // One decomposition per step and split, of the selected operator; the selected method where there is one.
    const usable = list(data.decompositions).filter((e) => e.operator === d.operator && isNumber(e.step) &&
      e.overlap && hasNumbers(e.overlap.magnitude) && chanceOf(e, data).length);
    const splits = unique(usable.map((e) => e.split)), steps = unique(usable.map((e) => e.step)).sort((a, b) => a - b);
    if (!usable.length) return absent(content, 'No overlap was computed, so there is nothing to show by step.');
    const pick = (step, split) => {
      const here = usable.filter((e) => e.step === step && e.split === split);
      return here.find((e) => e.method === d.method) || here[0];
    };
    const K = usable.map((e) => e.overlap.magnitude.length).reduce((a, b) => Math.min(a, b));
    const ks = unique([10, 35, 100, K].map((k) => Math.min(k, K)));
    const dashes = [[], [6, 4], [2, 3], [10, 3, 2, 3]], shapes = ['circle', 'rect', 'triangle', 'rectRot'];
    const datasets = [];
    ks.forEach((k, i) => splits.forEach((split, j) => {
      const data_points = steps.map((step) => pick(step, split)).filter(Boolean).map((e) => {
        const ratio = e.overlap.magnitude[k - 1] / chanceOf(e, data)[k - 1];
        return { x: e.step, y: isNumber(ratio) && ratio > 0 ? ratio : null, uncertain: firstNoise(e) <= k };
      });
      datasets.push(line([`k = ${number(k)}`, split].filter(Boolean).join(', '), SERIES[i], data_points, {
        borderDash: dashes[j % 4], pointStyle: shapes[j % 4], pointRadius: 4, order: j,
        // Hollow: some of the k eigenvectors may be noise.
        pointBackgroundColor: data_points.map((p) => (p.uncertain ? '#fff' : SERIES[i])),
      }));
    }));
    const ratios = [].concat(...datasets.map((set) => set.data.map((p) => p.y)));
    const limits = logLimits(ratios.concat(1));
    const [first, last] = [steps[0], steps[steps.length - 1]], margin = (last - first || 1) * 0.04;
    datasets.push(line('chance', BLACK, [{ x: first - margin, y: 1 }, { x: last + margin, y: 1 }],
      { borderDash: [2, 3], borderWidth: 1.5, pointRadius: 0, pointHitRadius: 0, quiet: true, order: 9 }));
    const hollow = datasets.some((set) => set.data.some((p) => p.uncertain));
    figure(content, {
      title: `Overlap of the k largest parameters, relative to chance: ${operatorName(d.operator)}`,
      caption: 'How many times more of the top-k eigenspace the k largest parameters hold than k random ones would (1 = chance), as training goes on.' +
        (hollow ? ' Hollow points count eigenvectors that may be noise too.' : ''),
      datasets,
      x: axis('training step (parameter updates)', {
        min: first - margin, max: last + margin,
        afterBuildTicks: (scale) => {  // the steps themselves, as far as their labels have room
          const kept = [];
          for (const step of steps) if (!kept.length || step - kept[kept.length - 1] >= (last - first) / 7) kept.push(step);
          scale.ticks = kept.map((value) => ({ value }));
        },
      }),
      y: axis('overlap / chance (×)', { log: true, ...limits }),
      tooltip: (item) => `${item.dataset.label}: ${number(item.parsed.y)} × chance${item.raw.uncertain ? ' (some pairs may be noise)' : ''}`,
      tooltipTitle: (x) => stepName(x),
    });
  }

  function drawExact(content, data) {
    const all = list(data.decompositions);
    const pairs = all.filter((d) => d.method === 'dense').map((exact) => ({
      exact, sketched: all.filter((d) => d.method !== 'dense' && place(d) === place(exact)),
    })).filter((p) => p.sketched.length);
    if (!pairs.length) return absent(content, 'No step has both an exact and an approximate decomposition to compare.');
    absent(content, 'Approximate results drawn over the exact ones: where the method works, the two fall on top of each other.');
    for (const { exact, sketched } of pairs) {
      const box = element('div', { class: 'comparison' }, element('h3', {}, place(exact)));
      for (const d of sketched) {
        const c = d.exact_comparison;
        if (!c) continue;
        const facts = [['error |H − Ĥ| relative to |H| (Frobenius)', c.relative_frobenius_error],
          [`largest relative difference among the ${number(c.leading)} leading eigenvalues of either sign`, c.leading_eigenvalues_difference],
          ['relative difference in overlap at the largest k', c.overlap_difference]].filter((f) => isNumber(f[1]));
        if (facts.length) box.append(element('p', {}, `${methodName(d.method)} against exact: ${facts.map(([what, x]) => `${what} ${number(x)}`).join('; ')}.`));
      }
      const pair = element('div', { class: 'pair' });
      box.append(pair);
      content.append(box);

      const sizes = (d) => list(d.eigenvalues).map((v) => (isNumber(v) ? Math.abs(v) : null));
      if (hasNumbers(exact.eigenvalues)) {
        const K = Math.max(...sketched.map((d) => list(d.eigenvalues).length), 2);
        const datasets = [line('exact', BLACK, points(null, sizes(exact).slice(0, K), true), { order: 1 })];
        sketched.forEach((d, i) => {
          const all_points = points(null, sizes(d), true), colour = SERIES[(i + 1) % 6];
          for (const [level, what] of LEVELS) {
            const some = all_points.filter((p) => trustOf(d, p.x - 1) === level);
            if (some.length) datasets.push(dots(`${d.method}${what}`, colour, some, { pointRadius: 2.5, borderWidth: 1, ...trustMark(level, colour) }));
          }
        });
        figure(pair, {
          title: 'Eigenvalues',
          caption: 'Size of the eigenvalues by rank. Filled marks are certified pairs; of pale ones an eigenvalue lies there, but the vector is not certain; hollow ones may be noise.',
          datasets,
          x: axis('index of the eigenvalue', { min: 0, max: K + 1, lastTick: K }),
          y: axis('|λ| (loss per squared unit)', { log: true, ...logLimits([].concat(...datasets.map((s) => s.data.map((p) => p.y)))) }),
          tooltip: (item) => `${item.dataset.label}: |λ| = ${number(item.parsed.y)}`, tooltipTitle: (x) => `index ${number(x)}`,
        });
      }
      const overlapping = sketched.filter((d) => d.overlap && hasNumbers(d.overlap.magnitude));
      if (exact.overlap && hasNumbers(exact.overlap.magnitude) && overlapping.length) {
        const K = Math.max(...overlapping.map((d) => d.overlap.magnitude.length), 2);
        const datasets = [line('exact', BLACK, points(null, exact.overlap.magnitude.slice(0, K), true), { order: 1, pointRadius: 0 })];
        overlapping.forEach((d, i) => datasets.push(line(`${d.method}`, SERIES[(i + 1) % 6],
          points(null, d.overlap.magnitude, true), { borderDash: [5, 4], pointRadius: 0, borderWidth: 2.5 })));
        const chance = chanceOf(exact, data).slice(0, K);
        if (chance.length) datasets.push(line('chance, k/D', GREY, points(null, chance, true), { borderDash: [2, 3], borderWidth: 1.5, order: 2, pointRadius: 0 }));
        const limits = logLimits([].concat(...datasets.map((s) => s.data.map((p) => p.y))), (chance[0] || 0) / 30);
        limits.max = Math.min(limits.max, 1.3);
        const bands = [].concat(...overlapping.map((d, i) => trueOverlap(`${isSpread(d.overlap) ? 'spread' : 'bounds'} of ${d.method}`, SERIES[(i + 1) % 6], d.overlap, limits)));
        datasets.push(...bands);
        figure(pair, {
          title: 'Overlap of the k largest parameters',
          caption: `Overlap with the exact and with the approximate top-k eigenspace.${bands.length ? ' The shaded band is where the exact curve could lie at worst, by residuals and gaps, or, of sketches, three standard deviations of their columns’ choice.' : ''}`,
          datasets,
          x: axis('k', { log: true, min: 1, max: K }),
          y: axis('overlap Σcos²θ/k (no unit)', { log: true, ...limits }),
          tooltip: plainTooltip, tooltipTitle: (x) => `k = ${number(x)}`,
        });
      }
    }
  }

  function drawScree(content, d) {
    const scree = d.scree || {};
    if (!hasNumbers(scree.lower) && !hasNumbers(scree.upper)) return absent(content, `No scree bounds were computed for ${fullName(d)}.`);
    const lower = points(null, scree.lower), upper = points(null, scree.upper);
    const datasets = [
      line('upper bound', VERMILLION, upper, { pointRadius: 0, pointHitRadius: 8, fill: '+1', backgroundColor: VERMILLION + '25' }),
      line('lower bound', BLUE, lower, { pointRadius: 0, borderDash: [6, 4] }),
    ].filter((set) => set.data.length);
    if (datasets.length < 2) datasets[0].fill = false;
    const K = Math.max(lower.length, upper.length);
    figure(content, {
      title: `What the top k eigenpairs leave out: ${fullName(d)}`,
      caption: 'Bounds on the share of the matrix’s squared Frobenius norm (sum of squared eigenvalues) that is not in the k leading eigenpairs.',
      datasets,
      x: axis('k (eigenpairs kept)', { min: 1, max: Math.max(2, K) }),
      y: axis('share of ‖A‖² (Frobenius) left out', { beginAtZero: true, suggestedMax: 1 }),
      tooltip: plainTooltip, tooltipTitle: (x) => `k = ${number(x)}`,
    });
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
      if (isNumber(c.probability_underestimate) && eps < 1) {
        parts.push(`above ${number(e / Math.sqrt(1 - eps))} with probability at most ${percent(c.probability_underestimate)}`);
      }
      if (isNumber(c.probability_overestimate)) {
        parts.push(`below ${number(e / Math.sqrt(1 + eps))} with probability at most ${percent(c.probability_overestimate)}`);
      }
    }
    const from = isNumber(c.probes) ? `Estimated from ${plural(c.probes, 'random probe')}` : 'Estimated';
    return parts.length ? `${from} (ε = ${number(eps)}): the true error is ${parts.join(', and ')}.` : `${from}.`;
  }

  function drawCertificates(content, data, selected) {
    const all = list(data.decompositions);
    if (!all.length) return absent(content, 'No decomposition has been computed in this folder.');
    const share = (d) => {
      const known = certainValues(d);
      return known.length ? percent(known.filter((v) => v < 0).length / known.length) : '–';
    };
    const columns = [  // title, text of a decomposition's cell, class
      ['Decomposition', (d) => fullName(d), ''],
      ['λ₁', (d) => number(list(d.eigenvalues)[0]), 'number'],
      ['Negative share', share, 'number'],
      ['Certified pairs', (d) => (saysTrust(d) ? `${number(certifiedOf(d))} of ${number(d.k || d.trust.length)}` : '–'), 'number'],
      ['Value only', (d) => (saysTrust(d) ? number(countOf(d, VALUE)) : '–'), 'number'],
      ['May be noise', (d) => (saysTrust(d) ? number(countOf(d, NOISE)) : '–'), 'number'],
      ['Error (Frobenius)', (d) => (d.method === 'dense' ? 'exact' : number(d.certificate && d.certificate.error_estimate)), 'number'],
      ['Relative error', (d) => (d.method === 'dense' ? 'exact' : percent(d.certificate && d.certificate.relative_error)), 'number'],
      ['Operator products', (d) => number(d.products), 'number'],
      ['Time (s)', (d) => number(d.seconds), 'number'],
      ['What the estimate is worth', statement, 'words'],
    ];
    const head = element('tr', {}, ...columns.map(([title, , kind]) => element('th', { scope: 'col', class: kind }, title)));
    const rows = all.map((d) => element('tr', d === selected ? { class: 'selected' } : {},
      ...columns.map(([title, cell, kind]) => element('td', { class: kind, 'data-label': title }, element('span', {}, cell(d))))));
    for (const text of [
      'Error is the Frobenius norm of what the decomposition misses of the operator; relative error divides it by the operator’s own norm.',
      'Every pair has a bound on its residual ‖Hu − λu‖, and a true eigenvalue lies within that of λ. The bound is certain up to rounding for krylov, hmt and dense, and holds for each pair with probability 99.9 % for seigh and nystrom. A pair is certified when twice the bound is below the gap to every other eigenvalue, found or not: what was not found is bounded by the norm of what the computation left of the matrix. Several that cannot be told from each other, but from all others, are certified together, as a cluster. Of any other pair an eigenvalue lies within the bound, but its vector may mix those of several eigenvalues. Where the bound reaches |λ| and nothing else excludes zero, the pair may be noise.',
      'The negative share is of the pairs whose sign is certain. The selected decomposition is highlighted.',
    ]) absent(content, text);
    content.append(element('div', { class: 'scroll' }, element('table', {}, element('thead', {}, head), element('tbody', {}, ...rows))));
  }

  function drawSettings(content, data, d) {
    const rows = list(data.settings).filter(Array.isArray).map(([name, value]) => [String(name), String(value)]);
    if (isNumber(data.parameters)) rows.push(['Parameters (D)', number(data.parameters)]);
    if (d) {
      const known = [['k', d.k], ['products at most', d.s], ['samples', d.samples]].filter((f) => isNumber(f[1]))
        .map(([name, value]) => `${name} = ${number(value)}`).concat(d.dtype ? [d.dtype] : []);
      if (known.length) rows.push(['Selected decomposition', `${d.id || fullName(d)}: ${known.join(', ')}`]);
    }
    if (!rows.length) return absent(content, 'No settings are stored in this folder.');
    content.append(element('table', {}, element('tbody', {}, ...rows.map(([name, value]) =>
      element('tr', {}, element('th', { scope: 'row' }, name), element('td', {}, value))))));
  }

  // ---------------------------------------------------------------------------------------------- selection

  /** The selector's fields in order; one with a single value is not shown. */
  const FIELDS = [['step', 'Step', (v) => (isNumber(v) ? number(v) : 'none')], ['split', 'Split', String],
    ['operator', 'Operator', operatorName], ['method', 'Method', methodName]];

  /** Fills the selector; choosing a value shows the decomposition that has it and agrees most with the rest. */
  function fillSelector(all, selected, select) {
    const form = byId('selector');
    form.replaceChildren();
    form.addEventListener('submit', (event) => event.preventDefault());
    for (const [key, label, name] of FIELDS) {
      const values = unique(all.map((d) => d[key]));
      if (values.every(isNumber)) values.sort((a, b) => a - b);
      if (values.length < 2) continue;
      const box = element('select', { name: key }, ...values.map((value, i) => element('option', { value: i }, name(value))));
      box.selectedIndex = values.indexOf(selected[key]);
      box.addEventListener('change', () => {
        const wanted = values[box.selectedIndex];
        const agreement = (d) => FIELDS.reduce((sum, [other], i) => sum + (d[other] === selected[other] ? 1 << (4 - i) : 0), 0);
        select(all.filter((d) => d[key] === wanted).reduce((a, b) => (agreement(b) > agreement(a) ? b : a)));
        const again = form.querySelector(`[name="${key}"]`);
        if (again) again.focus({ preventScroll: true });
      });
      form.append(element('label', {}, label, box));
    }
    form.hidden = !form.childElementCount;
  }

  function show(data, d) {
    const all = list(data.decompositions);
    fillSelector(all, d, (chosen) => show(data, chosen));
    part('spectrum', (content) => drawSpectrum(content, d));
    part('overlap', (content) => drawOverlap(content, d, data));
    part('overlap-by-step', (content) => drawOverlapByStep(content, d, data));
    part('scree', (content) => drawScree(content, d));
    part('certificates', (content) => drawCertificates(content, data, d));
    part('settings', (content) => drawSettings(content, data, d));
  }

  function say(text) {
    const message = byId('message');
    message.textContent = text;
    message.hidden = false;
  }

  function start() {
    window.addEventListener('error', (event) => say(`Part of this page could not be drawn: ${event.message}.`));
    byId('message').hidden = true;
    let data;
    try {
      data = JSON.parse(byId('data').textContent);
    } catch (error) {
      return say(`The data of this report cannot be read (${error.message}).`);
    }
    if (!data || typeof data !== 'object') data = {};
    byId('title').textContent = data.title || document.title || 'seigh report';
    for (const text of list(data.headline)) byId('headline').append(element('p', {}, String(text)));
    byId('footer').textContent = `Written by seigh${data.version ? ` ${data.version}` : ''}.`;

    if (typeof Chart === 'undefined') {
      say('The chart library is missing from this page, so only the tables are shown.');
    } else {
      Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
      Chart.defaults.font.size = 12;
      Chart.defaults.color = '#3a4450';
      // Paper is narrower than most windows: redraw at about its width, so that the letters keep their size. The style
      // sheet then fits the picture to the page, whatever its format.
      const each = (act) => charts.forEach((group) => group.forEach(act));
      window.addEventListener('beforeprint', () => each((chart) => {
        if (chart.canvas.closest('.pair')) chart.resize(350, 240); else chart.resize(720, 340);
      }));
      window.addEventListener('afterprint', () => each((chart) => chart.resize()));
    }

    const all = list(data.decompositions).filter((d) => d && typeof d === 'object');
    data.decompositions = all;
    part('training', (content) => drawTraining(content, data));
    part('exact', (content) => drawExact(content, data));
    if (all.length) {
      // First the last step, on training data, sketched: what the program is for.
      const rank = (d) => [isNumber(d.step) ? d.step : -1, d.split === 'train' ? 1 : 0, d.method === 'dense' ? 0 : 1];
      show(data, all.slice().sort((a, b) => {
        const x = rank(a), y = rank(b), i = x.findIndex((value, j) => value !== y[j]);
        return i < 0 ? 0 : y[i] - x[i];
      })[0]);
    } else {
      if (!data.training && !data.settings) say('This report holds no data: nothing has been computed in this folder yet.');
      for (const id of ['spectrum', 'overlap', 'overlap-by-step', 'scree', 'certificates']) {
        part(id, (content) => absent(content, 'No decomposition has been computed in this folder.'));
      }
      part('settings', (content) => drawSettings(content, data, null));
    }
  }

  start();
})();
