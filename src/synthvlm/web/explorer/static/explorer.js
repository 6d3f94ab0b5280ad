// The explorer: what is asked for lies in the address, and all parts of the page show it.

import { Filters } from "./filters.js";
import { Grid } from "./grid.js";
import { PairMap } from "./map.js";
import { Marking } from "./marking.js";
import { PairDialog } from "./pair.js";
import { attempt, element, get, post, say, shown } from "./page.js";

const id = (name) => document.getElementById(name);
const NOTHING = { words: "", meaning: "", like: "", filter: {}, rows: "", sort: "", descending: false, tab: "grid", color: "", pair: null };
let view = { ...NOTHING };
let collection;

// -- The address -------------------------------------------------------------------------------

function readAddress() {
  const query = new URLSearchParams(location.hash.slice(1));
  let filter = {};
  try {
    filter = JSON.parse(query.get("filter") ?? "{}");
  } catch {
    say("The filter in the address cannot be read.");
  }
  const pair = query.get("pair");
  return {
    ...NOTHING,
    ...Object.fromEntries(["words", "meaning", "like", "rows", "sort", "color"].map((name) => [name, query.get(name) ?? ""])),
    filter,
    descending: query.get("descending") === "1",
    tab: query.get("tab") === "map" ? "map" : "grid",
    pair: pair !== null && /^\d+$/.test(pair) ? Number(pair) : null,
  };
}

function address() {
  const query = new URLSearchParams();
  for (const name of ["words", "meaning", "like", "rows", "sort", "color"]) if (view[name]) query.set(name, view[name]);
  if (Object.keys(view.filter).length) query.set("filter", JSON.stringify(view.filter));
  if (view.descending) query.set("descending", "1");
  if (view.tab !== "grid") query.set("tab", view.tab);
  if (view.pair !== null) query.set("pair", view.pair);
  return `${location.pathname}#${query}`;
}

/** What the server is asked: the part of the view that decides which pairs are shown. */
function asked() {
  const query = new URLSearchParams();
  for (const name of ["words", "meaning", "like", "rows", "sort"]) if (view[name]) query.set(name, view[name]);
  if (Object.keys(view.filter).length) query.set("filter", JSON.stringify(view.filter));
  if (view.descending) query.set("descending", "1");
  return query;
}

/** Changes the view, and with it the address, which can be shared and gone back from. */
function change(changes, { replace = false } = {}) {
  view = { ...view, ...changes };
  history[replace ? "replaceState" : "pushState"](null, "", address());
  show();
}

// -- What is shown -----------------------------------------------------------------------------

let loaded; // the query that the grid shows
let loading = Promise.resolve();
let mapped;

function show() {
  const query = String(asked());
  id("by").value = view.meaning ? "meaning" : id("by").value;
  if (document.activeElement !== id("query")) id("query").value = view.meaning || view.words;
  id("sort").value = view.sort;
  id("direction").textContent = view.descending ? "↓" : "↑";
  id("direction").setAttribute("aria-label", `Order: ${view.descending ? "descending" : "ascending"}`);
  filters.show(view.filter);
  showActive();
  for (const tab of ["grid", "map"]) {
    id(`tab-${tab}`).setAttribute("aria-selected", String(view.tab === tab));
    id(`tab-${tab}`).tabIndex = view.tab === tab ? 0 : -1;
    id(`${tab}-panel`).hidden = view.tab !== tab;
  }
  id("choosing").hidden = view.tab !== "grid";
  if (query !== loaded) {
    loaded = query;
    loading = grid.load(query);
  } else {
    grid.draw();
  }
  if (view.tab === "map" && `${query} ${view.color}` !== mapped) showMap();
  if (view.pair === null) pairDialog.close();
  else if (pairDialog.row !== view.pair) pairDialog.show(view.pair);
}

async function showMap() {
  const state = await attempt(() => get("/api/map/state"));
  if (state === undefined) return;
  mapped = state.state === "ready" ? `${asked()} ${view.color}` : undefined;
  map.load(asked(), state, view.color);
}

function showActive() {
  const entries = [];
  const add = (text, changes) => entries.push(element("li", {}, element("button", { type: "button", dir: "auto", title: "Remove", "aria-label": `Remove: ${text}`, onclick: () => change(changes) }, `${text} ×`)));
  if (view.words) add(`words: ${view.words}`, { words: "" });
  if (view.meaning) add(`meaning: ${view.meaning}`, { meaning: "" });
  if (view.like) add(view.like.startsWith("picture:") ? "like your picture" : `like pair ${view.like}`, { like: "" });
  if (view.rows) add("chosen on the map", { rows: "" });
  for (const name of Object.keys(view.filter)) {
    const { [name]: _, ...others } = view.filter;
    add(filters.describe(name), { filter: others });
  }
  id("active").replaceChildren(...entries);
}

const grid = new Grid(id("scroller"), id("grid"), {
  total(total, milliseconds) {
    id("count").replaceChildren(element("b", {}, shown(total)), ` of ${shown(collection.pairs)} pairs`);
    id("count").title = `${shown(milliseconds)} ms`;
  },
  open: (row) => change({ pair: row }),
  chosen(rows) {
    id("chosen").hidden = !rows.length;
    id("chosen-count").textContent = `${shown(rows.length)} chosen`;
  },
});

const filters = new Filters(id("filters"), { change: (filter) => change({ filter }) });

const marking = new Marking(id("marking"), async (marks) => {
  grid.marked(marks);
  if (pairDialog.row !== undefined && pairDialog.row in marks) pairDialog.show(pairDialog.row);
  const now = await attempt(() => get("/api/collection"));
  const column = now?.columns.find((one) => one.name === "marked");
  if (column !== undefined) filters.renew(column);
});

const pairDialog = new PairDialog(id("pair"), {
  closed() {
    if (view.pair !== null) change({ pair: null }, { replace: true });
    grid.focus();
  },
  /** Whether there is a pair before and after one; of a pair that is not loaded, it is not known. */
  async neighbours(row) {
    await loading;
    const position = grid.positionOf(row);
    return [position > 0, position < grid.total - 1];
  },
  async step(by) {
    const position = grid.positionOf(pairDialog.row);
    const next = position === undefined ? undefined : await grid.pairAt(position + by);
    if (next === undefined) return;
    grid.show(position + by);
    change({ pair: next.row }, { replace: true });
  },
  mark: (row) => marking.ask([row]),
  unmark: (row) => marking.remove([row]),
  like(row) {
    if (isPossible("picture")) change({ pair: null, like: String(row), words: "", meaning: "", sort: "", tab: "grid" });
  },
});

const map = new PairMap(id("map-panel"), {
  open: (row) => change({ pair: row }),
  lasso(rows) {
    map.setLasso(false);
    change({ rows });
  },
  color: (color) => change({ color }),
  again: showMap,
});

// -- What the user does ------------------------------------------------------------------------

/** Whether the collection can be searched in that way; if not, says why. */
function isPossible(kind) {
  if (!collection.search[kind]) say(collection.search.reason_if_not ?? "These pairs have no embeddings to search by.");
  return collection.search[kind];
}

function search({ replace = false } = {}) {
  const text = id("query").value.trim();
  const by = id("by").value;
  if (by === "meaning" && text && !isPossible("meaning")) return;
  change({ words: by === "words" ? text : "", meaning: by === "meaning" ? text : "", ...(text && by === "meaning" ? { sort: "" } : {}) }, { replace });
}

let typing;
id("search").addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(typing);
  search();
  id("query").blur();
  loading.then(() => grid.focus());
});
id("query").addEventListener("input", () => {
  clearTimeout(typing);
  if (id("by").value === "words") typing = setTimeout(() => search({ replace: true }), 250);
});
id("by").addEventListener("change", () => id("query").value && search());

async function searchByPicture(file) {
  if (!file || !isPossible("picture")) return;
  const answer = await attempt(() => post("/api/picture", file));
  if (answer !== undefined) change({ like: `picture:${answer.picture}`, words: "", meaning: "", sort: "", tab: "grid" });
}
id("by-picture").addEventListener("click", () => isPossible("picture") && id("picture").click());
id("picture").addEventListener("change", () => {
  searchByPicture(id("picture").files[0]);
  id("picture").value = ""; // so that the same one can be chosen again
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  searchByPicture(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => searchByPicture(event.clipboardData.files[0]));

id("sort").addEventListener("change", () => change({ sort: id("sort").value, descending: /score|similarity/.test(id("sort").value) }));
id("direction").addEventListener("click", () => change({ descending: !view.descending }));
for (const tab of ["grid", "map"]) {
  id(`tab-${tab}`).addEventListener("click", () => change({ tab }));
  id(`tab-${tab}`).addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    const other = tab === "grid" ? "map" : "grid";
    change({ tab: other });
    id(`tab-${other}`).focus();
  });
}
id("show-filters").addEventListener("click", () => {
  const isOpen = document.body.classList.toggle("filtering");
  id("show-filters").setAttribute("aria-expanded", String(isOpen));
  id("show-filters").textContent = isOpen ? "Show pairs" : "Filters";
  if (!isOpen) grid.draw();
});
id("chosen").addEventListener("click", (event) => act(event.target.dataset.do));
id("choosing").addEventListener("click", () => {
  grid.isChoosing = !grid.isChoosing;
  id("choosing").setAttribute("aria-pressed", String(grid.isChoosing));
});

const THEME = "synthvlm-theme";
function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
}
setTheme(localStorage.getItem(THEME));
id("theme").addEventListener("click", () => {
  const now = document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  const other = now === "dark" ? "light" : "dark";
  localStorage.setItem(THEME, other);
  setTheme(other);
  map.draw();
});

function act(what) {
  if (what === "mark") marking.ask(grid.rows);
  else if (what === "unmark") marking.remove(grid.rows);
  else if (what === "clear") grid.clearChosen();
}

const KEYS = [
  ["/", "search", () => id("query").focus()],
  ["← → ↑ ↓ j k", "move among the pictures", null],
  ["Enter", "open a pair; Esc closes it; ← → go on", null],
  ["x", "choose a pair, or several (Shift-click: all between)", null],
  ["m", "mark the chosen pairs, or this one, as bad", () => act("mark")],
  ["u", "take marks back", () => act("unmark")],
  ["l", "more like this", () => grid.rows.length && pairDialog.on.like(grid.rows[0])],
  ["s", "sort", () => id("sort").focus()],
  ["f", "filter", () => (matchMedia("(max-width: 760px)").matches ? id("show-filters").click() : id("filters").querySelector("summary")?.focus())],
  ["g", "pictures", () => change({ tab: "grid" })],
  ["v", "map", () => change({ tab: "map" })],
  ["Esc", "clear what is chosen", () => grid.clearChosen()],
  ["?", "these keys", showKeys],
];

function showKeys() {
  const entries = KEYS.flatMap(([keys, what]) => [element("dt", {}, element("kbd", {}, keys)), element("dd", {}, what)]);
  const close = element("button", { type: "button", onclick: () => id("keys").close() }, "Close");
  id("keys").replaceChildren(
    element("div", { class: "dialog-head" }, element("h2", { id: "keys-title" }, "Keys"), close),
    element("div", { class: "dialog-body" }, element("dl", { class: "facts-list" }, entries)));
  id("keys").showModal();
}
id("show-keys").addEventListener("click", showKeys);

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest("input:not([type=checkbox]), select, textarea, dialog");
  if (event.key === "Escape" && event.target === id("query")) {
    id("query").blur();
    grid.focus();
    return;
  }
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  const entry = KEYS.find(([key, , work]) => key === event.key || (work && key === "Esc" && event.key === "Escape"));
  if (entry?.[2]) {
    event.preventDefault();
    entry[2]();
  } else if (["j", "k", "ArrowDown", "ArrowUp"].includes(event.key) && event.target === document.body) {
    event.preventDefault();
    grid.focus();
  }
});
window.addEventListener("popstate", () => {
  view = readAddress();
  show();
});

// -- Begin -------------------------------------------------------------------------------------

collection = await attempt(() => get("/api/collection"));
if (collection !== undefined) {
  // Of a long path, the end tells more.
  id("name").textContent = collection.name.length > 32 ? `…/${collection.name.split("/").slice(-2).join("/")}` : collection.name;
  id("name").title = `${collection.name}: ${shown(collection.pairs)} pairs of a ${collection.kind}`;
  document.title = `${collection.name} – synthvlm view`;
  id("sort").append(element("option", { value: "" }, "in order"), ...collection.columns.map((one) => element("option", { value: one.name }, one.label)));
  grid.labels = pairDialog.labels = new Map(collection.columns.map((one) => [one.name, one.label]));
  filters.build(collection.columns.filter((one) => one.kind !== "text"));
  map.setColumns(collection.columns.filter((one) => one.kind !== "text"));
  marking.allow(collection.marks);
  view = readAddress();
  show();
}
