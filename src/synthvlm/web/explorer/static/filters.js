// The filters: for each column the whole collection's distribution, and what of it is asked for.

import { drawing, element, shown } from "./page.js";

const FIRST_OPEN = 6;

export class Filters {
  /** @param on change(filter): the new filter, an object by column */
  constructor(panel, on) {
    Object.assign(this, { panel, on });
    this.filter = {};
    this.parts = new Map();
  }

  /** Builds the filters of a collection. */
  build(columns) {
    columns.forEach((column, place) => {
      const part = element("details", { open: place < FIRST_OPEN });
      this.panel.append(part);
      this.fill(part, column);
    });
    this.panel.append(element("button", { type: "button", class: "clear", onclick: () => this.set({}) }, "Clear all filters"));
  }

  fill(part, column) {
    const summary = element("summary", {}, column.label);
    part.replaceChildren(summary);
    if (column.kind === "number") this.number(part, column);
    else this.values(part, column);
    if (column.missing) part.append(element("p", { class: "note" }, `${shown(column.missing)} pairs have none.`));
    this.parts.set(column.name, { part, summary, column });
  }

  /** Builds a column's filter anew: its values are others now. */
  renew(column) {
    this.fill(this.parts.get(column.name).part, column);
    this.show(this.filter);
  }

  /** Shows a filter that came from elsewhere, such as the address. */
  show(filter) {
    this.filter = filter;
    for (const [name, { part, summary, column }] of this.parts) {
      const asked = filter[name];
      summary.replaceChildren(column.label, ...(asked ? [" ", element("b", {}, "•")] : []));
      if (asked) part.open = true;
      part.update(asked);
    }
  }

  set(filter) {
    this.on.change(filter);
  }

  change(name, asked) {
    const filter = { ...this.filter };
    if (asked === undefined) delete filter[name];
    else filter[name] = asked;
    this.set(filter);
  }

  number(part, column) {
    if (column.histogram === null) {
      part.update = () => {};
      return;
    }
    const { edges, counts } = column.histogram;
    const most = Math.max(1, ...counts);
    const bars = counts.map((count, bin) => {
      const height = count ? Math.max(1.5, (count / most) * 54) : 0;
      const title = drawing("title");
      title.textContent = `${shown(edges[bin])} to ${shown(edges[bin + 1])}: ${shown(count)}`;
      return drawing("rect", { x: bin + 0.05, y: 56 - height, width: 0.9, height }, title);
    });
    const svg = drawing("svg", {
      class: "bins", viewBox: `0 0 ${counts.length} 56`, preserveAspectRatio: "none", role: "img",
      "aria-label": `${column.label} of all pairs, from ${shown(column.minimum)} to ${shown(column.maximum)}`,
    }, ...bars);
    const from = this.end(column, "at least", () => apply());
    const to = this.end(column, "at most", () => apply());
    const apply = () => {
      const asked = {};
      if (from.value !== "") asked.minimum = Number(from.value);
      if (to.value !== "") asked.maximum = Number(to.value);
      this.change(column.name, Object.keys(asked).length ? asked : undefined);
    };
    let start;
    const binAt = (event) => {
      const box = svg.getBoundingClientRect();
      const bin = Math.floor(((event.clientX - box.left) / box.width) * counts.length);
      return Math.max(0, Math.min(counts.length - 1, bin));
    };
    const light = (low, high) => bars.forEach((bar, bin) => bar.classList.toggle("in", edges[bin + 1] > low && edges[bin] < high));
    svg.addEventListener("pointerdown", (event) => {
      start = binAt(event);
      svg.setPointerCapture(event.pointerId);
    });
    svg.addEventListener("pointermove", (event) => {
      if (start !== undefined) light(edges[Math.min(start, binAt(event))], edges[Math.max(start, binAt(event)) + 1]);
    });
    svg.addEventListener("pointerup", (event) => {
      if (start === undefined) return;
      const ends = [Math.min(start, binAt(event)), Math.max(start, binAt(event))];
      start = undefined;
      this.change(column.name, { minimum: edges[ends[0]], maximum: edges[ends[1] + 1] });
    });
    part.append(svg, element("div", { class: "ends" }, from, "to", to));
    part.update = (asked) => {
      from.value = asked?.minimum ?? "";
      to.value = asked?.maximum ?? "";
      light(asked?.minimum ?? -Infinity, asked?.maximum ?? Infinity);
      if (!asked) bars.forEach((bar) => bar.classList.remove("in"));
    };
  }

  end(column, what, apply) {
    return element("input", {
      type: "number", step: "any", "aria-label": `${column.label}: ${what}`,
      placeholder: shown(what === "at least" ? column.minimum : column.maximum), onchange: apply,
    });
  }

  values(part, column) {
    const list = element("ul", { class: "values" });
    const boxes = column.values.map(({ value, count }) => {
      const box = element("input", { type: "checkbox" });
      box.addEventListener("change", () => {
        const values = column.values.filter((_, place) => boxes[place].checked).map((one) => one.value);
        this.change(column.name, values.length ? { values } : undefined);
      });
      list.append(element("li", {}, element("label", {}, box, element("span", { dir: "auto" }, value === null ? "none" : shown(value)), element("small", {}, shown(count)))));
      return box;
    });
    part.append(list);
    if (column.others) part.append(element("p", { class: "note" }, `${shown(column.others)} pairs have rarer values, which are not listed.`));
    part.update = (asked) => boxes.forEach((box, place) => (box.checked = asked?.values?.includes(column.values[place].value) ?? false));
  }

  /** What is asked of a column, for people. */
  describe(name) {
    const asked = this.filter[name];
    const label = this.parts.get(name)?.column.label ?? name;
    if (asked.values) return `${label}: ${asked.values.map((value) => (value === null ? "none" : shown(value))).join(" or ")}`;
    const ends = [asked.minimum === undefined ? "" : `≥ ${shown(asked.minimum)}`, asked.maximum === undefined ? "" : `≤ ${shown(asked.maximum)}`];
    return `${label} ${ends.filter(Boolean).join(", ")}`;
  }
}
