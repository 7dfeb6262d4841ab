// The cell that is looked at: its crop and its values.
const shownValue = (column, code, spread) => {
  if (code === 0) return "no value";
  if (column.imputed) return `mean ${value(column, code).toFixed(2)}, ${spread ? `sd ${value(column.sd, spread).toFixed(2)}` : "no sd"}`;
  if (column.names) return column.names[code - 1];
  const number = value(column, code);
  return column.step === 1 ? number.toLocaleString("en") : Number(number.toPrecision(4)).toLocaleString("en", { maximumSignificantDigits: 4 });
};
const cut = async (layer, { row, column, side, um }) => {
  const level = layer.levels.at(-1), factor = level.um_per_px / um, out = document.createElement("canvas");
  const columns = Math.ceil(level.width / TILE), pen = out.getContext("2d");
  out.width = out.height = Math.max(1, Math.round(side / factor));
  pen.fillRect(0, 0, out.width, out.height);
  for (const [tile, number] of level.tiles.entries()) {
    const x = (tile % columns) * TILE - column / factor, y = Math.floor(tile / columns) * TILE - row / factor;
    if (x > out.width || y > out.height || x + TILE < 0 || y + TILE < 0) continue;
    pen.drawImage(await picture(number).loaded, x, y);
  }
  return [out, `cut from the picture, ${Number(level.um_per_px.toPrecision(3))} µm a pixel`];
};
const crop = async (slide, i) => {
  const { crops, layers, squares } = slide.entry, layer = state.layer ?? layers.find((one) => one.levels.length);
  const place = crops?.places[i], square = squares && (await slide.square(i));
  if (place && (!layer || layer === layers[0])) {
    const [x, y, side] = place, out = document.createElement("canvas");
    out.width = out.height = side;
    out.getContext("2d").drawImage(await picture(crops.block).loaded, x, y, side, side, 0, 0, side, side);
    return { image: out, how: "as stored", side_um: square ? square.side * square.um : crops.side_um };
  }
  if (!layer || !square) return null;
  const [image, how] = await cut(layer, square);
  return { image, how, side_um: square.side * square.um };
};
const describe = async (i, announce) => {
  const slide = state.slide, turn = ++cell.turn;
  cell.shown = i;
  ask();
  const [[ids, ...columns], spreads, found] = await Promise.all([slide.all(), slide.spreads(), crop(slide, i)]);
  if (turn !== cell.turn) return;
  part("none").hidden = true;
  part("card").hidden = false;
  part("id").textContent = ids[i];
  const to = part("crop"), pen = to.getContext("2d");
  to.hidden = part("side").hidden = !found;
  if (found) {
    to.width = to.height = found.image.width;
    pen.drawImage(found.image, 0, 0);
    part("side").textContent = `${found.side_um.toFixed(1)} µm wide, ${found.how}`;
  }
  to.dataset.cell = ids[i];
  to.dataset.how = found?.how ?? "";
  const rows = [["x, y (µm)", `${slide.x[i].toFixed(1)}, ${slide.y[i].toFixed(1)}`]];
  slide.entry.columns.forEach((column, number) => {
    const code = columns[number][i];
    if (code || column.group !== "Predictions") rows.push([column.title, shownValue(column, code, spreads[number]?.[i])]); // most predict few cells
  });
  part("values").replaceChildren(...rows.flatMap(([name, said]) => {
    const [term, definition] = [document.createElement("dt"), document.createElement("dd")];
    term.textContent = name;
    definition.textContent = said;
    return [term, definition];
  }));
  const now = slide.entry.columns[state.column];
  if (announce) part("status").textContent = `cell ${ids[i]}, ${now.title}: ${shownValue(now, state.codes[i], spreads[state.column]?.[i])}`;
};
const forget = () => {
  cell.turn++;
  cell.shown = -1;
  cell.pinned = false;
  part("card").hidden = true;
  part("none").hidden = false;
  ask();
};
const under = (x, y) => {
  const reach = Math.max(radius() / view.ratio + 2, 7) / view.scale;
  return state.codes ? state.slide.nearest(...toTissue(x, y), reach, (i) => state.table[state.codes[i]] !== 0) : -1;
};
