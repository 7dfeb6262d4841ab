// What is looked at, and how it is drawn: pixel by pixel, so that there is no element of the page per cell.
const state = { slide: slides[0], column: 0, codes: null, layer: null, hidden: new Set(), table: null };
const view = { x: 0, y: 0, scale: 1, fit: 1, ratio: 1 }; // centre in µm; CSS pixels a µm
const cell = { shown: -1, pinned: false, turn: 0 };
const size = () => [canvas.clientWidth, canvas.clientHeight];
const toScreen = (x, y) => {
  const [width, height] = size();
  return [(x - view.x) * view.scale + width / 2, (y - view.y) * view.scale + height / 2];
};
const toTissue = (x, y) => {
  const [width, height] = size();
  return [(x - width / 2) / view.scale + view.x, (y - height / 2) / view.scale + view.y];
};
const limits = () => {
  const { squares, radius_um: radius } = state.slide.entry;
  return [view.fit * 0.5, Math.max(view.fit * 2, squares ? 10 / squares.um_per_px : 60 / radius)];
};
const settle = () => {
  const [low, high] = limits(), [left, top, right, bottom] = state.slide.entry.world_um;
  view.scale = Math.max(low, Math.min(high, view.scale));
  view.x = Math.max(left, Math.min(right, view.x));
  view.y = Math.max(top, Math.min(bottom, view.y));
  ask();
};
const fit = () => {
  const [left, top, right, bottom] = state.slide.entry.world_um, [width, height] = size();
  view.fit = view.scale = 0.97 * Math.min(width / (right - left), height / (bottom - top));
  view.x = (left + right) / 2;
  view.y = (top + bottom) / 2;
  settle();
};
const zoom = (factor, x = size()[0] / 2, y = size()[1] / 2) => {
  const [before_x, before_y] = toTissue(x, y), [low, high] = limits();
  view.scale = Math.max(low, Math.min(high, view.scale * factor));
  const [after_x, after_y] = toTissue(x, y);
  view.x += before_x - after_x;
  view.y += before_y - after_y;
  settle();
};
const pan = (x, y) => { view.x += x / view.scale; view.y += y / view.scale; settle(); };

let asked = 0;
const ask = () => { asked ||= requestAnimationFrame(() => { asked = 0; draw(); }); };
const opaque = ([red, green, blue]) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
const hex = (colour) => [1, 3, 5].map((place) => parseInt(colour.slice(place, place + 2), 16));
const ramp = (share) => {
  const place = Math.max(0, Math.min(1, share)) * (about.ramp.length - 1), low = Math.floor(place);
  const from = about.ramp[low], to = about.ramp[Math.min(low + 1, about.ramp.length - 1)];
  return from.map((value, channel) => Math.round(value + (to[channel] - value) * (place - low)));
};
const value = (column, code) => column.low + (code - 1) * column.step;
const table = () => {
  // Code -> colour; 0 is not drawn.
  const column = state.slide.entry.columns[state.column];
  if (column.names) {
    const found = new Uint32Array(column.names.length + 1);
    column.colours.forEach((colour, number) => { found[number + 1] = opaque(hex(colour)); });
    found[0] = opaque(UNKNOWN);
    for (const code of state.hidden) found[code] = 0;
    return found;
  }
  const [low, high] = column.range, found = new Uint32Array(column.bytes === 1 ? 256 : 65536);
  for (let code = 1; code < found.length; code++) found[code] = opaque(ramp((value(column, code) - low) / (high - low)));
  found[0] = opaque(UNKNOWN);
  return found;
};
const disc = (radius, stride) => {
  const reach = Math.ceil(radius), offset = [], alpha = [];
  for (let y = -reach; y <= reach; y++) {
    for (let x = -reach; x <= reach; x++) {
      const cover = Math.min(1, radius + 0.5 - Math.hypot(x, y));
      if (cover > 0.05) { offset.push(y * stride + x); alpha.push(Math.round(cover * 255)); }
    }
  }
  return { reach, offset: Int32Array.from(offset), alpha: Uint8Array.from(alpha) };
};
const radius = () => {
  const wanted = state.slide.entry.radius_um * view.scale * Number(part("size").value);
  return Math.max(0.8, Math.min(16, wanted)) * view.ratio;
};
const stamp = (pixels, stride, height, mask, unknown) => {
  const { slide: { x, y }, codes: found, table: colours } = state, k = view.scale * view.ratio, edge = mask.reach;
  const left = view.x - (stride / 2) / k, top = view.y - (height / 2) / k, { offset, alpha } = mask;
  for (let i = 0; i < x.length; i++) {
    if ((found[i] === 0) !== unknown) continue;
    const column = Math.round((x[i] - left) * k), row = Math.round((y[i] - top) * k);
    const colour = colours[found[i]];
    if (!colour || column < edge || row < edge || column >= stride - edge || row >= height - edge) continue;
    const middle = row * stride + column;
    for (let j = 0; j < offset.length; j++) {
      const at = middle + offset[j];
      if (alpha[j] === 255) pixels[at] = colour;
      else if (pixels[at] === 0) pixels[at] = ((colour & 0xffffff) | (alpha[j] << 24)) >>> 0;
    }
  }
};
const drawDots = () => {
  // The sheet is larger than the canvas by a dot on each side, so that dots at its edge need no clipping.
  const reach = Math.ceil(radius()), width = canvas.width + 4 * reach, height = canvas.height + 4 * reach;
  const mask = disc(radius(), width), sheet = ink.createImageData(width, height);
  const pixels = new Uint32Array(sheet.data.buffer);
  stamp(pixels, width, height, mask, true);
  stamp(pixels, width, height, mask, false);
  dots.width = width;
  dots.height = height;
  ink.putImageData(sheet, 0, 0);
  ctx.globalAlpha = Number(part("opacity").value);
  ctx.drawImage(dots, -2 * reach, -2 * reach);
  ctx.globalAlpha = 1;
};
const drawLevel = (level) => {
  const k = view.scale * view.ratio * level.um_per_px, columns = Math.ceil(level.width / TILE);
  const left = canvas.width / 2 - view.x * view.scale * view.ratio, top = canvas.height / 2 - view.y * view.scale * view.ratio;
  ctx.imageSmoothingEnabled = k < 4;
  level.tiles.forEach((number, tile) => {
    const x = (tile % columns) * TILE, y = Math.floor(tile / columns) * TILE;
    const width = Math.min(TILE, level.width - x), height = Math.min(TILE, level.height - y);
    const from = [Math.round(left + x * k), Math.round(top + y * k)];
    const to = [Math.round(left + (x + width) * k), Math.round(top + (y + height) * k)];
    if (to[0] < 0 || to[1] < 0 || from[0] > canvas.width || from[1] > canvas.height) return;
    const { image, loaded } = picture(number);
    if (image.complete && image.naturalWidth) ctx.drawImage(image, ...from, to[0] - from[0], to[1] - from[1]);
    else loaded.then(ask);
  });
};
const drawLayer = () => {
  const { levels } = state.layer, finest = 1 / (view.scale * view.ratio);
  const found = levels.findIndex((level) => level.um_per_px <= finest);
  if (found !== 0) drawLevel(levels[0]); // something at once, while finer tiles are decoded
  drawLevel(levels[found < 0 ? levels.length - 1 : found]);
};
const drawScale = () => {
  const most = 0.25 * canvas.clientWidth / view.scale, power = 10 ** Math.floor(Math.log10(most));
  const length = [5, 2, 1].map((step) => step * power).find((step) => step <= most), [, height] = size();
  ctx.save();
  ctx.scale(view.ratio, view.ratio);
  ctx.font = "600 13px system-ui, sans-serif";
  const label = length >= 1000 ? `${length / 1000} mm` : `${Number(length.toPrecision(3))} µm`;
  ctx.fillStyle = "#000a";
  ctx.fillRect(10, height - 40, Math.max(length * view.scale, ctx.measureText(label).width) + 16, 30);
  ctx.fillStyle = "#fff";
  ctx.fillRect(18, height - 18, length * view.scale, 3);
  ctx.fillText(label, 18, height - 23);
  ctx.restore();
};
const drawMarks = () => {
  ctx.save();
  ctx.scale(view.ratio, view.ratio);
  const stroke = (width) => { // white within black, to be seen on any ground
    ctx.lineWidth = width + 2;
    ctx.strokeStyle = "#000";
    ctx.stroke();
    ctx.lineWidth = width;
    ctx.strokeStyle = "#fff";
    ctx.stroke();
  };
  if (cell.shown >= 0) {
    const [x, y] = toScreen(state.slide.x[cell.shown], state.slide.y[cell.shown]);
    ctx.beginPath();
    ctx.arc(x, y, radius() / view.ratio + 4, 0, 7);
    stroke(2);
  }
  if (canvas.matches(":focus-visible")) {
    const [width, height] = size();
    ctx.beginPath();
    for (const [x, y] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      ctx.moveTo(width / 2 + 6 * x, height / 2 + 6 * y);
      ctx.lineTo(width / 2 + 16 * x, height / 2 + 16 * y);
    }
    stroke(1);
  }
  ctx.restore();
};
const draw = () => {
  ctx.fillStyle = GROUND;
  ctx.fillRect(0, 0, canvas.width, canvas.height);
  if (!state.codes) return;
  if (state.layer) drawLayer();
  drawDots();
  drawScale();
  drawMarks();
};
