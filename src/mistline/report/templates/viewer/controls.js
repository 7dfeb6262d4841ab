// Controls, mouse, touch and keyboard.
const options = (select, names, groups) => {
  select.replaceChildren();
  names.forEach((name, number) => {
    const option = new Option(name, number), group = groups?.[number];
    let parent = select;
    if (group) {
      parent = [...select.children].find((item) => item.label === group) ?? select.appendChild(document.createElement("optgroup"));
      parent.label = group;
    }
    parent.append(option);
  });
};
const legend = () => {
  const column = state.slide.entry.columns[state.column], counts = new Map();
  for (const code of state.codes) counts.set(code, (counts.get(code) ?? 0) + 1);
  const items = [];
  const item = (code, name, colour) => {
    const button = document.createElement("button"), chip = document.createElement("i"), line = document.createElement("li");
    button.type = "button";
    chip.style.background = colour;
    button.append(chip, `${name} (${counts.get(code).toLocaleString("en")})`);
    button.setAttribute("aria-pressed", String(!state.hidden.has(code)));
    button.addEventListener("click", () => {
      if (!state.hidden.delete(code)) state.hidden.add(code);
      button.setAttribute("aria-pressed", String(!state.hidden.has(code)));
      state.table = table();
      ask();
    });
    line.append(button);
    items.push(line);
  };
  part("bar").hidden = Boolean(column.names);
  part("imputed").hidden = !column.imputed;
  part("imputed").textContent = `Imputed by ${column.imputed}: no slide measured this gene. Colour is the mean, log-normalised.`;
  if (column.names) {
    const there = column.names.map((_, number) => number + 1).filter((code) => counts.has(code));
    const most = new Set([...there].sort((a, b) => counts.get(b) - counts.get(a)).slice(0, LISTED));
    for (const code of there) if (most.has(code)) item(code, column.names[code - 1], column.colours[code - 1]);
    if (counts.has(0)) item(0, "no value", `rgb(${UNKNOWN})`);
    if (there.length > LISTED) items.push(Object.assign(document.createElement("li"), { textContent: `and ${there.length - LISTED} more` }));
  } else {
    const stops = about.ramp.map((colour) => `rgb(${colour})`), [low, high] = column.range;
    part("ramp").style.background = `linear-gradient(90deg, ${stops})`;
    part("low").textContent = Number(low.toPrecision(3));
    part("high").textContent = `≥ ${Number(high.toPrecision(3))}`;
  }
  part("legend").replaceChildren(...items);
};
const colour = async (number) => {
  const slide = state.slide, found = await slide.column(number);
  if (slide !== state.slide) return;
  state.column = number;
  state.codes = found;
  state.hidden.clear();
  state.table = table();
  legend();
  ask();
};
const image = (number) => { state.layer = state.slide.entry.layers[number] ?? null; ask(); };
const open = async (number) => {
  const slide = slides[number], { entry } = slide, before = state.codes && state.slide.entry.columns[state.column].title;
  host.dataset.state = "opening";
  state.slide = slide;
  state.codes = null;
  forget();
  const shown = entry.layers.map((layer, place) => [layer, place]).filter(([layer]) => layer.levels.length);
  const known = entry.columns.findIndex((column) => column.title === before), telling = entry.columns.findIndex((one) => one.names?.length > 1);
  const column = Math.max(0, known < 0 ? telling : known);
  options(part("colour"), entry.columns.map((one) => one.title), entry.columns.map((one) => one.group));
  options(part("image"), [...shown.map(([layer]) => layer.name), "none"]);
  [...part("image").options].forEach((option, place) => { option.value = shown[place]?.[1] ?? -1; });
  part("image").closest("label").hidden = !entry.layers.length;
  part("colour").value = column;
  canvas.setAttribute("aria-label", `Map of slide ${entry.name}, ${entry.n} cells. Arrow keys move, plus and minus zoom, 0 shows all, Enter reads the cell in the middle.`);
  part("about").textContent = entry.subtitle;
  image(shown[0]?.[1] ?? -1);
  await slide.open();
  if (slide !== state.slide) return;
  fit();
  await colour(column);
  draw();
  host.dataset.state = "ready";
  performance.mark("viewer-ready");
  await Promise.all([slide.all(), slide.spreads()]);
  if (slide === state.slide) host.dataset.state = "complete";
};
const find = async () => {
  const wanted = part("find").value.trim(), ids = await state.slide.ids(), i = ids.indexOf(wanted);
  if (!wanted) return;
  if (i < 0) { part("status").textContent = `no cell ${wanted} is held of this slide`; return; }
  view.scale = Math.max(view.scale, view.fit * 4);
  [view.x, view.y] = [state.slide.x[i], state.slide.y[i]];
  settle();
  cell.pinned = true;
  describe(i, true);
};

const pointers = new Map();
let moved = 0;
const middle = () => {
  const points = [...pointers.values()], n = points.length;
  const x = points.reduce((sum, point) => sum + point[0], 0) / n, y = points.reduce((sum, point) => sum + point[1], 0) / n;
  return [x, y, n > 1 ? Math.hypot(points[0][0] - points[1][0], points[0][1] - points[1][1]) : 0];
};
const at = (event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
canvas.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  canvas.setPointerCapture(event.pointerId);
  if (!pointers.size) moved = 0;
  pointers.set(event.pointerId, at(event));
  canvas.classList.add("held");
});
canvas.addEventListener("pointermove", (event) => {
  if (!pointers.has(event.pointerId)) {
    if (cell.pinned || event.pointerType === "touch") return;
    const i = under(...at(event));
    if (i < 0 && cell.shown >= 0) forget();
    if (i >= 0 && i !== cell.shown) describe(i);
    return;
  }
  const [x, y, apart] = middle();
  pointers.set(event.pointerId, at(event));
  const [to_x, to_y, to_apart] = middle();
  moved += Math.hypot(to_x - x, to_y - y) + Math.abs(to_apart - apart);
  pan(x - to_x, y - to_y);
  if (apart > 0 && to_apart > 0) zoom(to_apart / apart, to_x, to_y);
});
const lift = (event) => {
  if (!pointers.delete(event.pointerId)) return;
  if (pointers.size) return;
  canvas.classList.remove("held");
  if (event.type !== "pointerup" || moved > 5) return;
  const i = under(...at(event));
  if (i < 0) return forget();
  cell.pinned = true;
  describe(i);
};
for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, lift);
canvas.addEventListener("pointerleave", () => { if (!cell.pinned && !pointers.size) forget(); });
canvas.addEventListener("dblclick", (event) => zoom(2, ...at(event)));
let hiding = 0;
canvas.addEventListener("wheel", (event) => {
  // The page scrolls past the map until the map is clicked or a key says that zooming is meant.
  if (document.activeElement !== canvas && !event.ctrlKey && !event.metaKey) {
    part("hint").hidden = false;
    clearTimeout(hiding);
    hiding = setTimeout(() => { part("hint").hidden = true; }, 1500);
    return;
  }
  event.preventDefault();
  zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), ...at(event));
}, { passive: false });
const keys = {
  ArrowLeft: () => pan(-size()[0] / 8, 0), ArrowRight: () => pan(size()[0] / 8, 0),
  ArrowUp: () => pan(0, -size()[1] / 8), ArrowDown: () => pan(0, size()[1] / 8),
  "+": () => zoom(1.4), "=": () => zoom(1.4), "-": () => zoom(1 / 1.4), 0: fit, Home: fit, Escape: forget,
  Enter: () => {
    const i = state.codes ? state.slide.nearest(view.x, view.y, 60 / view.scale, (one) => state.table[state.codes[one]] !== 0) : -1;
    if (i < 0) { part("status").textContent = "no cell near the middle"; return; }
    cell.pinned = true;
    describe(i, true);
  },
};
canvas.addEventListener("keydown", (event) => {
  if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  keys[event.key]();
});
for (const name of ["focus", "blur"]) canvas.addEventListener(name, ask);
part("in").addEventListener("click", () => zoom(1.6));
part("out").addEventListener("click", () => zoom(1 / 1.6));
part("fit").addEventListener("click", fit);
part("slide").addEventListener("change", () => open(Number(part("slide").value)));
part("colour").addEventListener("change", () => colour(Number(part("colour").value)));
part("image").addEventListener("change", () => { image(Number(part("image").value)); if (cell.shown >= 0) describe(cell.shown); });
for (const name of ["size", "opacity"]) part(name).addEventListener("input", ask);
part("find").addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); find(); } });
part("find").addEventListener("change", find);
new ResizeObserver(() => {
  const whole = view.scale === view.fit;
  view.ratio = Math.min(2, devicePixelRatio || 1);
  canvas.width = Math.round(canvas.clientWidth * view.ratio);
  canvas.height = Math.round(canvas.clientHeight * view.ratio);
  if (whole && state.codes) fit();
  else if (state.codes) draw();
}).observe(canvas);

options(part("slide"), about.slides.map((entry) => entry.name));
// For the console and the tests: where a cell lies on the canvas, in CSS pixels, and what is looked at.
host.viewer = {
  where: async (id) => { const i = (await state.slide.ids()).indexOf(id); return toScreen(state.slide.x[i], state.slide.y[i]); },
  look: (x, y, scale) => { Object.assign(view, { x, y, scale }); settle(); draw(); },
  view: () => ({ ...view }),
};
open(0);
