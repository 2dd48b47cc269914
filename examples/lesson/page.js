"use strict";
// Everything on the page that moves. No library; `data` is what build.py put there.

const data = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
const sigma = x => 1 / (1 + Math.exp(-x));
const softplus = x => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
const fixed = (x, digits = 3) => (x < 0 ? "−" : "") + Math.abs(x).toFixed(digits);
const signed = (x, digits = 3) => (x >= 0 ? "+" : "") + fixed(x, digits);
const percent = x => (100 * x).toFixed(x < 0.1 ? 1 : 0) + "%";

// ---------------------------------------------------------------------------------------------------- the network

const PIXELS = 784, BITS = 50;

function bytes(base64) {
  const text = atob(base64), array = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) array[i] = text.charCodeAt(i);
  return array;
}

/** bfloat16 -> float32: the upper 16 of 32 bits. */
function bfloat16(base64) {
  const halves = new Uint16Array(bytes(base64).buffer);
  return new Float32Array(Uint32Array.from(halves, half => half << 16).buffer);
}

const float32 = base64 => new Float32Array(bytes(base64).buffer);

const network = {
  mean: float32(data.network.mean), w1: bfloat16(data.network.w1),            // w1 (784, 50)
  scale: float32(data.network.scale), shift: float32(data.network.shift),     // bias and batch norm, as at inference
  w2: bfloat16(data.network.w2), b2: float32(data.network.b2),               // w2 (50, 784)
};

/** The activations a (50) of an image of 784 pixels in [0, 1]. */
function encode(image) {
  const h = new Float64Array(BITS);
  for (let i = 0; i < PIXELS; i++) {
    const x = image[i] - network.mean[i];
    for (let k = 0; k < BITS; k++) h[k] += x * network.w1[BITS * i + k];
  }
  return Array.from(h, (value, k) => sigma(value * network.scale[k] + network.shift[k]));
}

const threshold = a => a.map(value => value > 0.5 ? 1 : 0);

/** The pixels in [0, 1] that the decoder makes of 50 bits, which it sees as -1 and +1. */
function decode(bits) {
  const logits = Float64Array.from(network.b2);
  for (let k = 0; k < BITS; k++) {
    const sign = 2 * bits[k] - 1;
    for (let i = 0; i < PIXELS; i++) logits[i] += sign * network.w2[PIXELS * k + i];
  }
  return Array.from(logits, sigma);
}

/** PSNR in dB between images in [0, 1], the reconstruction rounded to bytes. */
function psnr(image, reconstruction) {
  let sum = 0;
  for (let i = 0; i < PIXELS; i++) sum += (255 * image[i] - Math.round(255 * reconstruction[i])) ** 2;
  return 10 * Math.log10(255 ** 2 / (sum / PIXELS));
}

// ---------------------------------------------------------------------------------------------------- drawing figures

const NAMESPACE = "http://www.w3.org/2000/svg";

function add(parent, tag, attributes, text) {
  const element = document.createElementNS(NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

const redraw = [];
window.addEventListener("resize", () => redraw.forEach(draw => draw()));

/** Empty an SVG element and give it a coordinate per CSS pixel, so that text keeps its size. Returns [width, height]. */
function fresh(svg) {
  const size = [Math.max(320, svg.parentElement.clientWidth), Number(svg.dataset.height)];
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${size.join(" ")}`);
  return size;
}

/** Axes in an SVG element: x and y map values to its coordinates. */
class Axes {
  constructor(svg, {x, y, left = 56, right = 20, top = 18, bottom = 40, xLabel = "", yLabel = "", xTicks = [], yTicks = []}) {
    const [width, height] = fresh(svg);
    this.svg = svg;
    this.value = coordinate => x[0] + (coordinate - left) / (width - left - right) * (x[1] - x[0]);
    this.x = value => left + (value - x[0]) / (x[1] - x[0]) * (width - left - right);
    this.y = value => height - bottom - (value - y[0]) / (y[1] - y[0]) * (height - top - bottom);
    this.right = width - right;
    for (const [value, label] of yTicks) {
      this.line([[x[0], value], [x[1], value]], "grid");
      add(svg, "text", {x: left - 8, y: this.y(value) + 5, "text-anchor": "end", class: "muted"}, label ?? value);
    }
    for (const [value, label] of xTicks)
      add(svg, "text", {x: this.x(value), y: height - bottom + 18, "text-anchor": "middle", class: "muted"}, label ?? value);
    this.line([[x[0], y[0]], [x[1], y[0]]], "axis");
    add(svg, "text", {x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle", class: "muted"}, xLabel);
    add(svg, "text", {x: left, y: 13, class: "muted"}, yLabel);
  }

  line(points, style) {
    return add(this.svg, "polyline", {points: points.map(([x, y]) => `${this.x(x).toFixed(1)},${this.y(y).toFixed(1)}`).join(" "),
      class: style});
  }

  dot(x, y, style, radius = 6) {
    return add(this.svg, "circle", {cx: this.x(x), cy: this.y(y), r: radius, class: `filled ${style}`});
  }

  text(x, y, content, style = "", anchor = "start", dy = 0) {
    return add(this.svg, "text", {x: this.x(x), y: this.y(y) + dy, class: `${style}`, "text-anchor": anchor}, content);
  }
}

/** An arrow from (x1, y) to (x2, y), coordinates of the SVG element; a dot where there is no length. */
function arrow(svg, x1, x2, y, style) {
  if (Math.abs(x2 - x1) < 2) return add(svg, "circle", {cx: x1, cy: y, r: 4, class: `filled ${style}`});
  const d = Math.sign(x2 - x1) * Math.min(9, Math.abs(x2 - x1));
  add(svg, "path", {d: `M${x1} ${y}H${x2 - d}`, class: `curve ${style}`});
  return add(svg, "path", {d: `M${x2} ${y}l${-d} -6v12z`, class: `filled ${style}`});
}

/** A slider and the number beside it; `changed` is called at once and at every input. */
function slider(id, show, changed) {
  const input = $(id), output = input.parentElement.querySelector("output");
  const update = () => {
    output.textContent = show(Number(input.value));
    input.setAttribute("aria-valuetext", output.textContent);
    changed();
  };
  input.addEventListener("input", update);
  output.textContent = show(Number(input.value));
  return {get value() { return Number(input.value); }, set value(v) { input.value = v; update(); }, input};
}

/** Grey values in [0, 1] on a canvas of 28x28. */
function paint(canvas, image) {
  const context = canvas.getContext("2d"), picture = context.createImageData(28, 28);
  image.forEach((value, i) => picture.data.set([255 * value, 255 * value, 255 * value, 255], 4 * i));
  context.putImageData(picture, 0, 0);
}

// ---------------------------------------------------------------------------------------------------- 1. play

const play = {image: new Float64Array(PIXELS), a: [], flips: new Set(), selected: null};

/** A drawing as MNIST makes its digits: scaled into 20x20, then centred by mass in 28x28. pixels: side x side, [0, 1]. */
function asMnist(pixels, side) {
  let [left, right, top, bottom] = [side, -1, side, -1];
  for (let y = 0; y < side; y++) for (let x = 0; x < side; x++) if (pixels[side * y + x] > 0.05) {
    left = Math.min(left, x); right = Math.max(right, x); top = Math.min(top, y); bottom = Math.max(bottom, y);
  }
  const image = new Float64Array(PIXELS);
  if (right < 0) return image;
  const size = Math.max(right - left, bottom - top) + 1, cell = size / 20;
  const wide = Math.max(1, Math.round((right - left + 1) / cell)), high = Math.max(1, Math.round((bottom - top + 1) / cell));
  const small = [];
  let mass = 0, centreX = 0, centreY = 0;
  for (let y = 0; y < high; y++) for (let x = 0; x < wide; x++) {
    // The mean of the pixels under this cell.
    const x0 = Math.floor(left + x * cell), x1 = Math.max(x0 + 1, Math.floor(left + (x + 1) * cell));
    const y0 = Math.floor(top + y * cell), y1 = Math.max(y0 + 1, Math.floor(top + (y + 1) * cell));
    let sum = 0;
    for (let v = y0; v < y1; v++) for (let u = x0; u < x1; u++) sum += u < side && v < side ? pixels[side * v + u] : 0;
    const value = sum / ((x1 - x0) * (y1 - y0));
    small.push([x, y, value]);
    mass += value; centreX += value * x; centreY += value * y;
  }
  const dx = Math.round(13.5 - centreX / mass), dy = Math.round(13.5 - centreY / mass);
  for (const [x, y, value] of small) {
    const column = x + dx, row = y + dy;
    if (column >= 0 && column < 28 && row >= 0 && row < 28) image[28 * row + column] = value;
  }
  return image;
}

function setImage(image) {
  play.image = image;
  play.a = encode(image);
  play.flips.clear();
  paint($("input"), image);
  showCode();
}

const bitsInUse = () => threshold(play.a).map((bit, k) => play.flips.has(k) ? 1 - bit : bit);

function showCode() {
  const bits = bitsInUse(), reconstruction = decode(bits);
  [...$("tiles").children].forEach((tile, k) => {
    const undecided = 1 - 2 * Math.abs(play.a[k] - 0.5);
    tile.textContent = bits[k];
    tile.setAttribute("aria-pressed", bits[k] === 1);
    tile.setAttribute("aria-label", `bit ${k + 1}: ${bits[k]}, activation ${play.a[k].toFixed(2)}`);
    tile.title = `a = ${play.a[k].toFixed(3)}`;
    const ink = bits[k] ? 100 - 40 * undecided : 28 * undecided;  // Per cent; text stays readable on all of them.
    tile.style.backgroundColor = `color-mix(in srgb, var(--ink) ${ink.toFixed(0)}%, var(--paper))`;
    tile.style.borderWidth = `${(0.5 + 5 * undecided).toFixed(1)}px`;
    tile.classList.toggle("changed", play.flips.has(k));
  });
  paint($("output"), reconstruction);
  $("play-psnr").textContent = `${psnr(play.image, reconstruction).toFixed(1)} dB`;
  $("flipped").textContent = play.flips.size ? `${play.flips.size} of 50 bits flipped` : "";
  if (play.selected !== null) showInfluence(play.selected);
}

/** What bit k adds to the picture: the reconstruction with the bit at 1 less that with the bit at 0. */
function showInfluence(k) {
  play.selected = k;
  const bits = bitsInUse(), on = decode(bits.with(k, 1)), off = decode(bits.with(k, 0));
  const context = $("influence").getContext("2d"), picture = context.createImageData(28, 28);
  on.forEach((value, i) => {
    const change = Math.max(-1, Math.min(1, 2 * (value - off[i])));
    picture.data.set(change > 0 ? [255 * change, 130 * change, 60 * change, 255]
      : [-80 * change, -150 * change, -255 * change, 255], 4 * i);
  });
  context.putImageData(picture, 0, 0);
  $("influence-caption").textContent = `bit ${k + 1} at 1 makes pixels lighter (orange) or darker (blue)`;
}

function setUpPlay() {
  const pad = $("pad"), context = pad.getContext("2d", {willReadFrequently: true});
  const pen = {x: 140, y: 140, down: false, drawing: false};
  const clear = () => {
    context.fillStyle = "#000";
    context.fillRect(0, 0, 280, 280);
  };
  const read = () => {
    const {data: rgba} = context.getImageData(0, 0, 280, 280), grey = new Float64Array(280 * 280);
    for (let i = 0; i < grey.length; i++) grey[i] = rgba[4 * i] / 255;
    setImage(asMnist(grey, 280));
  };
  const strokeTo = (x, y) => {
    context.strokeStyle = "#fff";
    context.lineWidth = 22;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    context.moveTo(pen.x, pen.y);
    context.lineTo(x, y);
    context.stroke();
    [pen.x, pen.y] = [x, y];
    read();
  };
  const position = event => {
    const box = pad.getBoundingClientRect();
    return [(event.clientX - box.left) * 280 / box.width, (event.clientY - box.top) * 280 / box.height];
  };
  pad.addEventListener("pointerdown", event => {
    pad.setPointerCapture(event.pointerId);
    pen.drawing = true;
    [pen.x, pen.y] = position(event);
    strokeTo(pen.x, pen.y);
  });
  pad.addEventListener("pointermove", event => {
    if (pen.drawing) strokeTo(...position(event));
  });
  for (const end of ["pointerup", "pointercancel"]) pad.addEventListener(end, () => { pen.drawing = false; });
  pad.addEventListener("keydown", event => {
    const move = {ArrowLeft: [-8, 0], ArrowRight: [8, 0], ArrowUp: [0, -8], ArrowDown: [0, 8]}[event.key];
    if (!move && event.key !== " ") return;
    event.preventDefault();
    if (event.key === " ") pen.down = !pen.down;
    const x = Math.max(12, Math.min(268, pen.x + (move?.[0] ?? 0))), y = Math.max(12, Math.min(268, pen.y + (move?.[1] ?? 0)));
    if (pen.down) strokeTo(x, y); else [pen.x, pen.y] = [x, y];
  });
  $("clear").addEventListener("click", () => { clear(); read(); });

  for (let k = 0; k < BITS; k++) {
    const tile = document.createElement("button");
    tile.type = "button";
    tile.addEventListener("click", () => {
      if (!play.flips.delete(k)) play.flips.add(k);
      play.selected = k;
      showCode();
    });
    for (const look of ["pointerenter", "focus"]) tile.addEventListener(look, () => showInfluence(k));
    $("tiles").append(tile);
  }
  // The arrow keys move between tiles, as on a board.
  $("tiles").addEventListener("keydown", event => {
    const by = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -10, ArrowDown: 10}[event.key];
    const next = $("tiles").children[[...$("tiles").children].indexOf(document.activeElement) + by];
    if (!by || !next) return;
    event.preventDefault();
    next.focus();
  });
  $("restore").addEventListener("click", () => { play.flips.clear(); showCode(); });

  data.digits.forEach((base64, label) => {
    const image = Array.from(bytes(base64), value => value / 255), button = document.createElement("button");
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 28;
    paint(canvas, image);
    button.type = "button";
    button.setAttribute("aria-label", `test digit ${label}`);
    button.append(canvas);
    button.addEventListener("click", () => {
      context.drawImage(canvas, 0, 0, 280, 280);
      setImage(image);
    });
    $("picks").append(button);
  });
  $("picks").children[2].click();
}

// ---------------------------------------------------------------------------------------------------- 2. the staircase

function setUpStaircase() {
  const svg = $("stairs");
  let axes;
  const show = () => {
    const a = control.value, b = a > 0.5 ? 1 : 0, nextTo = 1e-3;
    axes = new Axes(svg, {x: [0, 1], y: [-0.08, 1.12], xLabel: "activation a", yLabel: "bit b",
      xTicks: [[0], [0.25, "¼"], [0.5, "½"], [0.75, "¾"], [1]], yTicks: [[0], [1]]});
    axes.line([[0, 0], [1, 1]], "curve dashed ste");
    axes.text(0.98, 0.3, "surrogate, slope 1", "muted", "end");
    axes.line([[0, 0], [0.5, 0]], "curve ink");
    axes.line([[0.5, 1], [1, 1]], "curve ink");
    axes.line([[a, 0], [a, b]], "grid dashed");
    axes.line([[Math.max(0, a - 0.07), b], [Math.min(1, a + 0.07), b]], "curve mark");
    axes.dot(a, b, "mark", 8);
    const above = a + nextTo > 0.5 ? 1 : 0, below = a - nextTo > 0.5 ? 1 : 0, numeric = (above - below) / (2 * nextTo);
    $("stairs-readout").textContent = `a = ${a.toFixed(2)}, b = ${b}. ` + (numeric
      ? `Here is the jump: a numeric check with a step of 0.001 finds ${numeric.toFixed(0)}, with a smaller step more. There is no derivative.`
      : "db/da = 0: a numeric check with a step of 0.001 finds 0.") + " The STE says 1.";
  };
  const control = slider("stairs-a", v => v.toFixed(2), show);
  const drag = event => {
    if (event.type === "pointermove" && !event.buttons) return;
    const a = axes.value(event.clientX - svg.getBoundingClientRect().left);
    control.value = Math.round(100 * Math.max(0, Math.min(1, a))) / 100;
  };
  svg.style.touchAction = "pan-y";
  for (const type of ["pointerdown", "pointermove"]) svg.addEventListener(type, drag);
  redraw.push(show);
  show();
}

// ---------------------------------------------------------------------------------------------------- 3. four answers

const ANSWERS = {
  vanilla: "The decoder sees a, and a is stored: every derivative is true, but nothing is quantized.",
  naive: "Trained like vanilla. Afterwards the threshold is put in, and the decoder sees bits for the first time.",
  fence: "Trained on a, with a loss that pushes a away from ½: its slope is +w/K below ½ and −w/K above. The threshold comes afterwards.",
  commit: "The decoder sees bits in training. Backward, dL/db takes the detour around the threshold, and the commitment loss adds 2w(a − b)/K.",
};

function setUpAnswers() {
  const show = () => {
    const kind = document.querySelector("input[name=kind]:checked").value, svg = $("graph"), [width] = fresh(svg);
    const bit = kind === "commit", loss = {fence: "mean min(a, 1 − a)", commit: "mean (sg[b] − a)²"}[kind];
    const half = Math.min(38, width / 12), places = [0, 1, 2, 3, 4].map(i => half + 6 + i * (width - 2 * half - 12) / 4);
    const [encoder, sigmoid, code, decoder, end] = places;
    const boxes = [[encoder, "encoder"], [sigmoid, "σ"], ...bit ? [[code, "1[a > ½]"]] : [], [decoder, "decoder"], [end, "loss"]];
    for (const [x, label] of boxes) {
      add(svg, "rect", {x: x - half, y: 72, width: 2 * half, height: 36, rx: 6, class: "curve ink"});
      add(svg, "text", {x, y: 95, "text-anchor": "middle", style: half < 38 ? "font-size: 11.5px" : ""}, label);
    }
    for (const [from, to, label] of [[encoder, sigmoid, "h"], ...bit ? [[sigmoid, code, "a"], [code, decoder, "b"]]
      : [[sigmoid, decoder, "a"]], [decoder, end, ""]]) {
      arrow(svg, from + half, to - half, 84, "ink");
      add(svg, "text", {x: (from + to) / 2, y: 68, "text-anchor": "middle"}, label);
    }
    // Backward, below the forward edges.
    for (const [from, to] of [[end, decoder], ...bit ? [] : [[decoder, sigmoid]], [sigmoid, encoder]])
      arrow(svg, from - half, to + half, 100, "flip");
    if (bit) {
      const [from, to] = [decoder - half, sigmoid + half];
      add(svg, "path", {d: `M${from} 100C${from - 32} 190 ${to + 32} 190 ${to + 6} 108`, class: "curve dashed ste"});
      add(svg, "path", {d: `M${to} 100l10 4l-8 9z`, class: "filled ste"});
      add(svg, "text", {x: code, y: 186, "text-anchor": "middle"}, "STE: da = db, around the threshold");
      if (half === 38) add(svg, "text", {x: code, y: 128, "text-anchor": "middle", class: "muted"}, "db/da = 0");
    } else if (kind !== "vanilla") {
      add(svg, "text", {x: code, y: 128, "text-anchor": "middle", class: "muted"}, "threshold only after training");
    }
    if (loss) {
      add(svg, "text", {x: sigmoid, y: 24, "text-anchor": "middle"}, `w · ${loss}`);
      add(svg, "path", {d: `M${sigmoid} 32V63`, class: "curve commitment"});
      add(svg, "path", {d: `M${sigmoid} 70l-6 -9h12z`, class: "filled commitment"});
    }
    add(svg, "text", {x: 8, y: 216, class: "muted"}, "upper arrows: forward; lower arrows: backward");
    $("answers-text").textContent = ANSWERS[kind];
  };
  $("answers-kind").addEventListener("change", show);
  redraw.push(show);
  show();
}

// ---------------------------------------------------------------------------------------------------- 4. one bit by hand

/** One bit and one pixel with target t; logit g b - g/2. Losses, slopes at 0 and 1, and the flip difference. */
function oneBit(t, g = 4) {
  const loss = b => softplus(g * b - g / 2) - t * (g * b - g / 2), slope = b => g * (sigma(g * b - g / 2) - t);
  return {loss, slope, d: loss(1) - loss(0)};
}

function setUpOneBit() {
  const worked = oneBit(0.4);
  $("worked-l0").textContent = fixed(worked.loss(0));
  $("worked-l1").textContent = fixed(worked.loss(1));
  $("worked-d").textContent = signed(worked.d);
  $("worked-s0").textContent = signed(worked.slope(0));
  $("worked-s1").textContent = signed(worked.slope(1));

  let a = 0.3, history = [a], running = false;
  const SHOWN = 120;
  const forces = () => {
    const {slope} = oneBit(target.value), b = a > 0.5 ? 1 : 0;
    return {b, ste: slope(b), commitment: 2 * weight.value * (a - b)};
  };
  const next = gradient => Math.max(0, Math.min(1, a - rate.value * gradient));
  const verdict = () => {
    const last = history.slice(-30), {d} = oneBit(target.value);
    if (last.length < 30) return "";
    const bits = last.map(value => value > 0.5), flips = bits.filter((bit, i) => i && bit !== bits[i - 1]).length;
    if (flips) return ` In the last 30 steps the bit flipped ${flips} times: it oscillates.`;
    if (d === 0) return " Both states are equally good.";
    return bits[0] === d < 0 ? " It has settled in the right state." : " It is frozen in the wrong state.";
  };
  const show = () => {
    const {b, ste, commitment} = forces(), {d, loss} = oneBit(target.value), svg = $("bit-now");
    const axes = new Axes(svg, {x: [0, 1], y: [0, 1], top: 10, bottom: 150, left: 176, right: 30});
    axes.line([[0, 0], [0.5, 0]], "curve ink");
    axes.line([[0.5, 0], [1, 0]], "curve ink");
    for (const [value, label] of [[0, "0"], [0.5, "½"], [1, "1"]]) {
      add(svg, "path", {d: `M${axes.x(value)} 34V46`, class: "axis"});
      add(svg, "text", {x: axes.x(value), y: 24, "text-anchor": "middle", class: "muted"}, label);
    }
    add(svg, "text", {x: 16, y: 45}, `a = ${a.toFixed(3)}, b = ${b}`);
    axes.dot(a, 0, "mark", 8);
    add(svg, "circle", {cx: axes.x(next(ste + commitment)), cy: axes.y(0), r: 11, class: "curve mark"});
    const scale = 75, from = axes.x(a), limit = x => Math.max(axes.x(0) - 20, Math.min(axes.right + 20, x));
    const rows = [["true derivative: 0", 0, "ink"], [`STE ${signed(ste)}`, -ste, "ste"],
      [`commitment ${signed(commitment)}`, -commitment, "commitment"], [`flip difference ${signed(d)}`, -d, "flip"]];
    rows.forEach(([label, push, style], i) => {
      const y = 76 + 30 * i;
      add(svg, "text", {x: 16, y: y + 5}, label);
      arrow(svg, from, limit(from + scale * push), y, style);
    });
    const past = history.slice(-SHOWN - 1), plot = new Axes($("bit-history"), {x: [0, SHOWN], y: [0, 1], xLabel: "last 120 steps",
      yLabel: "activation a", yTicks: [[0], [0.5, "½"], [1]]});
    plot.line([[0, 0.5], [SHOWN, 0.5]], "axis dashed");
    plot.line(past.map((value, i) => [i, value]), "curve mark");
    plot.dot(past.length - 1, a, "mark", 5);
    const right = d > 0 ? "0 is right" : d < 0 ? "1 is right" : "both are equally good";
    $("bit-readout").textContent = `Step ${history.length - 1}: b = ${b}, L = ${fixed(loss(b))}; ${right}. Descent moves a by −η(STE + commitment) `
      + `= ${signed(-rate.value * (ste + commitment))}.` + verdict();
  };
  const step = () => {
    const {ste, commitment} = forces();
    a = next(ste + commitment);
    history.push(a);
    show();
  };
  const reset = () => { a = start.value; history = [a]; show(); };
  const run = on => {
    running = on;
    $("bit-run").textContent = on ? "Pause" : "Run";
    if (on) requestAnimationFrame(tick);
  };
  const tick = () => {
    if (!running) return;
    step();
    if (history.length % SHOWN === 0) run(false); else setTimeout(() => requestAnimationFrame(tick), 30);
  };
  const target = slider("bit-t", v => v.toFixed(2), show), weight = slider("bit-w", v => v.toFixed(1), show);
  const rate = slider("bit-lr", v => v.toFixed(2), show), start = slider("bit-a", v => v.toFixed(2), reset);
  $("bit-step").addEventListener("click", () => { run(false); step(); });
  $("bit-run").addEventListener("click", () => run(!running));
  $("bit-reset").addEventListener("click", () => { run(false); reset(); });
  for (const preset of document.querySelectorAll(".preset")) preset.addEventListener("click", () => {
    target.value = 0.4;
    weight.value = preset.dataset.w;
    start.value = preset.dataset.a;
    run(true);
  });
  redraw.push(show);
  reset();
}

// ---------------------------------------------------------------------------------------------------- 5. why commitment

function setUpWhy() {
  const show = () => {
    const t = target.value, g = gain.value, {loss, slope, d} = oneBit(t, g);
    const grid = Array.from({length: 61}, (_, i) => i / 60), values = grid.map(loss);
    const low = Math.min(...values) - 0.3, high = Math.max(...values) + 0.15;
    const axes = new Axes($("convex"), {x: [-0.05, 1.05], y: [low, high], xLabel: "b, as if it were continuous", yLabel: "L",
      xTicks: [[0], [0.5, "½"], [1]]});
    const clip = points => points.filter(([, y]) => y >= low && y <= high);
    const tangent = b => clip(Array.from({length: 61}, (_, i) => -0.05 + 1.1 * i / 60).map(x => [x, loss(b) + slope(b) * (x - b)]));
    axes.line(tangent(0), "curve dashed ste");
    axes.line(tangent(1), "curve dashed ste");
    axes.line(grid.map((b, i) => [b, values[i]]), "curve ink");
    axes.line([[0, loss(0)], [1, loss(1)]], "curve flip");
    for (const b of [0, 1]) axes.dot(b, loss(b), "ink", 6);
    axes.svg.querySelectorAll("circle").forEach(dot => dot.classList.add("ink"));
    axes.text(0.5, (loss(0) + loss(1)) / 2, `chord: D = ${signed(d)}`, "", "middle", -10);

    const s0 = slope(0), s1 = slope(1), svg = $("interval"), most = 8;
    const zeroFrom = Math.max(0, -s0), oneFrom = Math.max(0, s1);
    const strip = new Axes(svg, {x: [0, most], y: [0, 1], top: 10, bottom: 34, left: 20, right: 36,
      xTicks: [[0], [2], [4], [6], [8, "w = 8"]]});
    const [low0, high0] = [Math.min(zeroFrom, oneFrom), Math.max(zeroFrom, oneFrom)];
    const zones = [[0, low0, "none", "ste"], [low0, high0, zeroFrom < oneFrom ? "only 0" : "only 1", "commitment"],
      [high0, most, "both", "flip"]];
    for (const [from, to, label, style] of zones) {
      if (Math.min(to, most) - from < 0.01) continue;
      const x = strip.x(from), width = strip.x(Math.min(to, most)) - x;
      add(svg, "rect", {x, y: 14, width, height: 46, class: `filled ${style}`, "fill-opacity": 0.35});
      if (width > 50) add(svg, "text", {x: x + width / 2, y: 42, "text-anchor": "middle"}, label);
    }
    const right = d > 0 ? "0" : "1";
    $("why-readout").textContent = `STE at 0: ${signed(s0)}, at 1: ${signed(s1)}. ` + (Math.abs(d) < 1e-9 ? "Both states are equally good."
      : `${right} is right. For ${fixed(low0)} < w < ${fixed(high0)} only ${right} is stable; below, `
      + (low0 > 0 ? "no state is" : "nothing, since it needs no help") + "; above, both are.");
  };
  const target = slider("why-t", v => v.toFixed(2), show), gain = slider("why-g", v => v.toFixed(1), show);
  redraw.push(show);
  show();
}

// ---------------------------------------------------------------------------------------------------- 6. the whole model

function setUpModel() {
  const {weights, epochs, runs, sweep, psnr: curve} = data.model, sheet = new Image();
  const show = () => {
    const w = weightControl.value, e = epochControl.value, run = runs[w][e];
    const total = run.latents.reduce((sum, count) => sum + count), shares = run.latents.map(count => count / total);
    const axes = new Axes($("latents"), {x: [0, 1], y: [0, 0.5], xLabel: "activation a", yLabel: "share of activations",
      xTicks: [[0], [0.5, "½"], [1]], yTicks: [[0, "0"], [0.25, "25%"], [0.5, "50%"]]});
    shares.forEach((share, i) => {
      const x = axes.x(i / shares.length), top = axes.y(Math.min(share, 0.5));
      add(axes.svg, "rect", {x, y: top, width: axes.x(1 / shares.length) - axes.x(0) - 1, height: axes.y(0) - top, class: "filled mark"});
    });
    const plot = new Axes($("weights"), {x: [0, weights.length - 1], y: [11, 19], xLabel: "weight w", yLabel: "held-out PSNR, dB",
      xTicks: weights.map((weight, i) => [i, weight]), yTicks: [[12], [14], [16], [18]], left: 56, right: 40});
    plot.line(curve.map((seeds, i) => [i, seeds.reduce((sum, value) => sum + value) / seeds.length]), "curve grid");
    curve.forEach((seeds, i) => seeds.forEach(value => plot.dot(i, value, "ink", 3)));
    plot.dot(w, run.psnr, "mark", 7);
    const context = $("sweep").getContext("2d");
    context.drawImage(sheet, 0, 0, 112, 28, 0, 0, 112, 28);
    context.drawImage(sheet, 0, 28 * (1 + w * epochs.length + e), 112, 28, 0, 28, 112, 28);
    $("model-readout").textContent = `Weight ${weights[w]}, after epoch ${epochs[e]}: held-out PSNR ${run.psnr.toFixed(2)} dB (marked; the dots are three seeds `
      + `after the last epoch), ${percent(near(run.latents))} of the activations in [¼, ¾].`;
  };
  const near = counts => counts.slice(10, 30).reduce((sum, count) => sum + count) / counts.reduce((sum, count) => sum + count);
  const weightControl = slider("model-w", i => weights[i], show), epochControl = slider("model-epoch", i => epochs[i], show);
  sheet.addEventListener("load", () => { redraw.push(show); show(); });
  sheet.src = sweep;
}

// ---------------------------------------------------------------------------------------------------- 7. over training

function setUpGradients() {
  const {models, weights} = data.gradients;
  const LINES = [["right_sign", "STE has the sign of the flip difference", "ink"], ["pushed", "STE asks for the other bit", "ste"],
    ["better_flipped", "the other bit is better", "flip"], ["near", "activation in [¼, ¾]", "commitment"]];
  const show = () => {
    const name = document.querySelector("input[name=gradients]:checked").value, points = models[name][control.value];
    const columns = $("over-training").parentElement.clientWidth > 640 ? 2 : 1;
    const axes = new Axes($("over-training"), {x: [0, points.length - 1], y: [0, 1], top: 20 + 24 * LINES.length / columns, xLabel: "training step",
      xTicks: points.map((point, i) => [i, point.step]), yTicks: [[0, "0"], [0.5, "50%"], [1, "100%"]], right: 30});
    LINES.forEach(([key, label, style], i) => {
      axes.line(points.map((point, j) => [j, point[key]]), `curve ${style}`);
      points.forEach((point, j) => axes.dot(j, point[key], style, 3.5));
      const x = 20 + 340 * (i % columns), y = 16 + 24 * Math.floor(i / columns);
      add(axes.svg, "path", {d: `M${x} ${y}h22`, class: `curve ${style}`});
      add(axes.svg, "text", {x: x + 28, y: y + 5}, label);
    });
    const last = points.at(-1), first = points[0];
    $("gradients-readout").textContent = `Weight ${weights[control.value]}: at the end ${percent(last.right_sign)} of the slopes have the right sign `
      + `(untrained ${percent(first.right_sign)}); ${percent(last.pushed)} ask for the other bit, which is better for ${percent(last.better_flipped)}. `
      + `At step ${points[5].step}, ${(100 * points[5].flips).toFixed(2)}% of the bits flip per step; PSNR at the end ${last.psnr.toFixed(2)} dB.`;
  };
  const control = slider("gradients-w", i => weights[i], show);
  $("gradients-model").addEventListener("change", show);
  redraw.push(show);
  show();
}

// ---------------------------------------------------------------------------------------------------- 9. quiz

const QUESTIONS = [
  ["The STE is the gradient of the loss with respect to a.", false,
    "That gradient is 0 wherever it exists. The STE is the gradient of another function, a + sg[b − a], and a biased substitute."],
  ["A numeric gradient check can show that an implementation of the STE is right.", false,
    "A check of the threshold gives 0, or a huge number across the jump. What one can check is the surrogate, and every other derivative."],
  ["The STE points the right way if its sign is the sign of the flip difference.", true,
    "A bit can only flip, and D says what that is worth. How close a is to ½ decides only whether a step can flip the bit."],
  ["If the STE and the flip differences have a small cosine, the STE fails.", false,
    "Section 7: late in training the signs of many bits disagree, and the network still gets better. What matters is the average over "
    + "many images that share weights."],
  ["Without a commitment loss the network cannot be trained.", false,
    "It can: w = 0 in section 6 is close to the best. The commitment loss limits oscillation; how much that is worth depends on the model."],
  ["The larger the weight of the commitment loss, the better.", false,
    "Above the interval of section 5 wrong states are stable too, and learning freezes. Quality over the weight is an inverted U."],
  ["A vanilla code of 50 numbers contains 1,600 bits of information.", false,
    "1,600 bits is how it is stored, as 32-bit floats. How much of that is information about the image is another matter, and far less."],
];

function setUpQuiz() {
  const answered = new Map();
  QUESTIONS.forEach(([statement, truth, why], i) => {
    const item = document.createElement("li"), text = document.createElement("p"), buttons = document.createElement("p");
    const answer = document.createElement("p");
    answer.setAttribute("aria-live", "polite");
    text.textContent = statement;
    for (const said of [true, false]) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = said ? "True" : "False";
      button.addEventListener("click", () => {
        if (!answered.has(i)) answered.set(i, said === truth);
        answer.className = `answer ${said === truth ? "right" : "wrong"}`;
        answer.textContent = `${said === truth ? "Yes" : "No"}: ${truth ? "true" : "false"}. ${why}`;
        $("score").textContent = `${[...answered.values()].filter(Boolean).length} of ${answered.size} right at the first try.`;
      });
      buttons.append(button);
    }
    item.append(text, buttons, answer);
    $("questions").append(item);
  });
  $("score").textContent = `${QUESTIONS.length} questions.`;
}

setUpPlay();
setUpStaircase();
setUpAnswers();
setUpOneBit();
setUpWhy();
setUpModel();
setUpGradients();
setUpQuiz();
// For the tests.
window.lesson = {encode, decode, threshold, asMnist, oneBit, psnr, data};
