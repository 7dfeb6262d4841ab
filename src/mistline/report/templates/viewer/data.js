// What lies in the page: one element of text a block, decoded when it is needed; cells are typed arrays.
const host = document.getElementById("tissue");
const about = JSON.parse(document.getElementById("viewer-about").textContent);
for (const slide of about.slides) for (const column of slide.columns) Object.assign(column, about.palettes[column.palette]);
const part = (name) => host.querySelector(`[data-part="${name}"]`);
const canvas = part("canvas"), ctx = canvas.getContext("2d", { alpha: false });
const dots = document.createElement("canvas"), ink = dots.getContext("2d");
const GROUND = "#0b0d10", UNKNOWN = [96, 104, 118], TILE = 512, LISTED = 40;

const text = (number) => document.getElementById(`viewer-${number}`).textContent;
const bytes = (number) => {
  const raw = atob(text(number)), out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
  return out;
};
const inflate = async (number) => {
  const stream = new Blob([bytes(number)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
};
const codes = async (number, size) => {
  const raw = await inflate(number);
  if (size === 1) return raw;
  const n = raw.length / 2, out = new Uint16Array(n);
  for (let i = 0; i < n; i++) out[i] = raw[i] | (raw[n + i] << 8);
  return out;
};
const pictures = new Map();
const picture = (number) => {
  if (!pictures.has(number)) {
    const image = new Image();
    const loaded = new Promise((done, failed) => { image.onload = () => done(image); image.onerror = failed; });
    image.src = `data:image/webp;base64,${text(number)}`;
    pictures.set(number, { image, loaded });
  }
  return pictures.get(number);
};

class Slide {
  constructor(entry) {
    this.entry = entry;
    this.kept = new Map();
  }
  once(key, make) {
    if (!this.kept.has(key)) this.kept.set(key, make());
    return this.kept.get(key);
  }
  open() { return this.once("open", () => this.place()); }
  ids() { return this.once("ids", async () => new TextDecoder().decode(await inflate(this.entry.ids)).split("\0")); }
  column(number) {
    const { block, bytes: size } = this.entry.columns[number];
    return this.once(`column ${number}`, () => codes(block, size));
  }
  sd(number) {
    const { sd } = this.entry.columns[number];
    return this.once(`sd ${number}`, async () => sd ? codes(sd.block, sd.bytes) : null);
  }
  spreads() { return Promise.all(this.entry.columns.map((_, number) => this.sd(number))); }
  squares() { return this.once("squares", () => codes(this.entry.squares.block, this.entry.squares.bytes)); }
  all() { return Promise.all([this.ids(), ...this.entry.columns.map((_, number) => this.column(number))]); }
  async place() {
    const { n, xy } = this.entry, found = await codes(xy.block, 2);
    this.x = new Float64Array(n);
    this.y = new Float64Array(n);
    for (let i = 0; i < n; i++) {
      this.x[i] = xy.low[0] + found[i] * xy.step[0];
      this.y[i] = xy.low[1] + found[n + i] * xy.step[1];
    }
    this.bin();
  }
  bin() {
    // Cells sorted by the square of a coarse grid they lie in, so that the nearest one is found at once.
    const { n, world_um: [left, top, right, bottom], radius_um: radius } = this.entry;
    const side = Math.max(2 * radius, (right - left) / 400, (bottom - top) / 400);
    const columns = Math.max(1, Math.ceil((right - left) / side)), rows = Math.max(1, Math.ceil((bottom - top) / side));
    const clip = (value, most) => Math.max(0, Math.min(most - 1, Math.floor(value)));
    this.bins = { left, top, side, columns, rows, clip, start: new Uint32Array(columns * rows + 1), order: new Uint32Array(n) };
    const of = new Uint32Array(n), { start, order } = this.bins;
    for (let i = 0; i < n; i++) {
      of[i] = clip((this.y[i] - top) / side, rows) * columns + clip((this.x[i] - left) / side, columns);
      start[of[i] + 1]++;
    }
    for (let bin = 0; bin < columns * rows; bin++) start[bin + 1] += start[bin];
    const next = start.slice();
    for (let i = 0; i < n; i++) order[next[of[i]]++] = i;
  }
  nearest(x, y, within, wanted) {
    const { left, top, side, columns, rows, clip, start, order } = this.bins;
    let best = -1, least = within * within;
    const low = clip((x - within - left) / side, columns), high = clip((x + within - left) / side, columns);
    for (let row = clip((y - within - top) / side, rows); row <= clip((y + within - top) / side, rows); row++) {
      for (let slot = start[row * columns + low]; slot < start[row * columns + high + 1]; slot++) {
        const i = order[slot], distance = (this.x[i] - x) ** 2 + (this.y[i] - y) ** 2;
        if (distance <= least && wanted(i)) { best = i; least = distance; }
      }
    }
    return best;
  }
  async square(i) {
    // The pixel of a cell is computed here as it was when the page was made, so that the corner is exact.
    const { n, squares: { low, um_per_px: um } } = this.entry, found = await this.squares();
    return {
      row: Math.floor(this.y[i] / um) + low[0] + found[i],
      column: Math.floor(this.x[i] / um) + low[1] + found[n + i],
      side: low[2] + found[2 * n + i],
      um,
    };
  }
}
const slides = about.slides.map((entry) => new Slide(entry));
