// Figures of the report as SVG: line charts, bars and heat maps, each with a read-out line under it, never over the
// curves, and with buttons that save it as SVG, PNG and CSV. Colours are custom properties of the style sheet, so both
// themes and paper have their own. Every text is a text node: names from files never become markup.
//
// What a figure shows is a plain object, its *spec*; drawing is a function of spec and width alone, so what is saved is
// the same figure drawn once more, with its title.
const Charts = (function () {
  'use strict';

  const isNumber = (x) => typeof x === 'number' && isFinite(x);
  const list = (x) => (Array.isArray(x) ? x : []);

  /** A new element with attributes and children; strings become text, never markup. */
  function fill(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value !== null && value !== undefined) node.setAttribute(name, value);
    }
    for (const child of children) if (child !== null && child !== undefined) node.append(child);
    return node;
  }
  const element = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
  const SVG = 'http://www.w3.org/2000/svg';
  const shape = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

  const superscript = (n) => String(n).replace(/./g, (c) => (c === '-' ? '⁻' : '⁰¹²³⁴⁵⁶⁷⁸⁹'[Number(c)]));
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

  // ---------------------------------------------------------------------------------------------- text and scales

  const FONT = 'system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif';
  const ruler = document.createElement('canvas').getContext('2d');
  function textWidth(text, size) {
    if (!ruler) return text.length * size * 0.56;
    ruler.font = `${size || 12}px ${FONT}`;
    return ruler.measureText(text).width;
  }
  /** Lines no wider than `width`, broken at spaces. */
  function wrapped(text, width, size) {
    const lines = [];
    for (const word of text.split(' ')) {
      const longer = lines.length ? `${lines[lines.length - 1]} ${word}` : word;
      if (lines.length && textWidth(longer, size) <= width) lines[lines.length - 1] = longer; else lines.push(word);
    }
    return lines;
  }
  /** Cut in the middle where it is too wide. */
  function shortened(text, width) {
    let kept = text;
    for (let n = text.length - 1; n > 3 && textWidth(kept) > width; --n) {
      kept = `${text.slice(0, Math.ceil(n / 2))}…${text.slice(text.length - Math.floor(n / 2))}`;
    }
    return kept;
  }

  function linearTicks(min, max, room) {
    const rough = (max - min) / Math.max(1, room), power = 10 ** Math.floor(Math.log10(rough));
    const stride = [1, 2, 5, 10].map((lead) => lead * power).find((s) => s >= rough * 0.999) || 10 * power;
    const ticks = [];
    for (let i = Math.ceil(min / stride - 1e-9); i * stride <= max + 1e-9 * stride; ++i) ticks.push(Number((i * stride)
        .toPrecision(12)));
    return ticks;
  }
  /** The decades, with others between them when there is room. */
  function logTicks(min, max, room) {
    const span = Math.log10(max / min), some = [];
    const leads = span < 0.5 ? [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9] : span < 0.9 ? [1, 1.5, 2, 3, 5, 7] : span < 1.8
        ? [1, 2, 5] : [1];
    for (let stride = Math.max(1, Math.ceil(span / Math.max(2, room))); stride > 0 && some.length < 2; --stride) {
      some.length = 0;
      for (let e = Math.floor(Math.log10(min) / stride) * stride; e <= Math.ceil(Math.log10(max)); e += stride) {
        for (const lead of leads) {
          const value = Number(`${lead}e${e}`);
          if (value >= min * (1 - 1e-9) && value <= max * (1 + 1e-9)) some.push(value);
        }
      }
    }
    return some.length > 1 ? some : linearTicks(min, max, room);
  }

  /** Limits of an axis: those given, else from the values. */
  function limits(axis, values) {
    let known = values.filter((v) => isNumber(v) && !(axis.log && v <= 0));
    if (isNumber(axis.floor)) known = known.map((v) => Math.max(v, axis.floor));
    let min = known.reduce((a, b) => Math.min(a, b), Infinity), max = known.reduce((a, b) => Math.max(a, b), -Infinity);
    if (!known.length) [min, max] = axis.log ? [0.1, 1] : [0, 1];
    if (axis.log) {
      if (!axis.tight) [min, max] = [min / 1.15, max * 1.15];
    } else {
      if (axis.zero) min = Math.min(0, min);
      const room = axis.tight ? 0 : (max - min || Math.abs(max) || 1) * 0.05;
      max += room;
      if (!(axis.zero && min === 0)) min -= room;
    }
    if (isNumber(axis.min)) min = axis.min;
    if (isNumber(axis.max)) max = axis.max;
    if (!(max > min)) [min, max] = axis.log ? [min / 2, min * 2] : [min - 1, min + 1];
    return { min, max };
  }

  // ---------------------------------------------------------------------------------------------- line charts

  // spec: title, caption, height, pick(x), at (where the read-out begins)
  //   x, y: label, log, min, max, zero (include 0), floor (what lies below does not stretch the axis), ticks, name(x);
  //     x alone: by(x) (a scale of its own), words(x) (at its ticks)
  //   series: name, short (in the read-out), colour, x, y, kind 'line' (usual), 'edge' (a bound: thin and dashed) or
  //     'dots', dash, width, shape, filling 'full' | 'soft' | 'pale' | 'hollow' (or one for each point), low and high
  //     (whiskers), wide (whiskers do not stretch the axis), loose (nothing of it does), faint, quiet (not in the read-out), unlisted (not in the legend), words(i) after its value
  //   marks: vertical lines {x, name}; rules: horizontal ones {y, name}

  const paint = (colour) => `var(--${colour})`;
  function mark(x, y, kind, colour, filling, r) {
    const style = { style: `stroke:${paint(colour)};fill:${filling === 'hollow' ? 'var(--page)' : paint(colour)}`,
      'fill-opacity': { full: 1, soft: 0.65, pale: 0.3, hollow: 1 }[filling || 'full'], 'stroke-width': 1.2,
      ...(filling === 'hollow' ? { 'stroke-opacity': 0.8 } : {}) };
    if (kind === 'triangle') return shape('path', { d: `M${x} ${y - r * 1.3}L${x + r * 1.2} ${y + r}L${x - r * 1.2} ${y + r}Z`,
        ...style });
    if (kind === 'square') return shape('rect', { x: x - r * 0.9, y: y - r * 0.9, width: r * 1.8, height: r * 1.8, ...style });
    if (kind === 'diamond') return shape('path',
        { d: `M${x} ${y - r * 1.4}L${x + r * 1.4} ${y}L${x} ${y + r * 1.4}L${x - r * 1.4} ${y}Z`, ...style });
    return shape('circle', { cx: x, cy: y, r, ...style });
  }
  const fillingOf = (s, i) => (Array.isArray(s.filling) ? s.filling[i] : s.filling);
  const dashOf = (s) => s.dash || (s.kind === 'edge' ? '1.5 2.5' : null);
  const widthOf = (s) => s.width || (s.kind === 'edge' || s.faint ? 1.1 : 2.2);

  function text(x, y, words, more) {
    const { size = 12, anchor = 'start', soft = true, ...rest } = more || {};
    return shape('text', { x, y, 'font-size': size, 'text-anchor': anchor, style: `fill:var(--${soft ? 'soft' : 'ink'})`,
        ...rest }, words);
  }

  /** Keys and names in rows; returns the height they take. */
  function legend(svg, entries, left, top, width) {
    let x = left, y = top;
    for (const e of entries) {
      const words = shortened(e.name, width - 34), w = 34 + textWidth(words);
      if (x > left && x + w > left + width) { x = left; y += 18; }
      if (e.kind === 'dots' || e.kind === 'bar') {
        svg.append(e.kind === 'bar' ? shape('rect', { x: x + 6, y: y - 9, width: 14, height: 10,
            style: `fill:${paint(e.colour)}` })
          : mark(x + 13, y - 4, e.shape, e.colour, Array.isArray(e.filling) ? 'full' : e.filling, 4));
      } else {
        svg.append(shape('line', { x1: x + 2, x2: x + 24, y1: y - 4, y2: y - 4, 'stroke-width': widthOf(e),
            'stroke-dasharray': dashOf(e), style: `stroke:${paint(e.colour)}` }));
        if (e.dots) svg.append(mark(x + 13, y - 4, e.shape, e.colour, 'full', 3));
      }
      svg.append(text(x + 28, y, words));
      x += w + 10;
    }
    return entries.length ? y - top + 18 : 0;
  }

  function heading(svg, title, width) {
    if (!title) return 0;
    const lines = wrapped(title, width - 24, 14);
    lines.forEach((line, i) => svg.append(text(12, 20 + 18 * i, line, { size: 14, soft: false, 'font-weight': 600 })));
    return 8 + 18 * lines.length;
  }
  const blank = (label) => shape('svg', { xmlns: SVG, role: 'img', 'aria-label': label, 'font-family': FONT });
  function close(svg, width, height) {
    svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
    svg.setAttribute('width', width);
    svg.setAttribute('height', height);
    return svg;
  }

  let clips = 0;
  function drawLines(spec, width, title) {
    const svg = blank(`${spec.title}. ${spec.caption || ''}`), height = spec.compact && width < 480 && (spec.height || 210) > 160
        ? 160 : spec.height || 340;
    const top = heading(svg, title, width) + 10;
    const series = spec.series, marks = list(spec.marks), rules = list(spec.rules);
    const xs = [].concat(...series.map((s) => s.x), marks.map((m) => m.x));
    const ys = [].concat(...series.filter((s) => !s.loose).map((s) => (s.wide ? s.y : s.y.concat(list(s.low), list(s.high)))),
        rules.map((r) => r.y));
    const X = limits({ tight: true, ...spec.x }, xs), Y = limits(spec.y, ys);
    const yTicks = spec.y.log ? logTicks(Y.min, Y.max, height / 60) : linearTicks(Y.min, Y.max, height / 60);
    const left = 24 + yTicks.reduce((w, t) => Math.max(w, textWidth(number(t), 12)), 10), right = width - 12;
    const w = right - left - 12, bottom = top + height;
    const scale = (axis, range, from, to) => {
      const f = axis.by || (axis.log ? Math.log : (v) => v), a = f(range.min), b = f(range.max);
      return (v) => from + (to - from) * (f(v) - a) / (b - a);
    };
    const px = scale(spec.x, X, left + 6, left + 6 + w), py = scale(spec.y, Y, bottom, top);

    for (const t of yTicks) {
      svg.append(shape('line', { x1: left, x2: right, y1: py(t), y2: py(t), style: 'stroke:var(--grid)' }),
        text(left - 6, py(t) + 4, number(t), { anchor: 'end' }));
    }
    const room = Math.max(2, w / 75);
    let last = -Infinity;
    for (const t of spec.x.ticks || (spec.x.log ? logTicks(X.min, X.max, room) : linearTicks(X.min, X.max, room))) {
      if (t < X.min * (1 - 1e-9) || t > X.max * (1 + 1e-9) || (spec.x.whole && !Number.isInteger(t))) continue;
      const words = (spec.x.words || number)(t), half = textWidth(words) / 2, at = px(t);
      svg.append(shape('line', { x1: at, x2: at, y1: bottom, y2: bottom + 4, style: 'stroke:var(--soft)' }));
      if (at - half < last + 8 || at + half > width) continue;
      svg.append(text(at, bottom + 18, words, { anchor: 'middle' }));
      last = at + half;
    }
    svg.append(shape('line', { x1: left, x2: right, y1: bottom, y2: bottom, style: 'stroke:var(--soft)' }));
    svg.append(text((left + right) / 2, bottom + 36, shortened(spec.x.label, right - left), { anchor: 'middle' }),
      text(0, 0, shortened(spec.y.label, height), { anchor: 'middle',
          transform: `translate(12 ${(top + bottom) / 2}) rotate(-90)` }));

    const id = `clip${++clips}`;
    svg.append(shape('clipPath', { id }, shape('rect', { x: left, y: top - 4, width: right - left, height: height + 8 })));
    const area = shape('g', { 'clip-path': `url(#${id})` });
    svg.append(area);
    for (const r of rules) area.append(shape('line', { x1: left, x2: right, y1: py(r.y), y2: py(r.y), 'stroke-dasharray': '2 3',
        'stroke-width': 1.4, style: `stroke:${paint(r.colour || 'ink')}` }));
    for (const m of marks) area.append(shape('line', { x1: px(m.x), x2: px(m.x), y1: top - 4, y2: bottom,
        'stroke-dasharray': m.dash || '2 3', 'stroke-width': 1.2, style: `stroke:${paint(m.colour || 'soft')}` }));
    const usable = (s, i) => isNumber(s.x[i]) && isNumber(s.y[i]) && !(spec.y.log && s.y[i] <= 0) && !(spec.x.log && s.x[i] <= 0);
    for (const s of series.slice().reverse()) {
      const group = shape('g', { opacity: s.faint ? 0.5 : 1 });
      area.append(group);
      if (s.kind !== 'dots') {
        let d = '', pen = false;
        s.x.forEach((x, i) => {
          if (!usable(s, i)) { pen = false; return; }
          d += `${pen ? 'L' : 'M'}${px(x).toFixed(1)} ${py(s.y[i]).toFixed(1)}`;
          pen = true;
        });
        if (d) group.append(shape('path', { d, fill: 'none', 'stroke-width': widthOf(s), 'stroke-dasharray': dashOf(s),
            'stroke-linejoin': 'round', style: `stroke:${paint(s.colour)}` }));
      }
      const dots = s.kind === 'dots' || s.dots;
      s.x.forEach((x, i) => {
        if (!usable(s, i)) return;
        const at = px(x), lo = list(s.low)[i], hi = list(s.high)[i];
        if (isNumber(lo) && isNumber(hi)) {
          const a = py(Math.max(lo, spec.y.log ? Y.min / 2 : -Infinity)), b = py(hi);
          // A bound that goes beyond the figure is no mark of a size, but a line to its end.
          const beyond = lo < Y.min || hi > Y.max;
          group.append(shape('path', { ...(beyond ? { 'stroke-dasharray': '1 4', opacity: 0.7 } : {}),
              d: `M${at} ${a}L${at} ${b}M${at - 4} ${a}L${at + 4} ${a}M${at - 4} ${b}L${at + 4} ${b}`, fill: 'none',
              'stroke-width': 1.3, style: `stroke:${paint(s.colour)}` }));
        }
        if (dots) group.append(mark(at, py(s.y[i]), s.shape, s.colour, fillingOf(s, i), s.r || 3));
      });
    }
    const entries = series.filter((s) => !s.unlisted).concat(rules.filter((r) => r.name)
        .map((r) => ({ name: r.name, colour: r.colour || 'ink', dash: '2 3', width: 1.4 })),
      marks.filter((m) => m.name).map((m) => ({ name: m.name, colour: m.colour || 'soft', dash: m.dash || '2 3', width: 1.2 })));
    const below = entries.length > 1 || rules.length ? legend(svg, entries, 8, bottom + 60, width - 16) : 0;
    return { svg: close(svg, width, bottom + 46 + below), px, py, top, bottom };
  }

  // ---------------------------------------------------------------------------------------------- bars and heat maps

  /** spec: labels, series [{name, colour, values}], label (of the axis), words(v) */
  function drawBars(spec, width, title) {
    const svg = blank(`${spec.title}. ${spec.caption || ''}`), top = heading(svg, title, width) + 8, words = spec.words || number;
    const left = Math.min(width * 0.34, 16 + spec.labels.reduce((w, l) => Math.max(w, textWidth(l)), 20));
    const thick = 9, row = spec.series.length * (thick + 1) + 10, most = Math.max(1e-300,
        ...spec.series.map((s) => Math.max(0, ...s.values.filter(isNumber))));
    const scale = (v) => (width - left - 70) * Math.max(0, v) / most;
    spec.labels.forEach((label, i) => {
      const y = top + i * row;
      svg.append(fill(text(left - 8, y + (row - 10) / 2 + 4, shortened(label, left - 10), { anchor: 'end', soft: false }), {},
          [shape('title', {}, label)]));
      spec.series.forEach((s, j) => {
        if (!isNumber(s.values[i])) return;
        const at = y + j * (thick + 1);
        svg.append(shape('rect', { x: left, y: at, width: Math.max(1, scale(s.values[i])), height: thick,
            style: `fill:${paint(s.colour)}` }),
          text(left + scale(s.values[i]) + 5, at + thick - 0.5, words(s.values[i]), { size: 10 }));
      });
    });
    const bottom = top + spec.labels.length * row;
    const below = legend(svg, spec.series.map((s) => ({ ...s, kind: 'bar' })), 8, bottom + 14, width - 16);
    return { svg: close(svg, width, bottom + 8 + below) };
  }

  // Perceptually even and readable for the colour-blind, on white and on black: viridis.
  const SCALE = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99],
      [170, 220, 50], [253, 231, 37]];
  function colourOf(v) {
    const at = Math.min(1, Math.max(0, v)) * (SCALE.length - 1), i = Math.min(SCALE.length - 2, Math.floor(at)), t = at - i;
    return SCALE[i].map((c, j) => Math.round(c + t * (SCALE[i + 1][j] - c)));
  }
  function picture(w, h, colour) {
    const canvas = document.createElement('canvas');
    canvas.width = w;
    canvas.height = h;
    const context = canvas.getContext('2d'), image = context.createImageData(w, h);
    for (let y = 0; y < h; ++y) for (let x = 0; x < w; ++x) {
      const c = colour(x, y);
      if (c) image.data.set([...c, 255], 4 * (y * w + x));
    }
    context.putImageData(image, 0, 0);
    return canvas.toDataURL();
  }
  /** spec: rows, columns (numbers), values [[...]] from 0 to 1, xLabel, yLabel, chance */
  function drawHeat(spec, width, title) {
    const svg = blank(`${spec.title}. ${spec.caption || ''}`), top = heading(svg, title, width) + 8;
    const { rows, columns, values } = spec, left = 20 + rows.reduce((w, r) => Math.max(w, textWidth(number(r), 11)), 8);
    const side = Math.min(width - left - 10, 340), h = side / columns.length * rows.length <= side * 1.2
        ? side / columns.length * rows.length : side;
    const cw = side / columns.length, ch = h / rows.length;
    // The first row is at the bottom: time goes right and up.
    svg.append(shape('image', { x: left, y: top, width: side, height: h, preserveAspectRatio: 'none',
        style: 'image-rendering:pixelated',
      href: picture(columns.length, rows.length, (x, y) => (isNumber(list(values[rows.length - 1 - y])[x])
          ? colourOf(values[rows.length - 1 - y][x]) : null)) }));
    svg.append(shape('rect', { x: left, y: top, width: side, height: h, fill: 'none', style: 'stroke:var(--soft)' }));
    let last = -Infinity;
    columns.forEach((c, i) => {
      const words = number(c), half = textWidth(words, 11) / 2, at = left + (i + 0.5) * cw;
      if (at - half < last + 6) return;
      svg.append(text(at, top + h + 14, words, { size: 11, anchor: 'middle' }));
      last = at + half;
    });
    last = Infinity;
    rows.forEach((r, i) => {
      const at = top + h - (i + 0.5) * ch;
      if (at > last - 13) return;
      svg.append(text(left - 4, at + 4, number(r), { size: 11, anchor: 'end' }));
      last = at;
    });
    svg.append(text(left + side / 2, top + h + 30, spec.xLabel, { anchor: 'middle' }),
      text(0, 0, spec.yLabel, { anchor: 'middle', transform: `translate(11 ${top + h / 2}) rotate(-90)` }));
    const bar = top + h + 40;
    svg.append(shape('image', { x: left + 14, y: bar, width: side - 28, height: 8, preserveAspectRatio: 'none',
        href: picture(128, 1, (x) => colourOf(x / 127)) }),
      text(left + 8, bar + 9, '0', { size: 11, anchor: 'end' }), text(left + side - 8, bar + 9, '1', { size: 11 }));
    if (isNumber(spec.chance) && spec.chance >= 0 && spec.chance <= 1) {
      const at = left + 14 + (side - 28) * spec.chance;
      svg.append(shape('path', { d: `M${at} ${bar + 9}l4 7l-8 0Z`, style: 'fill:var(--ink)' }),
        text(Math.max(at + 7, left + 20), bar + 19, `chance ${number(spec.chance)}`, { size: 11 }));
    }
    return { svg: close(svg, width, bar + 26), left, top, cw, ch, h };
  }

  // ---------------------------------------------------------------------------------------------- figures on the page

  const live = new Set();  // figures that may still be on the page

  /** What is saved has no style sheet: custom properties become the colours they stand for. */
  function standalone(spec) {
    const width = spec.compact ? 460 : 760, svg = spec.draw(spec, width, spec.title).svg;
    const style = getComputedStyle(document.documentElement), w = svg.getAttribute('width'), h = svg.getAttribute('height');
    svg.prepend(shape('rect', { width: w, height: h, style: 'fill:var(--page)' }));
    return new XMLSerializer().serializeToString(svg).replace(/var\(--([a-z]+)\)/g,
        (all, name) => style.getPropertyValue(`--${name}`).trim() || all);
  }
  function save(name, blob) {
    const link = element('a', { href: URL.createObjectURL(blob), download: name });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }
  function savePng(name, source) {
    const image = new Image();
    image.onload = () => {
      const canvas = document.createElement('canvas');
      canvas.width = 2 * image.width;
      canvas.height = 2 * image.height;
      canvas.getContext('2d').drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob((blob) => { if (blob) save(name, blob); });
    };
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(source)}`;
  }

  const cell = (v) => {
    const words = isNumber(v) ? String(v) : v === null || v === undefined ? '' : String(v);
    // No spreadsheet takes it for a formula.
    const safe = !isNumber(v) && /^[=+\-@\t\r]/.test(words) ? `'${words}` : words;
    return /[",\n\r]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe;
  };
  function csv(spec) {
    let rows;
    if (spec.labels) {
      rows = [[spec.what || 'name', ...spec.series.map((s) => s.name)], ...spec.labels.map((l, i) =>
          [l, ...spec.series.map((s) => s.values[i])])];
    } else if (spec.values) {
      rows = [[`${spec.yLabel} \\ ${spec.xLabel}`, ...spec.columns], ...spec.rows.map((r, i) => [r, ...list(spec.values[i])])];
    } else {
      // A line for each x; whiskers are columns of their own.
      const columns = [];
      for (const s of spec.series) {
        if (!s.x.length) continue;
        columns.push([s.name || s.short || '', s.x, s.y]);
        if (s.low) columns.push([`${s.name || s.short}, low`, s.x, s.low], [`${s.name || s.short}, high`, s.x, s.high]);
      }
      const maps = columns.map(([, x, y]) => new Map(x.map((v, i) => [v, y[i]])));
      const xs = [...new Set([].concat(...spec.series.map((s) => s.x)))].sort((a, b) => a - b);
      rows = [[spec.x.label, ...columns.map((c) => c[0])], ...xs.map((x) => [x, ...maps.map((m) => m.get(x))])];
    }
    return rows.map((r) => r.map(cell).join(',')).join('\r\n') + '\r\n';
  }
  const fileName = (title) => title.replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-|-$/g, '').slice(0, 80).toLowerCase() || 'figure';

  function figure(parent, spec, controls) {
    const holder = element('div', { class: 'chart' }), readout = element('p', { class: 'readout' });
    const button = (name, act) => {
      const b = element('button', { type: 'button', title: `Save this figure${name === 'CSV' ? '’s data' : ''} as ${name}` },
          name);
      b.addEventListener('click', act);
      return b;
    };
    const name = fileName(spec.title);
    const buttons = element('span', { class: 'save' }, button('SVG', () =>
        save(`${name}.svg`, new Blob([standalone(spec)], { type: 'image/svg+xml' }))),
      button('PNG', () => savePng(`${name}.png`, standalone(spec))),
      button('CSV', () => save(`${name}.csv`, new Blob([csv(spec)], { type: 'text/csv' }))));
    const node = element('figure', { class: spec.compact ? 'compact' : null },
        element('div', { class: 'head' }, element('h3', {}, spec.title), buttons),
      controls, holder, readout, spec.caption ? element('figcaption', {}, spec.caption) : null);
    parent.append(node);

    let drawn = null, width = 0, cursor = null, rest = () => {};
    const redraw = (now) => {
      if (now === width) return;
      width = now;
      drawn = spec.draw(spec, width);
      holder.replaceChildren(drawn.svg);
      cursor = null;
      rest();
    };
    const key = (colour) => element('i', { style: `background:var(--${colour})` });
    const say = (head, parts) => readout.replaceChildren(element('b', {}, head), ...parts.map(([colour, words]) =>
      element('span', {}, colour ? key(colour) : null, words)));

    if (spec.values) {
      const hint = () => say('', []);
      hint();
      holder.addEventListener('pointermove', (event) => {
        const box = holder.getBoundingClientRect(), f = width / box.width;
        const j = Math.floor(((event.clientX - box.left) * f - drawn.left) / drawn.cw);
        const i = spec.rows.length - 1 - Math.floor(((event.clientY - box.top) * f - drawn.top) / drawn.ch);
        if (!(i in spec.rows) || !(j in spec.columns)) return hint();
        say(`${spec.yLabel} ${number(spec.rows[i])}, ${spec.xLabel} ${number(spec.columns[j])}`,
            [[null, number(list(spec.values[i])[j])]]);
      });
      holder.addEventListener('pointerleave', hint);
    } else if (!spec.labels) {
      const spoken = spec.series.filter((s) => !s.quiet);
      const xs = [...new Set([].concat(...spoken.map((s) => s.x)))].filter(isNumber).sort((a, b) => a - b);
      const nearest = (x) => xs.reduce((best, v) => (Math.abs(drawn.px(v) - drawn.px(x)) < Math.abs(drawn.px(best) - drawn.px(x))
          ? v : best), xs[0]);
      let at = null;
      const show = (x, line) => {
        at = x;
        say(spec.x.name ? spec.x.name(x) : number(x), spoken.map((s) => {
          const i = s.x.indexOf(x);
          if (i < 0 || !isNumber(s.y[i])) return null;
          const interval = isNumber(list(s.low)[i]) && isNumber(list(s.high)[i]) && number(s.low[i]) !== number(s.high[i])
              ? ` [${number(s.low[i])}, ${number(s.high[i])}]` : '';
          return [s.colour, `${s.short || s.name} ${number(s.y[i])}${interval}${(s.words && s.words(i)) || ''}`];
        }).filter(Boolean));
        if (cursor) cursor.remove();
        cursor = line ? shape('line', { class: 'cursor', x1: drawn.px(x), x2: drawn.px(x), y1: drawn.top, y2: drawn.bottom,
            style: 'stroke:var(--ink)', 'stroke-width': 1 }) : null;
        if (cursor) drawn.svg.append(cursor);
      };
      const xAt = (event) => {
        const box = holder.getBoundingClientRect(), p = (event.clientX - box.left) * width / box.width;
        return xs.reduce((best, v) => (Math.abs(drawn.px(v) - p) < Math.abs(drawn.px(best) - p) ? v : best), xs[0]);
      };
      rest = () => xs.length && show(isNumber(spec.at) ? nearest(spec.at) : xs[xs.length - 1], false);
      if (xs.length) {
        holder.setAttribute('tabindex', '0');
        holder.addEventListener('pointermove', (event) => show(xAt(event), true));
        holder.addEventListener('pointerleave', () => rest());
        holder.addEventListener('blur', () => rest());
        holder.addEventListener('keydown', (event) => {
          const stride = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
          if (event.key === 'Enter' && spec.pick) spec.pick(at);
          if (!stride) return;
          event.preventDefault();
          show(xs[Math.min(xs.length - 1, Math.max(0, xs.indexOf(at) + stride))], true);
        });
        if (spec.pick) {
          holder.classList.add('pick');
          holder.addEventListener('click', (event) => spec.pick(xAt(event)));
        }
      }
    } else {
      readout.hidden = true;
    }
    live.add({ node, redraw, width: () => Math.max(240, Math.floor(holder.clientWidth)) });
    return node;
  }
  /** Draws what is new or has another width: all widths are read before anything is drawn, so the page is laid out once. */
  function flush() {
    for (const one of live) if (!one.node.isConnected) live.delete(one);
    const widths = [...live].map((one) => one.width());
    [...live].forEach((one, i) => one.redraw(widths[i]));
  }
  window.addEventListener('resize', flush);

  const lines = (parent, spec, controls) => figure(parent, { ...spec, draw: drawLines }, controls);
  const bars = (parent, spec) => figure(parent, { ...spec, draw: drawBars });
  const heat = (parent, spec) => figure(parent, { ...spec, draw: drawHeat, compact: true });
  const count = () => document.querySelectorAll('.chart > svg').length;
  return { element, number, isNumber, list, lines, bars, heat, flush, count, csv, standalone };
})();
