// The pictures: of any number of pairs, only those in view are in the page.

import { attempt, element, get, pixelate, shown } from "./page.js";

const PAGE = 100; // pairs of a request
const KEPT_PAGES = 60;
const TEXT_HEIGHT = 76;
const GAP = 12;
const HIGHEST = 12e6; // browsers draw no higher element; beyond, scrolling takes larger steps

export class Grid {
  /** @param on what to call: total(total, milliseconds), open(row), chosen(rows) */
  constructor(scroller, grid, on) {
    Object.assign(this, { scroller, grid, on });
    this.pages = new Map();
    this.labels = new Map();
    this.chosen = new Map(); // row -> pair
    this.cells = new Map(); // position -> cell
    this.total = 0;
    this.current = 0;
    scroller.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(scroller);
    grid.addEventListener("click", (event) => this.clicked(event));
    grid.addEventListener("focusin", (event) => (this.current = event.target.position ?? this.current));
    grid.addEventListener("keydown", (event) => this.pressed(event));
  }

  /** Shows the pairs of a query from the first one on. */
  async load(query) {
    this.abort?.abort();
    this.abort = new AbortController();
    this.query = query;
    this.pages.clear();
    const first = await attempt(() => this.fetchPage(0));
    if (first === undefined) return;
    this.total = first.total;
    this.current = 0;
    this.scroller.scrollTop = 0;
    this.on.total(first.total, first.milliseconds);
    this.redraw();
  }

  /** Draws the cells in view anew; the focus stays in the grid. */
  redraw() {
    const isFocused = this.grid.contains(document.activeElement);
    for (const cell of this.cells.values()) cell.remove();
    this.cells.clear();
    this.draw();
    if (isFocused) this.focus();
  }

  pair(position) {
    const page = this.pages.get(Math.floor(position / PAGE));
    return Array.isArray(page) ? page[position % PAGE] : undefined;
  }

  /** The pair at a position, fetched where it is not there yet. */
  async pairAt(position) {
    if (position < 0 || position >= this.total) return undefined;
    if (this.pair(position) === undefined) await attempt(() => this.fetchPage(Math.floor(position / PAGE)));
    return this.pair(position);
  }

  positionOf(row) {
    for (const [number, page] of this.pages) {
      if (!Array.isArray(page)) continue;
      const place = page.findIndex((pair) => pair.row === row);
      if (place >= 0) return number * PAGE + place;
    }
    return undefined;
  }

  fetchPage(number) {
    const known = this.pages.get(number);
    if (known instanceof Promise) return known;
    const query = new URLSearchParams(this.query);
    query.set("offset", number * PAGE);
    query.set("limit", PAGE);
    const pages = this.pages;
    const work = get("/api/pairs", query, this.abort.signal).then(
      (answer) => {
        pages.set(number, answer.pairs);
        for (const old of [...pages.keys()].slice(0, Math.max(0, pages.size - KEPT_PAGES))) pages.delete(old);
        return answer;
      },
      (error) => {
        pages.delete(number);
        throw error;
      },
    );
    pages.set(number, work);
    return work;
  }

  measure() {
    const style = getComputedStyle(this.scroller);
    const width = this.scroller.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    this.columns = Math.max(2, Math.floor((width + GAP) / (168 + GAP)));
    this.side = Math.floor((width - GAP * (this.columns - 1)) / this.columns);
    this.step = this.side + TEXT_HEIGHT + GAP;
    this.height = Math.ceil(this.total / this.columns) * this.step;
    this.seen = this.scroller.clientHeight;
  }

  /** Where the view begins in the whole height, which may be higher than the element. */
  get top() {
    const most = Math.min(this.height, HIGHEST) - this.seen;
    const scale = this.height > HIGHEST ? (this.height - this.seen) / most : 1;
    return this.scroller.scrollTop * scale;
  }

  draw() {
    if (!this.scroller.clientWidth || this.query === undefined) return;
    this.measure();
    this.grid.style.height = `${Math.min(this.height, HIGHEST)}px`;
    const top = this.top;
    const shift = this.scroller.scrollTop - top;
    const first = Math.max(0, (Math.floor(top / this.step) - 1) * this.columns);
    const last = Math.min(this.total, Math.ceil((top + this.seen) / this.step + 1) * this.columns);
    let focused; // the cell with the focus stays, or is followed by that of its pair
    for (const [position, cell] of this.cells) {
      const isStale = cell.pair !== this.pair(position);
      const isFocused = cell === document.activeElement;
      if (!isStale && (isFocused || (position >= first && position < last))) continue;
      if (isFocused) focused = position;
      cell.remove();
      this.cells.delete(position);
    }
    const missing = new Set();
    for (let position = first; position < last; position++) {
      const pair = this.pair(position);
      if (pair === undefined) missing.add(Math.floor(position / PAGE));
      let cell = this.cells.get(position);
      if (cell === undefined) {
        cell = this.cell(position, pair);
        this.cells.set(position, cell);
        this.grid.append(cell);
      }
      cell.style.width = `${this.side}px`;
      cell.style.height = `${this.side + TEXT_HEIGHT}px`;
      cell.style.left = `${(position % this.columns) * (this.side + GAP)}px`;
      cell.style.top = `${Math.floor(position / this.columns) * this.step + shift}px`;
    }
    if (this.current < first || this.current >= last) {
      if (!this.grid.contains(document.activeElement)) this.current = first;
    }
    this.cells.get(focused)?.focus({ preventScroll: true });
    for (const [position, cell] of this.cells) cell.tabIndex = position === this.current ? 0 : -1;
    if (!this.total) {
      this.grid.replaceChildren(element("p", { class: "nothing", role: "option", "aria-selected": "false" }, "No pair fits."));
    } else {
      this.grid.querySelector(".nothing")?.remove();
    }
    for (const number of missing) {
      if (!this.pages.has(number)) attempt(() => this.fetchPage(number)).then((got) => got && this.draw());
    }
  }

  cell(position, pair) {
    const cell = element("div", {
      class: "cell",
      role: "option",
      tabIndex: -1,
      "aria-setsize": this.total,
      "aria-posinset": position + 1,
      "aria-selected": String(pair !== undefined && this.chosen.has(pair.row)),
    });
    cell.pair = pair;
    cell.position = position;
    if (pair === undefined) {
      cell.setAttribute("aria-label", "loading");
      return cell;
    }
    cell.classList.toggle("marked", pair.mark !== null);
    const picture = pixelate(element("img", { src: `/thumbnail/${pair.row}`, alt: "", loading: "eager", decoding: "async" }));
    const facts = element("div", { class: "facts" });
    if (pair.mark !== null) facts.append(element("span", { class: "mark" }, `bad: ${pair.mark.reason}`));
    else if (pair.selected) facts.append(element("span", { class: "is-selected" }, "selected"));
    for (const name of this.facts(pair)) {
      const value = pair.values[name];
      facts.append(element("span", { title: this.labels.get(name) ?? name }, `${name.replace(/_score$/, "")} ${typeof value === "number" ? shown(Number(value.toPrecision(3))) : shown(value)}`));
    }
    cell.append(picture, element("p", { dir: "auto" }, pair.caption), facts);
    return cell;
  }

  /** The columns that a cell shows: what is sorted by, then scores. */
  facts(pair) {
    const sorted = new URLSearchParams(this.query).get("sort");
    const first = ["similarity", ...(sorted ? [sorted] : []), "score"];
    const others = Object.keys(pair.values).filter((name) => name.endsWith("_score"));
    const known = [...new Set([...first, ...others])].filter((name) => pair.values[name] !== undefined && pair.values[name] !== null);
    return known.filter((name) => name !== "selected").slice(0, 3);
  }

  clicked(event) {
    const cell = event.target.closest(".cell");
    if (cell?.pair === undefined) return;
    this.current = cell.position;
    if (event.shiftKey) this.toggleTo(cell.position);
    else if (event.ctrlKey || event.metaKey || this.isChoosing) this.toggle(cell.position);
    else this.on.open(cell.pair.row);
  }

  pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const rows = Math.max(1, Math.floor(this.seen / this.step));
    const moves = {
      ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns, k: -1, j: 1,
      PageUp: -this.columns * rows, PageDown: this.columns * rows, Home: -Infinity, End: Infinity,
    };
    if (event.key in moves) this.move(moves[event.key]);
    else if (event.key === "Enter" || event.key === "o") this.pair(this.current) && this.on.open(this.pair(this.current).row);
    else if (event.key === "x" || event.key === " ") this.toggle(this.current);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  move(by) {
    this.show(Math.max(0, Math.min(this.total - 1, this.current + by)));
    this.cells.get(this.current)?.focus({ preventScroll: true });
  }

  /** Scrolls to a position and makes it the current one. */
  show(position) {
    if (!this.total) return;
    this.measure();
    this.current = position;
    const begin = Math.floor(position / this.columns) * this.step;
    const scale = this.height > HIGHEST ? (this.height - this.seen) / (HIGHEST - this.seen) : 1;
    if (begin < this.top) this.scroller.scrollTop = begin / scale;
    else if (begin + this.step > this.top + this.seen) this.scroller.scrollTop = (begin + this.step - this.seen) / scale;
    this.draw();
  }

  focus() {
    this.cells.get(this.current)?.focus();
  }

  toggle(position) {
    const pair = this.pair(position);
    if (pair === undefined) return;
    if (!this.chosen.delete(pair.row)) this.chosen.set(pair.row, pair);
    this.last = position;
    this.showChosen();
  }

  toggleTo(position) {
    const from = this.last ?? position;
    for (let p = Math.min(from, position); p <= Math.max(from, position); p++) {
      const pair = this.pair(p);
      if (pair !== undefined) this.chosen.set(pair.row, pair);
    }
    this.showChosen();
  }

  clearChosen() {
    this.chosen.clear();
    this.showChosen();
  }

  showChosen() {
    for (const cell of this.cells.values()) {
      cell.setAttribute("aria-selected", String(cell.pair !== undefined && this.chosen.has(cell.pair.row)));
    }
    this.on.chosen([...this.chosen.keys()]);
  }

  /** The rows that a key such as m is for: the chosen ones, or the current one. */
  get rows() {
    if (this.chosen.size) return [...this.chosen.keys()];
    const pair = this.pair(this.current);
    return pair === undefined ? [] : [pair.row];
  }

  /** Takes over new marks by row. */
  marked(marks) {
    for (const page of this.pages.values()) {
      if (!Array.isArray(page)) continue;
      for (const pair of page) if (pair.row in marks) pair.mark = marks[pair.row];
    }
    this.redraw();
  }
}
