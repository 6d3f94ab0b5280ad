// The map: a point for each pair, near ones alike; drawn on a canvas, filtered by a lasso.

import { attempt, drawing, element, get, getBytes, pixelate, post, shown } from "./page.js";

const NONE = 65535;
const STEPS = 32;
const ROUNDS = 25;
const CATEGORIES = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#e08214", "#7f7f7f", "#1b7837", "#b35806"];
// As viridis, from dark to bright, but that both ends are seen in light and in dark.
const RAMP = [[112, 62, 168], [62, 104, 172], [33, 145, 140], [94, 190, 90], [217, 183, 20]];

function ramp(share) {
  const place = Math.min(RAMP.length - 1.001, Math.max(0, share * (RAMP.length - 1)));
  const [low, high] = [RAMP[Math.floor(place)], RAMP[Math.floor(place) + 1]];
  return `rgb(${low.map((part, channel) => Math.round(part + (high[channel] - part) * (place % 1))).join(" ")})`;
}

export class PairMap {
  /** @param on open(row), lasso(id, count), color(column) */
  constructor(panel, on) {
    Object.assign(this, { panel, on });
    this.view = { x: 0, y: 0, scale: 1 };
    this.canvas = element("canvas", { id: "map", tabIndex: 0, role: "img", "aria-describedby": "map-help" });
    this.tip = element("div", { class: "tip", hidden: true });
    this.legend = element("div", { class: "legend", tabIndex: 0, role: "group", "aria-label": "Legend" });
    this.color = element("select", { id: "map-color", onchange: () => on.color(this.color.value) });
    this.lassoButton = element("button", { type: "button", "aria-pressed": "false", title: "Draw around pairs to filter them (or hold Shift)", onclick: () => this.setLasso(!this.isLasso) }, "Lasso");
    const tools = element("div", { class: "map-tools" },
      element("label", { for: "map-color", class: "hidden" }, "Colour by"), this.color, this.lassoButton,
      element("button", { type: "button", onclick: () => this.chooseView() }, "Filter to what is in view"),
      element("button", { type: "button", onclick: () => this.fit() }, "Whole map"),
      element("span", { id: "map-help", class: "hidden" }, "A map of the pairs. Arrow keys move it, plus and minus zoom; Filter to what is in view keeps the pairs shown."));
    this.drawn = [this.canvas, tools, this.legend, this.tip];
    this.listen();
    new ResizeObserver(() => this.draw()).observe(panel);
  }

  setColumns(columns) {
    this.color.append(element("option", { value: "" }, "one colour"), ...columns.map((one) => element("option", { value: one.name }, `colour: ${one.label}`)));
  }

  /** Shows the map for a query, or how to get one. */
  async load(query, state, color) {
    if (state.state !== "ready") return this.showAbsent(state);
    this.color.value = color;
    this.abort?.abort();
    this.abort = new AbortController();
    const asked = new URLSearchParams(query);
    if (color) asked.set("color", color);
    const bytes = await attempt(() => getBytes("/api/map", asked, this.abort.signal));
    if (bytes === undefined) return undefined;
    this.read(bytes);
    if (this.panel.firstChild !== this.canvas) this.panel.replaceChildren(...this.drawn);
    if (this.bounds === undefined) this.fit();
    this.showLegend();
    this.draw();
    return undefined;
  }

  showAbsent(state) {
    const body = element("div", { class: "empty-map" });
    if (state.state === "computing") {
      const share = state.total ? `: ${Math.round((100 * state.done) / state.total)} %` : "";
      body.append(element("p", {}, `The map is being computed${share}. It is computed once.`));
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.on.again(), 1000);
    } else if (state.state === "impossible") {
      body.append(element("p", {}, state.problem));
    } else {
      const button = element("button", { type: "button", class: "main" }, "Compute the map");
      button.addEventListener("click", () => attempt(() => post("/api/map", {})).then((answer) => answer && this.on.again()));
      body.append(element("p", {}, `There is no map of these pairs yet. It is computed once, by ${state.method}, and kept.`), button);
      if (state.problem) body.append(element("p", {}, state.problem));
    }
    this.panel.replaceChildren(body);
  }

  read(bytes) {
    const length = new DataView(bytes).getUint32(0, true);
    this.header = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 4, length)));
    const { count } = this.header;
    let place = 4 + length;
    this.rows = new Uint32Array(bytes, place, count);
    place += 4 * count;
    this.points = new Float32Array(bytes, place, 2 * count);
    place += 8 * count;
    this.codes = new Uint16Array(bytes, place, count);
    place += 2 * count;
    this.matches = new Uint8Array(bytes, place, count);
  }

  fit() {
    let [left, right, top, bottom] = [Infinity, -Infinity, Infinity, -Infinity];
    for (let i = 0; i < this.points.length; i += 2) {
      left = Math.min(left, this.points[i]);
      right = Math.max(right, this.points[i]);
      top = Math.min(top, this.points[i + 1]);
      bottom = Math.max(bottom, this.points[i + 1]);
    }
    this.bounds = { left, right, top, bottom };
    this.view = { x: (left + right) / 2, y: (top + bottom) / 2, scale: 1 };
    this.draw();
  }

  /** Pixels per unit of the map. */
  get pixels() {
    const { left, right, top, bottom } = this.bounds;
    const fitting = Math.min(this.canvas.clientWidth / (right - left || 1), (this.canvas.clientHeight - 60) / (bottom - top || 1));
    return 0.94 * fitting * this.view.scale;
  }

  toScreen(x, y) {
    return [(x - this.view.x) * this.pixels + this.canvas.clientWidth / 2, (y - this.view.y) * this.pixels + this.canvas.clientHeight / 2 + 16];
  }

  toMap(x, y) {
    return [(x - this.canvas.clientWidth / 2) / this.pixels + this.view.x, (y - 16 - this.canvas.clientHeight / 2) / this.pixels + this.view.y];
  }

  /** The colour of each code, as classes that are drawn one after another. */
  classes() {
    const { color } = this.header;
    if (color === null) return { of: () => 0, colours: [getComputedStyle(document.documentElement).getPropertyValue("--fill")] };
    if (color.kind === "number") {
      return { of: (code) => (code === NONE ? -1 : Math.min(STEPS - 1, Math.floor((code / 65535) * STEPS))), colours: Array.from({ length: STEPS }, (_, step) => ramp((step + 0.5) / STEPS)) };
    }
    return { of: (code) => (code === NONE ? -1 : Math.min(code, CATEGORIES.length - 1)), colours: CATEGORIES };
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width || this.points === undefined || this.bounds === undefined) return;
    const began = performance.now();
    const ratio = devicePixelRatio;
    this.canvas.width = width * ratio;
    this.canvas.height = height * ratio;
    const context = this.canvas.getContext("2d");
    context.scale(ratio, ratio);
    const style = getComputedStyle(document.documentElement);
    const { of, colours } = this.classes();
    // In rounds: else the colour that is drawn last would hide all others.
    const others = [];
    const rounds = Array.from({ length: ROUNDS }, () => colours.map(() => []));
    for (let i = 0; i < this.rows.length; i++) {
      const kind = this.matches[i] ? of(this.codes[i]) : -1;
      if (kind < 0) others.push(i);
      else rounds[(i * 7919) % ROUNDS][kind].push(i);
    }
    const size = Math.max(1.5, Math.min(7, (2.2 * Math.sqrt(20000 / Math.max(300, this.rows.length)) + 1) * Math.sqrt(this.view.scale)));
    const { pixels, view } = this;
    const fill = (points, colour, opacity) => {
      context.fillStyle = colour;
      context.globalAlpha = opacity;
      for (const i of points) {
        const x = (this.points[2 * i] - view.x) * pixels + width / 2;
        const y = (this.points[2 * i + 1] - view.y) * pixels + height / 2 + 16;
        if (x >= -size && y >= -size && x <= width + size && y <= height + size) context.fillRect(x - size / 2, y - size / 2, size, size);
      }
    };
    fill(others, style.getPropertyValue("--faint"), 0.35);
    for (const round of rounds) round.forEach((points, kind) => fill(points, colours[kind], 0.85));
    context.globalAlpha = 1;
    if (this.outline?.length > 1) {
      context.strokeStyle = style.getPropertyValue("--ink");
      context.lineWidth = 1.5;
      context.beginPath();
      this.outline.forEach(([x, y]) => context.lineTo(...this.toScreen(x, y)));
      context.closePath();
      context.stroke();
    }
    const shownCount = this.matches.reduce((sum, match) => sum + match, 0);
    this.canvas.setAttribute("aria-label", `Map of ${shown(this.header.count)} pairs, ${shown(shownCount)} of them match`);
    this.canvas.dataset.milliseconds = Math.round(performance.now() - began);
  }

  showLegend() {
    const { color, count, of, method } = this.header;
    const about = [element("p", { class: "note" }, `${method}${count < of ? `; ${shown(count)} of ${shown(of)} pairs, a sample` : ""}`)];
    if (color === null) {
      this.legend.replaceChildren(...about);
    } else if (color.kind === "number") {
      const bars = Array.from({ length: STEPS }, (_, step) => drawing("rect", { x: step, y: 0, width: 1.05, height: 1, fill: ramp((step + 0.5) / STEPS) }));
      const svg = drawing("svg", { class: "ramp", viewBox: `0 0 ${STEPS} 1`, preserveAspectRatio: "none", "aria-hidden": "true" }, ...bars);
      this.legend.replaceChildren(element("p", {}, color.label), svg, element("p", { class: "note" }, `${shown(color.minimum)} to ${shown(color.maximum)}; grey: none, or filtered out`), ...about);
    } else {
      const names = color.values.slice(0, CATEGORIES.length - 1);
      if (color.values.length > names.length) names.push(color.values.length === CATEGORIES.length ? color.values.at(-1) : "all others");
      const entries = names.map((name, place) => element("li", {}, drawing("svg", { viewBox: "0 0 1 1", "aria-hidden": "true" }, drawing("rect", { width: 1, height: 1, fill: CATEGORIES[place] })), element("span", { dir: "auto" }, shown(name))));
      this.legend.replaceChildren(element("p", {}, color.label), element("ul", {}, entries), ...about);
    }
  }

  setLasso(isLasso) {
    this.isLasso = isLasso;
    this.lassoButton.setAttribute("aria-pressed", String(isLasso));
    this.canvas.classList.toggle("lasso", isLasso);
  }

  listen() {
    const { canvas } = this;
    let drag;
    const fingers = new Map(); // pointer -> where it is
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, [event.offsetX, event.offsetY]);
      if (fingers.size > 1) {
        drag = this.outline = undefined;
        return;
      }
      drag = { x: event.offsetX, y: event.offsetY, view: { ...this.view }, moved: false, lasso: this.isLasso || event.shiftKey };
      if (drag.lasso) this.outline = [this.toMap(event.offsetX, event.offsetY)];
    });
    canvas.addEventListener("pointermove", (event) => {
      if (fingers.size === 2 && fingers.has(event.pointerId)) return this.pinch(fingers, event);
      if (drag === undefined) return this.hover(event.offsetX, event.offsetY);
      drag.moved ||= Math.hypot(event.offsetX - drag.x, event.offsetY - drag.y) > 4;
      if (drag.lasso) this.outline.push(this.toMap(event.offsetX, event.offsetY));
      else this.view = { ...drag.view, x: drag.view.x - (event.offsetX - drag.x) / this.pixels, y: drag.view.y - (event.offsetY - drag.y) / this.pixels };
      return this.draw();
    });
    canvas.addEventListener("pointercancel", (event) => {
      fingers.delete(event.pointerId);
      drag = this.outline = undefined;
    });
    canvas.addEventListener("pointerup", (event) => {
      fingers.delete(event.pointerId);
      const was = drag;
      drag = undefined;
      if (was === undefined) return;
      if (was.lasso) {
        const outline = this.outline;
        this.outline = undefined;
        this.draw();
        if (outline.length > 3) this.choose((x, y) => inside(outline, x, y));
      } else if (!was.moved) {
        const nearest = this.nearest(event.offsetX, event.offsetY);
        if (nearest !== undefined) this.on.open(this.rows[nearest]);
      }
    });
    canvas.addEventListener("pointerleave", () => (this.tip.hidden = true));
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY / 400), event.offsetX, event.offsetY);
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const step = 60 / (this.pixels || 1);
      const move = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
      if (move) this.view = { ...this.view, x: this.view.x + move[0], y: this.view.y + move[1] };
      else if (event.key === "+" || event.key === "=") this.zoom(1.4);
      else if (event.key === "-") this.zoom(1 / 1.4);
      else if (event.key === "0") this.fit();
      else return;
      event.preventDefault();
      event.stopPropagation();
      this.draw();
    });
  }

  zoom(by, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    const [mapX, mapY] = this.toMap(x, y);
    this.view.scale = Math.max(0.5, Math.min(400, this.view.scale * by));
    const [movedX, movedY] = this.toMap(x, y);
    this.view.x += mapX - movedX;
    this.view.y += mapY - movedY;
    this.draw();
  }

  /** Two fingers move and zoom: what lies between them stays there. */
  pinch(fingers, event) {
    const [[fromX, fromY, before], [x, y, after]] = [0, 1].map((step) => {
      if (step) fingers.set(event.pointerId, [event.offsetX, event.offsetY]);
      const [[ax, ay], [bx, by]] = fingers.values();
      return [(ax + bx) / 2, (ay + by) / 2, Math.hypot(ax - bx, ay - by)];
    });
    this.view.x -= (x - fromX) / this.pixels;
    this.view.y -= (y - fromY) / this.pixels;
    this.zoom(after / (before || 1), x, y);
  }

  nearest(x, y) {
    let best;
    let least = 12 ** 2;
    const { pixels, view } = this;
    for (let i = 0; i < this.rows.length; i++) {
      if (!this.matches[i]) continue;
      const across = (this.points[2 * i] - view.x) * pixels + this.canvas.clientWidth / 2 - x;
      const down = (this.points[2 * i + 1] - view.y) * pixels + this.canvas.clientHeight / 2 + 16 - y;
      const distance = across * across + down * down;
      if (distance < least) [least, best] = [distance, i];
    }
    return best;
  }

  hover(x, y) {
    const nearest = this.nearest(x, y);
    if (nearest === undefined) {
      this.tip.hidden = true;
      this.tipped = undefined;
      return;
    }
    this.tip.style.left = `${Math.min(x + 14, this.canvas.clientWidth - 180)}px`;
    this.tip.style.top = `${Math.min(y + 14, this.canvas.clientHeight - 230)}px`;
    this.tip.hidden = false;
    if (this.tipped === nearest) return;
    this.tipped = nearest;
    const row = this.rows[nearest];
    const caption = element("p", { dir: "auto" }, "");
    this.tip.replaceChildren(pixelate(element("img", { src: `/thumbnail/${row}`, alt: "" })), caption);
    get(`/api/pair/${row}`).then((story) => (caption.textContent = story.caption.slice(0, 200)), () => {});
  }

  /** Filters to the pairs in an area. */
  async choose(isInside) {
    const rows = [];
    for (let i = 0; i < this.rows.length; i++) {
      if (this.matches[i] && isInside(this.points[2 * i], this.points[2 * i + 1])) rows.push(this.rows[i]);
    }
    if (!rows.length) return;
    const answer = await attempt(() => post("/api/rows", { rows }));
    if (answer !== undefined) this.on.lasso(answer.rows, rows.length);
  }

  chooseView() {
    const [left, top] = this.toMap(0, 0);
    const [right, bottom] = this.toMap(this.canvas.clientWidth, this.canvas.clientHeight);
    this.choose((x, y) => x >= left && x <= right && y >= top && y <= bottom);
  }
}

/** Whether a point is inside an outline: a line from it crosses the outline an odd number of times. */
function inside(outline, x, y) {
  let isInside = false;
  for (let i = 0, j = outline.length - 1; i < outline.length; j = i++) {
    const [xi, yi] = outline[i];
    const [xj, yj] = outline[j];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) isInside = !isInside;
  }
  return isInside;
}
