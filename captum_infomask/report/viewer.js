// The viewer: pictures, what methods say about them, and a threshold to move.
//
// One plain module. The page inlines it and calls `mount`; anywidget loads it and calls `render`.
// Text from outside only ever becomes text nodes and attributes, never markup.

const SVG = "http://www.w3.org/2000/svg";
const KEPT_FRACTION = "max_fraction";
const AT_LEAST = "at_least";
const DASHES = ["", "7 3", "2 3", "9 3 2 3", "4 2", "12 4", "1 5", "7 3 2 3 2 3"];
const KEPT = [111, 123, 135]; // stands out from a light ground and from a dark one
const MINUS = "\u2212";
const ARBITRARY = "a.u."; // no unit: two such maps cannot be compared
// Other units have no bits to count.
const PER_BIT = new Map([
  ["bits", 1],
  ["nats", Math.LN2],
]);
const LABEL = 14; // pixels between the names beside curves
const FAINT = 0.25; // of a scale: a map that stays below it looks almost blank
const ROUNDING = 60; // parts of the shorter side: half the window that rounds a shown mask
const SMALLEST = 0.005; // of the picture: a shown mask has no smaller part, and no smaller hole
const BLANK = 230; // the ground of a map without a photograph
const FADE = [0.1, 0.9]; // shares of the limit between which a colour over a photograph appears
const THUMBNAIL = 96; // pixels of a small picture's longer side
let viewers = 0;

// ---- Numbers out of the payload -----------------------------------------------------------------

function bytesOf(text) {
  return Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
}

async function inflated(text) {
  const packed = new Blob([bytesOf(text)]).stream();
  const whole = packed.pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(whole).arrayBuffer());
}

/** The numbers that Python packed: their lowest bytes first, each counted from the one before. */
async function unpacked(text, count) {
  const bytes = await inflated(text);
  const size = bytes.length / count;
  const numbers = new Uint32Array(count);
  let before = 0;
  for (let i = 0; i < count; i += 1) {
    for (let k = 0; k < size; k += 1) before += bytes[k * count + i] * 256 ** k;
    before %= 256 ** size;
    numbers[i] = before;
  }
  return numbers;
}

/** A plane's values, row by row: float32 to the bit, or whole numbers of steps. */
export async function decodePlane({ rows, columns, step, values }, height, width) {
  const across = columns.length;
  const numbers = await unpacked(values, rows.length * across);
  const cells =
    step === null
      ? new Float32Array(numbers.buffer)
      : Float32Array.from(numbers, (number) => ((number << 16) >> 16) * step);
  const plane = new Float32Array(height * width);
  rows.forEach((top, row) => {
    const bottom = rows[row + 1] ?? height;
    const line = plane.subarray(top * width, (top + 1) * width);
    columns.forEach((left, column) => {
      line.fill(cells[row * across + column], left, columns[column + 1] ?? width);
    });
    for (let y = top + 1; y < bottom; y += 1) plane.set(line, y * width);
  });
  return plane;
}

/** The mean over `step` values around each, `stride` apart; ends of an even step count half. */
function smoothLine(from, to, start, stride, count, step) {
  const reach = Math.floor(step / 2);
  const end = step % 2 ? 1 : 0.5;
  for (let i = 0; i < count; i += 1) {
    let sum = 0;
    for (let k = -reach; k <= reach; k += 1) {
      const at = Math.max(0, Math.min(count - 1, i + k));
      sum += from[start + at * stride] * (Math.abs(k) === reach ? end : 1);
    }
    to[start + i * stride] = sum / step;
  }
}

/** A plane for the eye: windows, which are `steps` apart, run into each other. */
export function shownPlane(plane, height, width, [down, across]) {
  if (down === 1 && across === 1) return plane;
  const half = new Float32Array(plane.length);
  const shown = new Float32Array(plane.length);
  for (let x = 0; x < width; x += 1) smoothLine(plane, half, x, width, height, down);
  for (let y = 0; y < height; y += 1) smoothLine(half, shown, y * width, 1, width, across);
  return shown;
}

/** Runs of equal values, row by row. */
export function decodeRuns({ values, lengths }, size) {
  const flat = new Int32Array(size);
  let start = 0;
  values.forEach((value, run) => {
    flat.fill(value, start, start + lengths[run]);
    start += lengths[run];
  });
  return flat;
}

/** A volume's slice across one of its axes, row by row; `channels` numbers for each voxel. */
export function slicePlane(values, [depth, height, width], axis, index, channels = 1) {
  const steps = [height * width, width, 1];
  const [down, across] = [0, 1, 2].filter((k) => k !== axis);
  const sizes = [depth, height, width];
  const made = new values.constructor(sizes[down] * sizes[across] * channels);
  let to = 0;
  for (let y = 0; y < sizes[down]; y += 1) {
    for (let x = 0; x < sizes[across]; x += 1) {
      const from = channels * (index * steps[axis] + y * steps[down] + x * steps[across]);
      for (let k = 0; k < channels; k += 1, to += 1) made[to] = values[from + k];
    }
  }
  return made;
}

/** The regions that a slice cuts: of two equally near in it, the one nearer in depth is found. */
export function sliceRegions(regions, sizes, axis, index) {
  const { scores, errors, labels } = regions;
  if (labels) return { scores, errors, labels: slicePlane(labels, sizes, axis, index) };
  const [down, across] = [0, 1, 2].filter((k) => k !== axis);
  const far = (box) => Math.abs((box[axis] + box[axis + 3] - 1) / 2 - index);
  const cut = regions.boxes
    .map((box, region) => ({ box, region }))
    .filter(({ box }) => box[axis] <= index && index < box[axis + 3])
    .sort((a, b) => far(a.box) - far(b.box));
  return {
    scores: cut.map(({ region }) => scores[region]),
    errors: errors && cut.map(({ region }) => errors[region]),
    boxes: cut.map(({ box }) => [box[down], box[across], box[down + 3], box[across + 3]]),
    labels: null,
  };
}

// ---- Masks: the same as in Python, to the pixel -------------------------------------------------

/** The largest value, NaN aside. */
function largest(plane) {
  let best = -Infinity;
  for (const value of plane) if (value > best) best = value;
  return best;
}

function smallest(plane) {
  let least = Infinity;
  for (const value of plane) if (value < least) least = value;
  return least;
}

/** The largest finite magnitude: full colour on a map's own scale. */
function magnitude(plane) {
  let best = 0;
  for (const value of plane) {
    if (Number.isFinite(value) && Math.abs(value) > best) best = Math.abs(value);
  }
  return best || 1;
}

/** What a threshold asks of maps in a unit: bits are counted in bits and nats alone. */
export function ruleFor(unit, { rule, amount, share }) {
  if (rule === KEPT_FRACTION) return { rule, amount };
  const perBit = PER_BIT.get(unit);
  if (perBit === undefined) return { rule: KEPT_FRACTION, amount: share };
  return { rule, amount: amount * perBit };
}

/** The smallest value that a rule keeps, as float32: a tensor is compared with it in float32. */
export function smallestKept(maximum, rule, amount) {
  return Math.fround(rule === KEPT_FRACTION ? amount * maximum : amount);
}

/** What a threshold keeps: 1 where a value is positive and reaches it. */
export function keptPixels(plane, cut) {
  const mask = new Uint8Array(plane.length);
  for (let i = 0; i < plane.length; i += 1) mask[i] = plane[i] > 0 && plane[i] >= cut ? 1 : 0;
  return mask;
}

/** Sums over a window of odd width along rows or columns; edges repeat the outermost pixel. */
function boxSums(values, height, width, reach, alongRows) {
  const [lines, length] = alongRows ? [height, width] : [width, height];
  const [lineStep, step] = alongRows ? [width, 1] : [1, width];
  const sums = new Float64Array(values.length);
  for (let line = 0; line < lines; line += 1) {
    const start = line * lineStep;
    const at = (k) => values[start + Math.max(0, Math.min(length - 1, k)) * step];
    let sum = 0;
    for (let k = -reach; k <= reach; k += 1) sum += at(k);
    for (let k = 0; k < length; k += 1) {
      sums[start + k * step] = sum;
      sum += at(k + reach + 1) - at(k - reach);
    }
  }
  return sums;
}

/** The connected parts of at least so many pixels; corners connect, or edges alone. */
function largeParts(mask, height, width, pixels, corners) {
  const kept = new Uint8Array(mask.length);
  const seen = new Uint8Array(mask.length);
  const stack = [];
  for (let first = 0; first < mask.length; first += 1) {
    if (!mask[first] || seen[first]) continue;
    const part = [first];
    seen[first] = 1;
    stack.push(first);
    while (stack.length) {
      const at = stack.pop();
      const [y, x] = [Math.floor(at / width), at % width];
      for (let dy = -1; dy <= 1; dy += 1) {
        for (let dx = -1; dx <= 1; dx += 1) {
          const next = at + dy * width + dx;
          const inside = y + dy >= 0 && y + dy < height && x + dx >= 0 && x + dx < width;
          if (!inside || (dy && dx && !corners) || !mask[next] || seen[next]) continue;
          seen[next] = 1;
          part.push(next);
          stack.push(next);
        }
      }
    }
    if (part.length >= pixels) for (const at of part) kept[at] = 1;
  }
  return kept;
}

/** A mask as panels show it: round outlines, no specks and holes. Numbers have the mask itself. */
export function shownMask(mask, height, width) {
  const reach = Math.floor(Math.min(height, width) / ROUNDING);
  let sums = mask;
  for (let k = 0; k < 6; k += 1) sums = boxSums(sums, height, width, reach, k % 2 === 1);
  const half = (2 * reach + 1) ** 6 / 2;
  const soft = Uint8Array.from(sums, (sum) => (sum > half ? 1 : 0));
  const parts = largeParts(soft, height, width, SMALLEST * mask.length, true);
  if (!parts.includes(1)) return mask;
  const ground = parts.map((pixel) => 1 - pixel);
  return largeParts(ground, height, width, SMALLEST * mask.length, false).map((one) => 1 - one);
}

/** The box x0, y0, x1, y1 around the connected part with the most pixels; null if there is none. */
export function largestBox(mask, height, width) {
  const parts = []; // one per run of a row's pixels, until runs that touch are joined
  let above = [];
  for (let y = 0; y < height; y += 1) {
    const here = [];
    let first = 0;
    for (let x = 0; x < width; x += 1) {
      if (!mask[y * width + x]) continue;
      const start = x;
      while (x < width && mask[y * width + x]) x += 1;
      const run = newPart(start, y, x, width);
      parts.push(run);
      here.push(run);
      while (first < above.length && above[first].end < start) first += 1;
      for (let k = first; k < above.length && above[k].start <= x; k += 1) join(above[k], run);
    }
    above = here;
  }
  let best = null;
  for (const part of parts) {
    if (part.parent !== part) continue;
    const more = best === null ? 1 : part.pixels - best.pixels || best.at - part.at;
    if (more > 0) best = part;
  }
  return best && best.box;
}

/** A run of pixels. Of equally large parts, the one that begins first in reading order counts. */
function newPart(start, y, end, width) {
  const box = [start, y, end, y + 1];
  const part = { start, end, pixels: end - start, box, at: y * width + start };
  part.parent = part;
  return part;
}

function rootOf(part) {
  let root = part;
  while (root.parent !== root) {
    root.parent = root.parent.parent;
    root = root.parent;
  }
  return root;
}

function join(one, other) {
  const [root, child] = [rootOf(one), rootOf(other)];
  if (root === child) return;
  child.parent = root;
  root.pixels += child.pixels;
  root.at = Math.min(root.at, child.at);
  const [x0, y0, x1, y1] = child.box;
  const [u0, v0, u1, v1] = root.box;
  root.box = [Math.min(x0, u0), Math.min(y0, v0), Math.max(x1, u1), Math.max(y1, v1)];
}

/** The share of pixels that a mask keeps. */
function shareOf(mask) {
  let kept = 0;
  for (const pixel of mask) kept += pixel;
  return kept / mask.length;
}

/** Intersection over union; two empty masks agree. */
export function maskIou(mask, truth) {
  let both = 0;
  let either = 0;
  for (let i = 0; i < mask.length; i += 1) {
    both += mask[i] && truth[i] ? 1 : 0;
    either += mask[i] || truth[i] ? 1 : 0;
  }
  return either ? both / either : 1;
}

// ---- Regions ------------------------------------------------------------------------------------

/** The region under a pixel: of windows that overlap, the one whose middle is nearest. */
export function regionAt(regions, x, y, width) {
  if (regions.labels) {
    const label = regions.labels[y * width + x];
    return label < 0 ? null : label;
  }
  let best = null;
  let nearest = Infinity;
  (regions.boxes ?? []).forEach(([y0, x0, y1, x1], region) => {
    if (x < x0 || x >= x1 || y < y0 || y >= y1 || regions.scores[region] === null) return;
    const distance = Math.hypot((x0 + x1 - 1) / 2 - x, (y0 + y1 - 1) / 2 - y);
    if (distance < nearest) [best, nearest] = [region, distance];
  });
  return best;
}

function rectanglePath([x0, y0, x1, y1]) {
  return `M${x0} ${y0}H${x1}V${y1}H${x0}Z`;
}

/** The outline of the pixels for which `inside` holds. */
function outlinePath(inside, height, width) {
  const parts = [];
  const at = (x, y) => x >= 0 && y >= 0 && x < width && y < height && inside(y * width + x);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      if (!at(x, y)) continue;
      if (!at(x, y - 1)) parts.push(`M${x} ${y}h1`);
      if (!at(x, y + 1)) parts.push(`M${x} ${y + 1}h1`);
      if (!at(x - 1, y)) parts.push(`M${x} ${y}v1`);
      if (!at(x + 1, y)) parts.push(`M${x + 1} ${y}v1`);
    }
  }
  return parts.join("");
}

function regionPath(regions, region, height, width) {
  if (regions.labels) return outlinePath((i) => regions.labels[i] === region, height, width);
  const [y0, x0, y1, x1] = regions.boxes[region];
  return rectanglePath([x0, y0, x1, y1]);
}

// ---- Colours ------------------------------------------------------------------------------------

/** How opaque a value on its scale is: over the photograph's own colours it fades near 0. */
function opacityOf(size, look) {
  if (!look.overPhoto) return look.opacity * Math.sqrt(size);
  const t = Math.max(0, Math.min(1, (size - FADE[0]) / (FADE[1] - FADE[0])));
  return look.opacity * t * t * (3 - 2 * t);
}

/** The colour of a value on its scale, from -1 to 1, laid over a ground; written to `out`. */
function tintPixel(out, place, scaled, ground, look) {
  const shown = look.signed || scaled > 0 ? scaled : 0;
  const alpha = opacityOf(Math.abs(shown), look);
  const entry = 3 * Math.round(((shown + 1) / 2) * (look.table.length / 3 - 1));
  for (let channel = 0; channel < 3; channel += 1) {
    out[place + channel] = alpha * look.table[entry + channel] + (1 - alpha) * ground[channel];
  }
  out[place + 3] = 255;
}

function paintOverlay(context, plane, limit, { photo, grey }, look) {
  const image = context.createImageData(context.canvas.width, context.canvas.height);
  const ground = [BLANK, BLANK, BLANK];
  for (let i = 0; i < plane.length; i += 1) {
    const scaled = Math.max(-1, Math.min(1, plane[i] / limit)) || 0;
    for (let channel = 0; photo && channel < 3; channel += 1) {
      ground[channel] = look.overPhoto ? photo[4 * i + channel] : grey[i];
    }
    tintPixel(image.data, 4 * i, scaled, ground, look);
  }
  context.putImageData(image, 0, 0);
}

function paintScale(canvas, look) {
  canvas.width = 256;
  canvas.height = 1;
  const context = canvas.getContext("2d");
  const image = context.createImageData(256, 1);
  for (let x = 0; x < 256; x += 1) tintPixel(image.data, 4 * x, x / 127.5 - 1, [218, 218, 218], look);
  context.putImageData(image, 0, 0);
}

/** Kept pixels, plain or those of the photograph; others are see-through. */
function paintMask(context, mask, photo) {
  const image = context.createImageData(context.canvas.width, context.canvas.height);
  const shown = new Uint32Array(image.data.buffer); // four bytes at once
  const source = photo && new Uint32Array(photo.buffer);
  const [ink] = new Uint32Array(Uint8Array.of(...KEPT, 255).buffer);
  for (let i = 0; i < mask.length; i += 1) if (mask[i]) shown[i] = source ? source[i] : ink;
  context.putImageData(image, 0, 0);
}

// ---- Words --------------------------------------------------------------------------------------

/** Decimal places that tell values of this magnitude apart. */
function placesFor(magnitude) {
  return Math.max(0, Math.min(8, 2 - Math.floor(Math.log10(magnitude || 1) + 1e-9)));
}

function write(value, places) {
  const text = Math.abs(value).toFixed(places);
  return value < 0 && Number(text) !== 0 ? MINUS + text : text;
}

/** A score and its standard error, if it has one; an error that rounds to 0 gets more decimals. */
export function scoreWords(score, error, places) {
  if (error === null) return write(score, places);
  const fine = error > 0 ? Math.max(places, Math.min(places + 2, placesFor(error) - 2)) : places;
  return `${write(score, fine)} ± ${write(error, fine)}`;
}

function percent(share) {
  return `${(100 * share).toFixed(1)}%`;
}

// ---- Elements -----------------------------------------------------------------------------------

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function soft(words) {
  return make("span", { class: "cim-soft" }, words);
}

/** Two arrows away from each other: what a click on a map does. */
function zoomSign() {
  const arrows = "M9 2h5v5M14 2L9.5 6.5M7 14H2V9M2 14l4.5-4.5";
  return draw(
    "svg",
    { class: "cim-zoom", viewBox: "0 0 16 16", "aria-hidden": "true" },
    draw("path", { d: arrows }),
  );
}

/** A picture with lines over it: a box, a region's outline, the place that is looked at. */
class Panel {
  constructor(kind, height, width, label) {
    this.canvas = make("canvas", {
      width,
      height,
      "data-panel": kind,
      role: "img",
      "aria-label": label,
    });
    // Drawn pixel by pixel on the CPU: nothing is gained by a canvas on the graphics card.
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.lines = draw("svg", {
      viewBox: `0 0 ${width} ${height}`,
      preserveAspectRatio: "none",
      "aria-hidden": "true",
    });
    this.marks = {};
    for (const name of ["truth", "region", "box", "place"]) {
      this.marks[name] = [draw("path", { class: `cim-case cim-${name}` })];
      this.marks[name].push(draw("path", { class: `cim-line cim-${name}` }));
      this.lines.append(...this.marks[name]);
    }
    const fine = Math.max(height, width) < 128 ? " cim-fine" : "";
    this.element = make(
      "div",
      { class: `cim-stage cim-stage-${kind}${fine}` },
      this.canvas,
      this.lines,
    );
    this.element.style.aspectRatio = `${width} / ${height}`;
  }

  mark(name, path) {
    for (const line of this.marks[name]) line.setAttribute("d", path);
  }

  /** Make the panel a button that a pointer and the keyboard press. */
  onPress(label, pressed) {
    const { element } = this;
    let kind = "";
    element.append(zoomSign());
    for (const [name, value] of [
      ["tabindex", "0"],
      ["role", "button"],
      ["aria-haspopup", "dialog"],
      ["aria-label", label],
    ]) {
      element.setAttribute(name, value);
    }
    element.addEventListener("pointerdown", (event) => {
      kind = event.pointerType;
    });
    element.addEventListener("click", () => pressed(kind));
    element.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      if (!event.repeat) pressed("keyboard");
    });
  }
}

/**
 * A map enlarged beside the photograph, in front of all else. The page's own parts are moved there
 * and back, so they go on as they are: what the pointer reads, outlines, masks that move.
 */
class Enlargement {
  constructor(photo) {
    this.photo = photo;
    this.moved = [];
    this.title = make("h2", {});
    const close = make("button", { type: "button", class: "cim-button" }, "Close");
    close.addEventListener("click", () => this.dialog.close());
    this.pair = make("div", { class: "cim-pair" });
    const head = make("header", {}, this.title, close);
    this.dialog = make(
      "dialog",
      { class: "cim-enlarged" },
      make("div", { class: "cim-enlarged-body" }, head, this.pair),
    );
    this.dialog.addEventListener("click", ({ target }) => {
      if (target === this.dialog) this.dialog.close(); // beside what it shows
    });
    this.dialog.addEventListener("close", () => this.putBack());
  }

  /** A press opens; a second one closes. A finger's presses inside only read the map. */
  press(card, kind) {
    if (!this.dialog.open) this.open(card);
    else if (kind !== "touch") this.dialog.close();
  }

  open(card) {
    const { element } = card.panels.overlay;
    const parts = [element, card.scaleArea, ...(this.photo ? [this.photo.element] : [])];
    this.title.replaceChildren(card.map.name, " ", soft(card.map.meaning));
    this.dialog.setAttribute("aria-label", `${card.map.name}, enlarged`);
    this.pair.style.setProperty("--pictures", this.photo ? 2 : 1);
    this.pair.style.setProperty("--aspect", card.picture.width / card.picture.height);
    this.moved = parts.map((part) => {
      const place = part.cloneNode(true); // the page behind keeps its layout
      part.replaceWith(place);
      return [part, place];
    });
    this.back = element;
    this.pair.append(...parts);
    this.dialog.showModal();
    element.focus();
  }

  putBack() {
    for (const [part, place] of this.moved) place.replaceWith(part);
    this.moved = [];
    this.back.focus({ preventScroll: true });
  }
}

// ---- One method's card --------------------------------------------------------------------------

class Card {
  constructor(map, planes, picture, number) {
    this.map = map;
    this.planes = planes;
    this.picture = picture;
    const { height, width } = picture;
    this.allRegions = map.regions && {
      scores: map.regions.scores,
      errors: map.regions.errors,
      boxes: map.regions.boxes,
      labels: map.regions.labels && decodeRuns(map.regions.labels, picture.cuts.size),
    };
    this.changed = () => {};
    this.classes = map.classes.length ? new ClassControl(map, () => this.changed()) : null;
    const head = make(
      "header",
      {},
      make("h3", {}, map.name),
      make("p", { class: "cim-soft" }, map.meaning),
      this.classes && this.classes.element,
    );
    this.element = make(
      "article",
      { class: "cim-card", "aria-label": map.name, "data-card": number },
      head,
    );
    this.panels = {};
    this.takeClass();
    this.addAttribution(height, width);
    this.addMask(height, width);
    if (picture.photo) this.addKept(height, width);
  }

  /** Take the values of the class that is asked about, less those of the other class, if any. */
  takeClass() {
    const { map, planes, classes } = this;
    const [one, other] = classes ? classes.chosen : [0, null];
    const difference = (a, b) => (a === null || b === null ? null : a - b);
    this.whole =
      other === null ? planes[one] : planes[one].map((value, i) => value - planes[other][i]);
    this.maximum = largest(this.whole);
    this.minimum = smallest(this.whole);
    this.own = magnitude(this.whole);
    this.limit = this.own;
    this.places = placesFor(this.own);
    if (classes && this.allRegions) {
      const [scores, others] = [one, other].map((k) => (k === null ? null : map.classes[k].scores));
      this.allRegions.scores = others ? scores.map((s, i) => difference(s, others[i])) : scores;
      // How the errors of two classes go together is not known.
      this.allRegions.errors = others ? undefined : map.classes[one].errors;
    }
    this.takeSlice();
  }

  /** Take the values of the slice that is shown; a picture is one slice. */
  takeSlice() {
    const { height, width, cuts } = this.picture;
    this.values = cuts.plane(this.whole);
    this.shown = shownPlane(this.values, height, width, cuts.steps(this.map.steps));
    this.regions = this.allRegions && cuts.regions(this.allRegions);
  }

  addAttribution(height, width) {
    const { map } = this;
    this.panels.overlay = new Panel("overlay", height, width, `Attribution by ${map.name}`);
    this.scale = make("canvas", { class: "cim-scale-bar", "aria-hidden": "true" });
    this.cut = make("i", { class: "cim-cut", title: "the threshold" });
    this.needle = make("i", { class: "cim-needle", hidden: true });
    this.value = make("b", { class: "cim-value" });
    this.most = make("span", { class: "cim-soft" });
    this.region = make("span", { class: "cim-soft cim-region-score" });
    this.ends = make("div", { class: "cim-scale-ends cim-soft" });
    this.faint = make("p", { class: "cim-faint", hidden: true });
    this.scaleArea = make(
      "div",
      { class: "cim-scale" },
      make("div", { class: "cim-scale-track" }, this.scale, this.cut, this.needle),
      this.ends,
      this.faint,
      make("p", { class: "cim-readout" }, this.value, this.most, this.region),
    );
    this.element.append(this.panels.overlay.element, this.scaleArea);
  }

  addMask(height, width) {
    this.panels.mask = new Panel("mask", height, width, `Mask by ${this.map.name}`);
    this.share = make("b", { class: "cim-share" });
    this.partly = make("span", { class: "cim-soft cim-slice-share" });
    this.iou = make("span", { class: "cim-iou" });
    this.rule = make("span", { class: "cim-soft cim-own-rule" });
    this.element.append(
      this.panels.mask.element,
      make(
        "p",
        { class: "cim-readout cim-mask-words" },
        soft("mask "),
        this.share,
        this.partly,
        " ",
        this.iou,
        this.rule,
      ),
    );
  }

  addKept(height, width) {
    this.panels.kept = new Panel("kept", height, width, `What the mask of ${this.map.name} keeps`);
    this.box = make("span", { class: "cim-box-text" });
    this.element.append(
      this.panels.kept.element,
      make("p", { class: "cim-readout cim-kept-words" }, soft("box "), this.box),
    );
  }

  /** Draw the colours, on the map's own scale or on that of all maps of its unit. */
  drawColours(look) {
    this.limit = look.isShared ? Math.max(this.map.limit, this.own) : this.own;
    paintOverlay(this.panels.overlay.context, this.shown, this.limit, this.picture.ground, look);
    paintScale(this.scale, look);
    const places = Math.max(0, placesFor(this.limit) - 1);
    const ends = [write(-this.limit, places), "0", write(this.limit, places)];
    this.ends.replaceChildren(...ends.map((end) => make("span", {}, end)));
    const reach = this.own / this.limit;
    this.faint.hidden = reach >= FAINT;
    this.faint.textContent = `Faint: it reaches ${percent(reach)} of this scale.`;
  }

  /** Cut again: the mask, what it keeps, and all that is said of it. */
  drawMask(threshold, showBox) {
    const { height, width, photoData, truthMask, cuts } = this.picture;
    const { rule, amount } = ruleFor(this.map.unit, threshold);
    this.rule.textContent =
      rule === threshold.rule ? "" : `at ${percent(amount)} of its maximum`;
    const cut = smallestKept(this.maximum, rule, amount);
    const whole = keptPixels(this.whole, cut);
    const mask = cuts.plane(whole);
    const shown = shownMask(mask, height, width);
    paintMask(this.panels.mask.context, shown, null);
    if (this.panels.kept) paintMask(this.panels.kept.context, shown, photoData);
    this.share.textContent = percent(shareOf(whole));
    this.partly.textContent = cuts.shareWords(shareOf(mask));
    this.iou.textContent = truthMask ? `IoU ${maskIou(whole, truthMask).toFixed(3)}` : "";
    const box = largestBox(mask, height, width);
    if (this.box)
      this.box.textContent = box ? `${box[0]}, ${box[1]} – ${box[2]}, ${box[3]}\u00a0px` : "none";
    const path = box && showBox ? rectanglePath(box) : "";
    for (const panel of Object.values(this.panels)) panel.mark("box", path);
    this.place(this.cut, this.maximum > 0 ? cut : Infinity);
  }

  /** Say what the map holds at a place, or the most that it holds anywhere. */
  look(at) {
    const { height, width } = this.picture;
    const unit = this.map.unit;
    const value = at ? this.values[at.y * width + at.x] : this.maximum;
    this.value.textContent = `${write(value, this.places)} ${unit}`;
    this.most.textContent = at ? "" : " largest";
    this.region.textContent = at ? "" : `${write(this.minimum, this.places)} smallest`;
    const region = at && this.regions ? regionAt(this.regions, at.x, at.y, width) : null;
    let outline = "";
    if (region !== null) {
      const score = this.regions.scores[region];
      const error = (this.regions.errors ?? [])[region] ?? null;
      const said = score === null ? "absent" : `${scoreWords(score, error, this.places)} ${unit}`;
      this.region.textContent = `region ${said}`;
      this.region.title = error === null ? "" : "± one standard error";
      outline = regionPath(this.regions, region, height, width);
    }
    const dot = at ? `M${at.x + 0.5} ${at.y + 0.5}h0` : "";
    for (const panel of Object.values(this.panels)) {
      panel.mark("region", outline);
      panel.mark("place", dot);
    }
    this.place(this.needle, at ? value : Infinity);
    return [this.map.name, this.value.textContent, this.region.textContent]
      .filter(Boolean)
      .join(" ");
  }

  /** Put a pointer on the colour scale, where the value is on it. */
  place(pointer, value) {
    const scaled = Math.max(-1, value / this.limit);
    pointer.hidden = !(scaled <= 1);
    if (!pointer.hidden) pointer.style.left = `${50 + 50 * scaled}%`;
  }
}

// ---- Curves -------------------------------------------------------------------------------------

/** A walk through the picture: a line per method, told apart by dashes and by names beside them. */
function drawCurves(element, name, maps) {
  const width = element.clientWidth || 480;
  const narrow = width < 440;
  const named = narrow ? 0 : maps.filter((map) => map.curves[name]).length;
  const height = Math.max(230, Math.min(320, width * 0.55), LABEL * named + 64);
  const margin = {
    left: 34,
    right: narrow ? 16 : Math.min(200, width * 0.36),
    top: 12,
    bottom: 34,
  };
  const right = width - margin.right;
  const bottom = height - margin.bottom;
  const x = (share) => margin.left + share * (right - margin.left);
  const y = (p) => bottom - p * (bottom - margin.top);
  const said = `${name}: probability of the target by share of pixels`;
  const svg = draw("svg", { width, height, role: "img", "aria-label": said });
  drawAxes(svg, name, { left: margin.left, right, bottom, height, x, y });
  const ends = [];
  maps.forEach((map, number) => {
    const curve = map.curves[name];
    if (!curve || curve.some((p) => p === null)) return;
    const points = curve.map(
      (p, k) => `${x(k / (curve.length - 1)).toFixed(1)} ${y(p).toFixed(1)}`,
    );
    svg.append(
      draw(
        "path",
        { d: `M${points.join("L")}`, ...lineStyle(number) },
        draw("title", {}, map.name),
      ),
    );
    ends.push({ map, number, from: y(curve.at(-1)), to: y(curve.at(-1)) });
  });
  element.replaceChildren(svg);
  if (narrow) element.append(curvesLegend(ends));
  else labelEnds(svg, ends, { right, top: margin.top + 4, bottom, room: margin.right - 34 });
}

/** A colour and dashes; a ninth method has the first one's colour, and other dashes. */
function lineStyle(number) {
  const dashes = DASHES[(number + Math.floor(number / 8)) % 8];
  return { class: `cim-curve cim-m${number % 8}`, "stroke-dasharray": dashes };
}

function drawAxes(svg, name, { left, right, bottom, height, x, y }) {
  const text = (place, words) => svg.append(draw("text", { class: "cim-tick", ...place }, words));
  for (const tick of [0, 0.25, 0.5, 0.75, 1]) {
    svg.append(draw("path", { class: "cim-grid", d: `M${left} ${y(tick)}H${right}` }));
    if (tick % 0.5 === 0) text({ x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, String(tick));
    text({ x: x(tick), y: bottom + 15, "text-anchor": "middle" }, `${100 * tick}%`);
  }
  const done = { deletion: "of the pixels deleted", insertion: "of the pixels inserted" }[name];
  const middle = { x: (left + right) / 2, y: height - 4, "text-anchor": "middle" };
  text(middle, done ?? "of the pixels changed");
}

/** Names at the ends of their lines. */
function labelEnds(svg, ends, { right, top, bottom, room }) {
  spreadLabels(ends, top, bottom, LABEL);
  const most = Math.floor(room / 6.4);
  for (const { map, number, from, to } of ends) {
    svg.append(draw("path", { class: "cim-leader", d: `M${right} ${from}L${right + 8} ${to}` }));
    svg.append(draw("path", { d: `M${right + 8} ${to}h20`, ...lineStyle(number) }));
    const short = map.name.length > most ? `${map.name.slice(0, most - 1)}…` : map.name;
    const place = { x: right + 32, y: to + 4, class: "cim-label" };
    svg.append(draw("text", place, short, draw("title", {}, map.name)));
  }
}

/** Names under a drawing that is too narrow to have them inside. */
function curvesLegend(ends) {
  const items = ends.map(({ map, number }) => {
    const sample = draw("svg", { width: 28, height: 8, "aria-hidden": "true" });
    sample.append(draw("path", { d: "M0 4h28", ...lineStyle(number) }));
    return make("li", {}, sample, map.name);
  });
  return make("ul", { class: "cim-legend" }, ...items);
}

/** Push labels apart, in the order of their lines' ends, within the drawing. */
function spreadLabels(ends, top, bottom, step) {
  ends.sort((a, b) => a.from - b.from);
  let free = top;
  for (const end of ends) {
    end.to = Math.max(end.to, free);
    free = end.to + step;
  }
  let floor = bottom;
  for (const end of [...ends].reverse()) {
    end.to = Math.min(end.to, floor);
    floor = end.to - step;
  }
}

function curvesSection(maps) {
  const names = [...new Set(maps.flatMap((map) => Object.keys(map.curves)))];
  const section = make("div", { class: "cim-curves" });
  const drawings = names.map((name) => {
    const area = make("div", { class: "cim-chart" });
    const caption = { deletion: "Deletion", insertion: "Insertion" }[name] ?? name;
    const better = { deletion: "lower is better", insertion: "higher is better" }[name] ?? "";
    const head = make(
      "figcaption",
      {},
      make("b", {}, caption),
      make("span", { class: "cim-soft" }, ` p(target | picture)${better && `, ${better}`}`),
    );
    section.append(make("figure", {}, head, area));
    return () => drawCurves(area, name, maps);
  });
  return { section: names.length ? section : null, redraw: () => drawings.forEach((d) => d()) };
}

// ---- Tables -------------------------------------------------------------------------------------

/** The table of numbers; its heads sort it, best first, then the other way round. */
function numbersTable({ columns, rows, reference }) {
  const heads = [{ name: "Method", better: "", note: "", digits: 0 }, ...columns];
  const keyOf = (row, column) => (column === 0 ? row.name : (row.cells[column - 1]?.value ?? null));
  const best = columns.map((column, k) => {
    const values = rows.map((row) => row.cells[k]?.value ?? null).filter((v) => v !== null);
    if (!column.better || values.length < 2) return null;
    return column.better === "lower" ? Math.min(...values) : Math.max(...values);
  });
  const body = make("tbody");
  const lines = new Map(
    rows.map((row) => [row, tableLine(row, columns, best, row.name === reference)]),
  );
  body.append(...lines.values());
  const cells = heads.map((head, column) => {
    const arrow = { lower: "lower is better", higher: "higher is better" }[head.better] ?? "";
    const button = make(
      "button",
      { type: "button", title: head.note || null },
      make("span", {}, head.name),
      make("i", { class: "cim-sort", "aria-hidden": "true" }),
    );
    const cell = make("th", { scope: "col", "aria-sort": "none" }, button);
    if (arrow) cell.append(make("small", {}, arrow));
    button.addEventListener("click", () => {
      const first = column === 0 || head.better === "lower" ? "ascending" : "descending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = cell.getAttribute("aria-sort") === first ? other : first;
      cells.forEach((each) => each.setAttribute("aria-sort", each === cell ? order : "none"));
      const sign = order === "ascending" ? 1 : -1;
      const sorted = [...rows].sort((a, b) => {
        const [left, right] = [keyOf(a, column), keyOf(b, column)];
        if (left === null || right === null) return (left === null) - (right === null);
        return left < right ? -sign : left > right ? sign : 0;
      });
      body.append(...sorted.map((row) => lines.get(row)));
    });
    return cell;
  });
  const table = make(
    "table",
    { class: "cim-numbers" },
    make("thead", {}, make("tr", {}, ...cells)),
    body,
  );
  return make(
    "div",
    { class: "cim-scroll", tabindex: "0", role: "region", "aria-label": "Measures" },
    table,
  );
}

function tableLine(row, columns, best, isReference) {
  const line = make("tr", {}, make("th", { scope: "row" }, row.name));
  if (isReference) line.firstChild.append(make("small", {}, "differences are to this"));
  if (row.error && row.cells.every((cell) => cell.value === null)) {
    line.append(make("td", { colspan: columns.length, class: "cim-error cim-reason" }, row.error));
    return line;
  }
  if (row.error) line.firstChild.append(make("small", { class: "cim-error" }, row.error));
  columns.forEach((column, k) => {
    const { value = null, difference = null, low = null, high = null } = row.cells[k] ?? {};
    const cell = make("td", {});
    if (value === null) cell.append(make("span", { class: "cim-soft", "aria-label": "none" }, "–"));
    else {
      const top = best[k] !== null && value === best[k];
      cell.append(
        make(top ? "strong" : "span", { title: top ? "best" : null }, write(value, column.digits)),
      );
    }
    if (difference !== null) {
      const sign = difference > 0 ? "+" : "";
      const range =
        low !== null && high !== null
          ? ` (${write(low, column.digits)} to ${write(high, column.digits)})`
          : "";
      cell.append(make("small", {}, `${sign}${write(difference, column.digits)}${range}`));
    }
    line.append(cell);
  });
  return line;
}

function columnNotes(columns) {
  const noted = columns.filter((column) => column.note);
  if (!noted.length) return null;
  const list = make(
    "dl",
    {},
    ...noted.flatMap((c) => [make("dt", {}, c.name), make("dd", {}, c.note)]),
  );
  return make("details", {}, make("summary", {}, "What the columns are"), list);
}

/** A square of numbers: a letter per method, so that it fits a phone. */
function agreementSquare({ title, names, values }) {
  const letter = (k) => (k < 26 ? String.fromCharCode(65 + k) : `M${k + 1}`);
  const heads = names.map((name, k) => make("th", { scope: "col", title: name }, letter(k)));
  const lines = values.map((line, i) => {
    const cells = line.map((value, j) => {
      const said = value === null ? "–" : write(value, 2);
      const cell = make("td", { title: `${names[i]}, ${names[j]}: ${said}` }, said);
      cell.style.setProperty(
        "--strength",
        value === null ? "0%" : `${(45 * Math.abs(value)).toFixed(1)}%`,
      );
      if (value < 0) cell.className = "cim-negative";
      return cell;
    });
    const head = make("th", { scope: "row" }, make("b", {}, letter(i)), ` ${names[i]}`);
    return make("tr", {}, head, ...cells);
  });
  const table = make(
    "table",
    { class: "cim-agreement" },
    make("caption", {}, title),
    make("thead", {}, make("tr", {}, make("td"), ...heads)),
    make("tbody", {}, ...lines),
  );
  return make(
    "div",
    { class: "cim-scroll", tabindex: "0", role: "region", "aria-label": title },
    table,
  );
}

// ---- How it was made ----------------------------------------------------------------------------

function callBlock(call) {
  const code = make("pre", { tabindex: "0" }, make("code", {}, call));
  const said = make("span", { role: "status", class: "cim-soft" });
  const button = make("button", { type: "button", class: "cim-button" }, "Copy");
  button.addEventListener("click", async () => {
    said.textContent = (await copied(code, call)) ? "Copied." : "Selected: press Ctrl or ⌘ and C.";
  });
  return make(
    "div",
    { class: "cim-call" },
    make("h3", {}, "The call that makes this again"),
    code,
    make("p", {}, button, said),
  );
}

/** Copy text; where the browser forbids it, leave it selected. */
async function copied(element, text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const range = document.createRange();
    range.selectNodeContents(element);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    return document.execCommand("copy");
  }
}

function provenanceList(pairs) {
  const list = pairs.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]);
  return make(
    "div",
    {},
    make("h3", {}, "Made with"),
    make("dl", { class: "cim-provenance" }, ...list),
  );
}

// ---- Controls -----------------------------------------------------------------------------------

/** A step of 1, 2 or 5 times a power of ten, about 1/400 of a range. */
function stepFor(range) {
  const power = 10 ** Math.floor(Math.log10(range / 400));
  const lead = range / 400 / power;
  const factor = lead > 5 ? 10 : lead > 2 ? 5 : lead > 1 ? 2 : 1;
  return Number((factor * power).toPrecision(1));
}

/** The class that a map is about, and the one that it is held against: why A, and not B? */
class ClassControl {
  constructor(map, changed) {
    this.map = map;
    this.one = make("select", { class: "cim-class" }, ...this.options());
    this.other = make(
      "select",
      { class: "cim-other-class" },
      make("option", { value: "" }, "no other class"),
      ...this.options(),
    );
    this.words = make("p", { class: "cim-class-words", role: "status" });
    const against = make("label", {}, make("span", {}, "rather than"), this.other);
    for (const select of [this.one, this.other]) {
      select.addEventListener("change", () => {
        this.show();
        changed();
      });
    }
    this.element = make(
      "div",
      { class: "cim-classes" },
      make("label", {}, make("span", {}, "Why"), this.one),
      map.contrasts ? against : null,
      this.words,
    );
    this.show();
  }

  options() {
    const { classes, unit } = this.map;
    const places = placesFor(Math.max(...classes.map(({ total }) => Math.abs(total))));
    return classes.map(({ name, total }, k) =>
      make("option", { value: k }, `${name} (${write(total, places)} ${this.unitOf(unit)})`),
    );
  }

  /** The unit of a whole picture's information: that of the map, where it is no density. */
  unitOf(unit) {
    return unit.split(" ")[0];
  }

  get chosen() {
    return [Number(this.one.value), this.other.value === "" ? null : Number(this.other.value)];
  }

  /** No class is held against itself; and say what the whole picture tells. */
  show() {
    const [one, other] = this.chosen;
    for (const option of this.other.options) option.disabled = option.value === String(one);
    for (const option of this.one.options) option.disabled = option.value === String(other);
    const { classes, unit } = this.map;
    const total = classes[one].total - (other === null ? 0 : classes[other].total);
    const bits = make("b", {}, `${write(total, 2)} ${this.unitOf(unit)}`);
    const about =
      other === null
        ? [" is what the whole picture says about ", make("b", {}, classes[one].name), "."]
        : [
            " is what the whole picture says for ",
            make("b", {}, classes[one].name),
            " and against ",
            make("b", {}, classes[other].name),
            ": the log ratio of their probabilities, less that of their priors. Pink to yellow speaks for the first, blue for the second.",
          ];
    this.words.replaceChildren(bits, ...about);
  }
}

/** The threshold: a rule, a slider, and the same number to type. */
class ThresholdControl {
  constructor(payload, changed) {
    const maps = payload.pictures.flatMap((picture) => picture.maps).filter((map) => map.plane);
    this.units = [...new Set(maps.map((map) => map.unit))];
    const isCounted = this.units.some((unit) => PER_BIT.has(unit));
    const top = payload.largest > 0 ? payload.largest : 1;
    const step = stepFor(top);
    const end = Number((Math.ceil(top / step) * step).toPrecision(12));
    this.rules = {
      [KEPT_FRACTION]: {
        min: 0.005,
        max: 1,
        step: 0.005,
        value: 0.2,
        after: maps.length === 1 ? "of the maximum" : "of each map’s maximum",
      },
      [AT_LEAST]: {
        min: step,
        max: end,
        step,
        value: Number((Math.max(1, Math.round((0.2 * top) / step)) * step).toPrecision(12)),
        after: "bits",
      },
    };
    [this.rule, this.rules[payload.threshold[0]].value] = payload.threshold;
    this.changed = changed;
    const name = `cim-rule-${viewers}`;
    const radio = (rule, text) => {
      const disabled = rule === AT_LEAST && !isCounted;
      const input = make("input", { type: "radio", name, value: rule, disabled });
      input.addEventListener("change", () => this.set(rule, this.rules[rule].value));
      const title = disabled && "No map here is in bits or nats";
      return make("label", { title }, input, make("span", {}, text));
    };
    this.slider = make("input", {
      type: "range",
      class: "cim-threshold",
      "aria-label": "Threshold",
    });
    this.number = make("input", {
      type: "number",
      class: "cim-number",
      "aria-label": "Threshold, as a number",
    });
    this.after = make("span", { class: "cim-soft cim-after" });
    for (const input of [this.slider, this.number]) {
      input.addEventListener("input", () => {
        if (input.checkValidity() && input.value !== "")
          this.set(this.rule, Number(input.value), input);
      });
    }
    this.number.addEventListener("change", () => this.show());
    this.note = make("p", { class: "cim-soft cim-threshold-note" });
    this.element = make(
      "fieldset",
      { class: "cim-control-threshold" },
      make("legend", {}, "Threshold"),
      make(
        "div",
        { class: "cim-fields" },
        make(
          "div",
          { class: "cim-segments" },
          radio(KEPT_FRACTION, "share of maximum"),
          radio(AT_LEAST, "at least so many bits"),
        ),
        make(
          "div",
          { class: "cim-slide" },
          this.slider,
          make("label", {}, this.number, this.after),
        ),
        this.note,
      ),
    );
    this.show();
  }

  get amount() {
    return this.rules[this.rule].value;
  }

  /** The share of the maximum that cuts maps without bits. */
  get share() {
    return this.rules[KEPT_FRACTION].value;
  }

  /** What so many bits mean for maps in other units. */
  get unitsNote() {
    if (this.rule === KEPT_FRACTION) return "";
    const others = this.units.filter((unit) => !PER_BIT.has(unit));
    const parts = this.units.includes("nats") ? ["Nats are converted."] : [];
    if (others.length) {
      const units = others.join(" and in ");
      parts.push(`Maps in ${units} stay cut at ${percent(this.share)} of their maximum.`);
    }
    return parts.join(" ");
  }

  /** Take a value, show it, and tell. */
  set(rule, value, from = null) {
    this.rule = rule;
    this.rules[rule].value = value;
    this.show(from);
    this.changed();
  }

  show(from = null) {
    const { min, max, step, value, after } = this.rules[this.rule];
    Object.assign(this.slider, { min, max, step });
    Object.assign(this.number, { min: 0, max: this.rule === KEPT_FRACTION ? 1 : "", step: "any" });
    if (from !== this.slider) this.slider.value = value;
    if (from !== this.number) this.number.value = value;
    this.after.textContent = after;
    this.note.textContent = this.unitsNote;
    this.note.hidden = !this.unitsNote;
    this.slider.setAttribute("aria-valuetext", `${value} ${after}`);
    for (const radio of this.element.querySelectorAll("input[type=radio]")) {
      radio.checked = radio.value === this.rule;
    }
  }
}

/** How it is drawn: colours, their strength, boxes, the pixels known to be right. */
class DisplayControl {
  constructor(payload, changed) {
    this.tables = payload.colours.map((colours) => ({ ...colours, table: bytesOf(colours.table) }));
    this.colours = make(
      "select",
      {},
      ...payload.colours.map((c, k) => make("option", { value: k }, c.name)),
    );
    this.opacity = make("input", {
      type: "range",
      min: 0,
      max: 1,
      step: 0.05,
      value: payload.opacity,
      class: "cim-opacity",
    });
    this.boxes = make("input", { type: "checkbox", checked: true, class: "cim-boxes" });
    this.truth = make("input", { type: "checkbox", checked: true, class: "cim-truth-box" });
    this.same = make("input", { type: "checkbox", class: "cim-same-scale" });
    const labels = [
      make("label", {}, make("span", {}, "Colours"), this.colours),
      make("label", {}, make("span", {}, "Strength"), this.opacity),
      make("label", { class: "cim-check" }, this.boxes, make("span", {}, "Boxes")),
    ];
    if (payload.pictures.some((picture) => picture.truth)) {
      labels.push(make("label", { class: "cim-check" }, this.truth, make("span", {}, "Truth")));
    }
    if (hasSharedUnit(payload)) {
      const words = "Maps of one unit, of all pictures, share a scale; nats are counted as bits";
      const label = make("span", { title: words }, "Same scale");
      labels.splice(2, 0, make("label", { class: "cim-check" }, this.same, label));
    }
    for (const input of [this.colours, this.opacity, this.boxes, this.truth, this.same]) {
      input.addEventListener("input", changed);
    }
    this.element = make(
      "fieldset",
      { class: "cim-control-display" },
      make("legend", {}, "Display"),
      make("div", { class: "cim-fields" }, ...labels),
    );
  }

  get look() {
    const { signed, overPhoto, table } = this.tables[Number(this.colours.value)];
    const opacity = Number(this.opacity.value);
    return { signed, overPhoto, table, opacity, isShared: this.same.checked };
  }
}

/** Whether several maps, or a map's several classes, can share a scale. */
function hasSharedUnit({ pictures }) {
  const maps = pictures.flatMap((picture) => picture.maps).filter((map) => map.plane);
  const units = maps
    .map((map) => (PER_BIT.has(map.unit) ? "bits" : map.unit))
    .filter((unit) => unit !== ARBITRARY);
  return new Set(units).size < units.length || maps.some((map) => map.classes.length > 1);
}

// ---- Slices of a volume -------------------------------------------------------------------------

/** A picture is shown whole. */
class WholePicture {
  constructor({ height, width }) {
    this.height = height;
    this.width = width;
    this.size = height * width;
    this.keyWords = "";
  }

  get sizeWords() {
    return `${this.width} × ${this.height} pixels`;
  }

  plane(values) {
    return values;
  }

  photo({ data }) {
    return data;
  }

  steps(steps) {
    return steps;
  }

  regions(regions) {
    return regions;
  }

  placeWords({ x, y }) {
    return `x ${x}, y ${y}`;
  }

  shareWords() {
    return "";
  }

  pressed() {
    return false;
  }
}

/** A volume is shown slice by slice, across one of its axes: a slider, and the axis to choose. */
class Slices {
  constructor({ height, width, volume }) {
    this.sizes = [volume.depth, height, width];
    this.size = volume.depth * height * width;
    this.channels = volume.channels;
    this.peak = volume.peak;
    this.names = [volume.isVideo ? "t" : "d", "h", "w"];
    this.one = volume.isVideo ? "frame" : "slice";
    this.whole = volume.isVideo ? "video" : "volume";
    this.axis = 0;
    this.index = this.peak[0];
    this.turned = () => {};
    this.sided = () => {};
    this.keyWords = "Page Up and Page Down turn slices; ";
    this.slider = make("input", {
      type: "range",
      min: 0,
      step: 1,
      class: "cim-slice",
      "aria-label": volume.isVideo ? "Frame" : "Slice",
    });
    this.slider.addEventListener("input", () => this.turn(Number(this.slider.value)));
    this.words = make("span", { class: "cim-slice-words" });
    this.side = make(
      "select",
      { class: "cim-slice-axis" },
      ...this.names.map((name, k) => make("option", { value: k }, name)),
    );
    this.side.addEventListener("change", () => this.takeSide(Number(this.side.value)));
    this.home = make(
      "button",
      { type: "button", class: "cim-button", title: "To the largest magnitude" },
      "Peak",
    );
    this.home.addEventListener("click", () => this.turn(this.peak[this.axis]));
    const across = make("label", {}, make("span", {}, "Across"), this.side);
    this.element = make(
      "fieldset",
      { class: "cim-control-slices" },
      make("legend", {}, volume.isVideo ? "Frame" : "Slice"),
      make(
        "div",
        { class: "cim-fields" },
        make("div", { class: "cim-slide" }, this.slider, this.words),
        this.home,
        volume.isVideo ? null : across,
      ),
    );
    this.show();
  }

  /** The axes of the slice, down and across. */
  get plain() {
    return [0, 1, 2].filter((k) => k !== this.axis);
  }

  get height() {
    return this.sizes[this.plain[0]];
  }

  get width() {
    return this.sizes[this.plain[1]];
  }

  get sizeWords() {
    const [count, height, width] = this.sizes;
    if (this.one === "frame") {
      return `${count} frames of ${height} × ${width} px`;
    }
    return `${count} × ${height} × ${width} voxels`;
  }

  plane(values) {
    return slicePlane(values, this.sizes, this.axis, this.index);
  }

  photo({ data }) {
    const cut = slicePlane(data, this.sizes, this.axis, this.index, this.channels);
    const made = new Uint8ClampedArray(4 * this.height * this.width);
    for (let i = 0; i < made.length / 4; i += 1) {
      for (let k = 0; k < 3; k += 1) {
        made[4 * i + k] = cut[this.channels * i + (this.channels === 3 ? k : 0)];
      }
      made[4 * i + 3] = 255;
    }
    return made;
  }

  steps(steps) {
    return this.plain.map((k) => steps[k]);
  }

  regions(regions) {
    return sliceRegions(regions, this.sizes, this.axis, this.index);
  }

  placeWords({ x, y }) {
    const at = [];
    [at[this.axis], at[this.plain[0]], at[this.plain[1]]] = [this.index, y, x];
    return at.map((place, k) => `${this.names[k]} ${place}`).join(", ");
  }

  shareWords(share) {
    return ` of the ${this.whole}, ${percent(share)} of this ${this.one}`;
  }

  /** Page Up and Page Down, over a picture. */
  pressed(event) {
    const step = { PageUp: -1, PageDown: 1 }[event.key];
    if (step === undefined) return false;
    event.preventDefault();
    this.turn(this.index + step);
    return true;
  }

  turn(index) {
    this.index = Math.max(0, Math.min(this.sizes[this.axis] - 1, index));
    this.show();
    this.turned();
  }

  takeSide(axis) {
    this.axis = axis;
    this.index = this.peak[axis];
    this.show();
    this.sided();
  }

  show() {
    const last = this.sizes[this.axis] - 1;
    this.slider.setAttribute("max", last);
    this.slider.value = this.index;
    // Places are counted from 0, as indices are.
    const words = `${this.names[this.axis]} = ${this.index} (of ${last + 1})`;
    this.words.replaceChildren(words);
    this.slider.setAttribute("aria-valuetext", words);
    this.home.disabled = this.index === this.peak[this.axis];
  }
}

// ---- One picture --------------------------------------------------------------------------------

/** The methods that have no map, and why. */
function failures(maps) {
  return maps
    .filter((map) => !map.plane)
    .map((map) => {
      const name = make("strong", {}, `${map.name} failed. `);
      return make("p", { class: "cim-error cim-failure" }, name, map.error);
    });
}

/** Which maps' colours may be compared. */
function scalesNote(cards, isShared) {
  if (!isShared && cards.length > 1) {
    return "Each map has a colour scale of its own: compare their numbers, not their colours.";
  }
  const units = [...new Set(cards.map((card) => card.map.unit))];
  const parts = units.map((unit) => {
    const limits = [...new Set(cards.filter((c) => c.map.unit === unit).map((c) => c.limit))];
    if (limits.length > 1) return `each map in ${unit} has a colour scale of its own`;
    return `full colour is ${write(limits[0], placesFor(limits[0]))} ${unit}`;
  });
  const words = parts.join("; ");
  return words && `${words[0].toUpperCase()}${words.slice(1)}.`;
}

async function pixelsOf(uri, height, width) {
  const image = new Image();
  image.src = uri;
  await image.decode();
  const canvas = make("canvas", { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0, width, height);
  return { data: context.getImageData(0, 0, width, height).data };
}

/** A photograph as a ground for colours: grey, and never black. */
function paleGrey(data) {
  const grey = new Float32Array(data.length / 4);
  for (let i = 0; i < grey.length; i += 1) {
    grey[i] = 76.5 + 0.7 * ((data[4 * i] + data[4 * i + 1] + data[4 * i + 2]) / 3);
  }
  return grey;
}

/** One picture's photograph, facts and cards. */
class PictureView {
  constructor(data, pixels, planes, threshold, display, cuts) {
    const { height, width } = cuts;
    this.threshold = threshold;
    this.display = display;
    this.data = data;
    this.pixels = pixels;
    this.cuts = cuts;
    const picture = {
      height,
      width,
      cuts,
      photo: Boolean(pixels),
      truthMask: data.truth ? decodeRuns(data.truth, cuts.size) : null,
    };
    this.picture = picture;
    this.takePhoto();
    this.cards = data.maps.flatMap((map, number) =>
      map.plane ? [new Card(map, planes[number], picture, number)] : [],
    );
    this.panels = this.cards.flatMap((card) => Object.values(card.panels));
    this.spot = make("p", { class: "cim-soft cim-spot" });
    this.spoken = make("p", { class: "cim-hidden", role: "status" });
    const facts = data.facts.map(([value, what]) =>
      make("div", {}, make("dt", {}, value), make("dd", {}, what)),
    );
    const source = data.source ? make("p", { class: "cim-soft cim-source" }, data.source) : null;
    const head = make("hgroup", {}, make("h2", {}, data.title), source);
    const side = make("aside", { class: "cim-side" }, head);
    if (pixels) {
      this.photo = new Panel("photo", height, width, `Picture: ${data.title}`);
      this.drawPhoto();
      this.panels.push(this.photo);
      side.append(this.photo.element);
    }
    side.append(this.spot, make("dl", { class: "cim-facts" }, ...facts));
    const grid = make("div", { class: "cim-cards" }, ...this.cards.map((card) => card.element));
    grid.style.setProperty("--methods", this.cards.length);
    if (!pixels) grid.classList.add("cim-no-photo");
    if (this.cards.length < 4) grid.classList.add("cim-few");
    if (this.cards.length === 1) grid.classList.add("cim-one");
    this.curves = curvesSection(data.maps);
    this.scales = make("p", { class: "cim-soft cim-scales" });
    this.enlargement = new Enlargement(this.photo);
    this.main = make(
      "div",
      {},
      grid,
      ...failures(data.maps),
      this.scales,
      this.enlargement.dialog,
    );
    this.side = side;
    side.append(this.spoken);
    this.listen();
    this.look(null);
  }

  /** Take the photograph's pixels, or those of a volume's slice. */
  takePhoto() {
    const { picture, pixels, cuts } = this;
    picture.photoData = pixels ? cuts.photo(pixels) : null;
    picture.ground = pixels ? { photo: picture.photoData, grey: paleGrey(picture.photoData) } : {};
    const truth = picture.truthMask && cuts.plane(picture.truthMask);
    this.truthPath = truth ? outlinePath((i) => truth[i] === 1, cuts.height, cuts.width) : "";
  }

  drawPhoto() {
    const { height, width } = this.cuts;
    const data = new ImageData(this.picture.photoData, width, height);
    this.photo.context.putImageData(data, 0, 0);
  }

  /** Show another slice of the same size. */
  turn() {
    this.takePhoto();
    if (this.photo) this.drawPhoto();
    for (const card of this.cards) card.takeSlice();
    this.draw();
    this.look(this.at);
  }

  listen() {
    for (const card of this.cards) {
      const { overlay } = card.panels;
      const label = `Attribution by ${card.map.name}. Enter enlarges it, arrow keys read it`;
      overlay.onPress(label, (kind) => this.enlargement.press(card, kind));
      overlay.element.addEventListener("keydown", (event) => this.step(event));
      card.changed = () => {
        card.takeClass();
        this.draw();
        this.look(this.at);
      };
    }
    for (const panel of this.panels) {
      const { element } = panel;
      element.addEventListener("pointermove", (event) =>
        this.look(this.pixelUnder(event, element)),
      );
      element.addEventListener("pointerdown", (event) =>
        this.look(this.pixelUnder(event, element)),
      );
      element.addEventListener("pointerleave", (event) => {
        if (event.pointerType === "mouse") this.look(null);
      });
    }
    if (!this.photo) return;
    const { element } = this.photo;
    element.setAttribute("tabindex", "0");
    element.setAttribute("role", "application");
    element.setAttribute(
      "aria-label",
      `Picture. Arrow keys move over it and read what every method says there; with Shift by one pixel; ${this.cuts.keyWords}Escape leaves.`,
    );
    element.addEventListener("keydown", (event) => this.step(event));
  }

  pixelUnder(event, element) {
    const { left, top, width, height } = element.getBoundingClientRect();
    const inside = (share, size) => Math.max(0, Math.min(size - 1, Math.floor(share * size)));
    return {
      x: inside((event.clientX - left) / width, this.cuts.width),
      y: inside((event.clientY - top) / height, this.cuts.height),
    };
  }

  step(event) {
    const { width, height } = this.cuts;
    if (this.cuts.pressed(event)) return;
    const [dx, dy] = {
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
      ArrowUp: [0, -1],
      ArrowDown: [0, 1],
    }[event.key] ?? [0, 0];
    if (event.key === "Escape") this.look(null);
    if (!dx && !dy) return;
    event.preventDefault();
    const stride = event.shiftKey ? 1 : Math.max(1, Math.round(Math.max(width, height) / 32));
    const from = this.at ?? {
      x: Math.floor(width / 2) - dx * stride,
      y: Math.floor(height / 2) - dy * stride,
    };
    const at = {
      x: Math.max(0, Math.min(width - 1, from.x + dx * stride)),
      y: Math.max(0, Math.min(height - 1, from.y + dy * stride)),
    };
    this.spoken.textContent = `${this.cuts.placeWords(at)}: ${this.look(at).join("; ")}`;
  }

  /** Show what every method says at a place. */
  look(at) {
    this.at = at;
    const said = this.cards.map((card) => card.look(at));
    this.photo?.mark("place", at ? `M${at.x + 0.5} ${at.y + 0.5}h0` : "");
    this.spot.textContent = at ? this.cuts.placeWords(at) : this.cuts.sizeWords;
    return said;
  }

  drawMasks() {
    for (const card of this.cards) card.drawMask(this.threshold, this.display.boxes.checked);
  }

  draw() {
    const look = this.display.look;
    for (const card of this.cards) card.drawColours(look);
    this.scales.textContent = scalesNote(this.cards, look.isShared);
    const outline = this.display.truth.checked ? this.truthPath : "";
    for (const panel of this.panels) panel.mark("truth", outline);
    this.drawMasks();
  }
}

// ---- The whole ----------------------------------------------------------------------------------

/** A map's planes: one, or one for each class that can be chosen. */
function planesOf({ maps, height, width, volume }) {
  const rows = height * (volume?.depth ?? 1);
  const every = maps.map(({ plane, classes }) => [
    plane,
    ...classes.slice(1).map((each) => each.plane),
  ]);
  const read = (planes) => Promise.all(planes.map((plane) => decodePlane(plane, rows, width)));
  return Promise.all(every.map((planes) => (planes[0] ? read(planes) : null)));
}

async function photoOf({ photo, height, width, volume }) {
  if (!volume) return photo ? pixelsOf(photo, height, width) : null;
  if (!volume.channels) return null;
  const count = volume.depth * height * width * volume.channels;
  return { data: Uint8ClampedArray.from(await unpacked(volume.values, count)) };
}

/** Every so many values of a picture, so that its longer side is a thumbnail's. */
function thinned(values, height, width, small) {
  const made = new Float32Array(small.height * small.width);
  for (let y = 0; y < small.height; y += 1) {
    const row = Math.floor(((y + 0.5) * height) / small.height) * width;
    for (let x = 0; x < small.width; x += 1) {
      made[y * small.width + x] = values[row + Math.floor(((x + 0.5) * width) / small.width)];
    }
  }
  return made;
}

/** A small photograph as a ground: its own colours, and grey. */
function smallGround(data, height, width, small) {
  const photo = new Uint8ClampedArray(4 * small.height * small.width);
  for (let channel = 0; channel < 3; channel += 1) {
    const plane = Float32Array.from({ length: data.length / 4 }, (_, i) => data[4 * i + channel]);
    thinned(plane, height, width, small).forEach((value, i) => (photo[4 * i + channel] = value));
  }
  return { photo, grey: paleGrey(photo) };
}

/** A small picture under its map, for pictures that have one map each. */
class Thumbnail {
  constructor(picture) {
    const { height, width } = picture;
    const factor = Math.min(1, THUMBNAIL / Math.max(height, width));
    this.small = {
      height: Math.max(1, Math.round(height * factor)),
      width: Math.max(1, Math.round(width * factor)),
    };
    this.picture = picture;
    this.element = make("canvas", { ...this.small, "aria-hidden": "true" });
    this.context = this.element.getContext("2d", { willReadFrequently: true });
    this.ground = {};
  }

  async read() {
    const { height, width, maps } = this.picture;
    const pixels = await photoOf(this.picture);
    const [planes] = await planesOf(this.picture);
    if (pixels) this.ground = smallGround(pixels.data, height, width, this.small);
    if (!planes) return;
    this.own = magnitude(planes[0]);
    const shown = shownPlane(planes[0], height, width, maps[0].steps);
    this.plane = thinned(shown, height, width, this.small);
  }

  draw(look) {
    if (!this.plane) return;
    const limit = look.isShared ? this.picture.maps[0].limit : this.own;
    paintOverlay(this.context, this.plane, limit, this.ground, look);
  }
}

/** The pictures to choose from; arrow keys go from one to the next. */
class PictureStrip {
  constructor(pictures, choose) {
    this.choose = choose;
    const isOfMaps = pictures.every(({ maps }) => maps.length === 1);
    this.thumbnails = isOfMaps ? pictures.map((picture) => new Thumbnail(picture)) : [];
    this.buttons = pictures.map((picture, k) => {
      const button = make("button", { type: "button" });
      if (isOfMaps) button.append(this.thumbnails[k].element);
      else if (picture.photo) button.append(make("img", { src: picture.photo, alt: "" }));
      const words = make("span", {}, picture.title);
      if (picture.source) words.append(make("small", {}, picture.source));
      button.append(words);
      button.addEventListener("click", () => this.take(k));
      button.addEventListener("keydown", (event) => this.step(event, k));
      return button;
    });
    const groups = [...new Set(pictures.map((picture) => picture.group))];
    const rows = groups.map((group) => {
      const own = this.buttons.filter((button, k) => pictures[k].group === group);
      const kind = isOfMaps ? "cim-pictures cim-strip-of-maps" : "cim-pictures";
      const row = make("div", { class: kind }, ...own);
      if (!group) return row;
      const head = make("h3", {}, group);
      return make("section", { class: "cim-group", "aria-label": group }, head, row);
    });
    const label = "Pictures; arrow keys go from one to the next";
    this.element = make("nav", { class: "cim-chooser", "aria-label": label }, ...rows);
    this.show(0);
  }

  show(k) {
    this.buttons.forEach((button, place) => {
      button.setAttribute("aria-pressed", String(place === k));
      button.setAttribute("tabindex", place === k ? "0" : "-1");
    });
  }

  take(k) {
    this.show(k);
    this.choose(k);
  }

  step(event, k) {
    const last = this.buttons.length - 1;
    const steps = { ArrowLeft: k - 1, ArrowUp: k - 1, ArrowRight: k + 1, ArrowDown: k + 1 };
    const to = { ...steps, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    if (to < 0 || to > last) return;
    this.buttons[to].focus();
    this.take(to);
  }

  async read() {
    for (const thumbnail of this.thumbnails) await thumbnail.read();
  }

  draw(look) {
    for (const thumbnail of this.thumbnails) thumbnail.draw(look);
  }
}

/**
 * Show a payload in an element.
 *
 * @param element Where; what it holds is replaced.
 * @param payload What report/payload.py makes of a page's content.
 * @param onThreshold Called with [rule, value] when somebody moves the threshold.
 * @returns ready: a promise; setThreshold([rule, value]); destroy().
 */
export function mount(element, payload, { onThreshold = () => {} } = {}) {
  viewers += 1;
  let view = null;
  let alive = true;
  const waiting = new Set();
  const soon = (redraw) => {
    if (!waiting.size) {
      requestAnimationFrame(() => {
        const redraws = [...waiting];
        waiting.clear();
        if (alive && view) redraws.forEach((each) => each());
      });
    }
    waiting.add(redraw);
  };
  const drawMasks = () => view.drawMasks();
  const drawAll = () => {
    view.draw();
    strip?.draw(display.look);
  };
  const turnSlice = () => view.turn();
  const drawCharts = () => view.curves.redraw();
  const threshold = new ThresholdControl(payload, () => {
    soon(drawMasks);
    onThreshold([threshold.rule, threshold.amount]);
  });
  const display = new DisplayControl(payload, () => soon(drawAll));
  const side = make("div", { class: "cim-side-place" });
  const main = make("div", { class: "cim-main" });
  const curves = make("section", { class: "cim-section cim-curves-place" });
  let turn = 0;
  const slices = make("div", { class: "cim-slices-place" });
  const choose = async (k) => {
    turn += 1;
    const mine = turn;
    const data = payload.pictures[k];
    const [pixels, planes] = await Promise.all([photoOf(data), planesOf(data)]);
    if (!alive || mine !== turn) return; // another picture was chosen meanwhile
    const show = (cuts) => {
      view = new PictureView(data, pixels, planes, threshold, display, cuts);
      side.replaceChildren(view.side);
      main.replaceChildren(view.main);
    };
    const volume = data.volume && new Slices(data);
    if (volume) {
      volume.turned = () => soon(turnSlice);
      volume.sided = () => {
        show(volume);
        view.draw();
      };
    }
    slices.replaceChildren(...(volume ? [volume.element] : []));
    show(volume ?? new WholePicture(data));
    curves.hidden = !view.curves.section;
    if (view.curves.section) {
      curves.replaceChildren(make("h2", {}, "Deletion and insertion"), view.curves.section);
    }
    view.draw();
    view.curves.redraw();
  };
  const strip = payload.pictures.length > 1 ? new PictureStrip(payload.pictures, choose) : null;
  // One picture may have the page's own heading.
  const { pictures, title } = payload;
  const isHeaded = pictures.length === 1 && pictures[0].title === title;
  const root = make(
    "div",
    { class: isHeaded ? "cim cim-headed" : "cim" },
    strip && strip.element,
    make(
      "section",
      { class: "cim-bench", "aria-label": "Attributions" },
      side,
      make(
        "div",
        { class: "cim-right" },
        make("form", { class: "cim-controls" }, slices, threshold.element, display.element),
        main,
      ),
    ),
    curves,
    ...closingSections(payload),
  );
  // JupyterLab would take our keys for its own, such as Enter and the arrows.
  root.addEventListener("focusin", ({ target }) => {
    target.setAttribute("data-lm-suppress-shortcuts", "true");
  });
  root.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  element.replaceChildren(root);
  const resized = new ResizeObserver(() => soon(drawCharts));
  resized.observe(curves);
  const start = async () => {
    if (typeof DecompressionStream === "undefined") {
      const words = "The maps need a browser that can unpack them: one from 2023 or later.";
      main.replaceChildren(make("p", { class: "cim-error" }, words));
      return;
    }
    await choose(0);
    await strip?.read();
    if (alive) strip?.draw(display.look);
  };
  return {
    ready: start(),
    setThreshold([rule, value]) {
      if (rule !== threshold.rule || value !== threshold.amount) threshold.set(rule, value);
    },
    destroy() {
      alive = false;
      resized.disconnect();
      element.replaceChildren();
    },
  };
}

/** What does not change with the threshold: the table, agreement, notes, how it was made. */
function closingSections(payload) {
  const sections = [];
  const add = (title, ...parts) => {
    const kept = parts.filter((part) => part !== null);
    if (kept.length)
      sections.push(make("section", { class: "cim-section" }, make("h2", {}, title), ...kept));
  };
  if (payload.rows.length) add("Measures", numbersTable(payload), columnNotes(payload.columns));
  if (payload.agreement.length) {
    add(
      "Agreement",
      make("div", { class: "cim-squares" }, ...payload.agreement.map(agreementSquare)),
    );
  }
  if (payload.notes.length)
    add("Notes", ...payload.notes.map((note) => make("p", { class: "cim-note" }, note)));
  const made = [
    payload.call ? callBlock(payload.call) : null,
    payload.provenance.length ? provenanceList(payload.provenance) : null,
  ].filter((part) => part !== null);
  if (made.length) add("How it was made", make("div", { class: "cim-made" }, ...made));
  return sections;
}

function render({ model, el }) {
  const viewer = mount(el, model.get("payload"), {
    onThreshold: (threshold) => {
      model.set("threshold", threshold);
      model.save_changes();
    },
  });
  const follow = () => viewer.setThreshold(model.get("threshold"));
  model.on("change:threshold", follow);
  follow();
  return () => {
    model.off("change:threshold", follow);
    viewer.destroy();
  };
}

export default { render };
