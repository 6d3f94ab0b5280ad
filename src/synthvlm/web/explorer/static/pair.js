// A pair's whole story, in a dialog.

import { attempt, element, get, pixelate, say, shown } from "./page.js";

function list(entries) {
  return element("dl", { class: "facts-list" }, entries.flatMap(([name, value]) => [element("dt", {}, name), element("dd", { dir: "auto" }, value)]));
}

function section(title, ...content) {
  return [element("h3", {}, title), ...content];
}

function candidate(one, labels) {
  const picture = one.image === null
    ? element("div", { class: "gone" }, "no picture")
    : pixelate(element("img", { src: one.image, alt: `candidate ${one.index}` }));
  const scores = Object.entries(one.scores).map(([name, value]) => [labels.get(name) ?? name, shown(value)]);
  return element("li", { class: one.chosen ? "chosen" : "" },
    picture,
    element("p", {}, `${one.index}${one.chosen ? ": chosen" : ""}`),
    one.note ? element("p", { class: "note", dir: "auto" }, one.note) : null,
    list([...scores, ["seed", one.seed]]),
    one.remarks?.length ? element("ul", {}, one.remarks.map((line) => element("li", { dir: "auto" }, line))) : null,
  );
}

function bounds(measure) {
  const ends = [measure.minimum === null ? "" : `at least ${shown(measure.minimum)}`, measure.maximum === null ? "" : `at most ${shown(measure.maximum)}`];
  return ends.filter(Boolean).join(", ") || "–";
}

function table(header, rows) {
  const head = element("tr", {}, header.map((text) => element("th", { scope: "col" }, text)));
  return element("table", {}, element("thead", {}, head), element("tbody", {}, rows));
}

function measures(story) {
  const rows = story.measures.map((one) => element("tr", {},
    element("td", {}, one.label), element("td", { class: "number" }, shown(one.value)), element("td", {}, bounds(one)),
    element("td", { class: one.kept ? "" : "failed" }, one.kept ? "kept" : "rejected")));
  return table(["rule", "measured", "allowed", ""], rows);
}

function questions(story) {
  const rows = story.questions.map((one) => element("tr", {},
    element("td", { dir: "auto" }, one.question), element("td", { dir: "auto" }, one.expected ?? ""), element("td", { dir: "auto" }, one.answer ?? ""),
    element("td", { class: one.passed ? "" : "failed" }, one.passed ? "passed" : "failed")));
  return table(["question", "expected", "answer", ""], rows);
}

export class PairDialog {
  /** @param on closed(), neighbours(row), step(by), mark(row), unmark(row), like(row) */
  constructor(dialog, on) {
    Object.assign(this, { dialog, on });
    dialog.addEventListener("close", () => on.closed());
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    dialog.addEventListener("keydown", (event) => this.pressed(event));
  }

  get row() {
    return this.dialog.open ? this.shownRow : undefined;
  }

  async show(row) {
    this.asked = row;
    const [story, beside] = await Promise.all([attempt(() => get(`/api/pair/${row}`)), this.on.neighbours(row)]);
    if (story === undefined || this.asked !== row) return;
    this.shownRow = row;
    this.fill(story, beside);
    if (!this.dialog.open) this.dialog.showModal();
    this.dialog.focus(); // what had it is gone: keys would go nowhere
    this.dialog.scrollTop = 0;
  }

  close() {
    this.asked = undefined;
    if (this.dialog.open) this.dialog.close();
  }

  fill(story, beside) {
    const { row } = story;
    const labels = new Map(story.scores.map((one) => [one.name, one.label]));
    const button = (text, title, work) => element("button", { type: "button", title, onclick: work }, text);
    const head = element("div", { class: "dialog-head" },
      element("h2", { id: "pair-title", dir: "auto" }, story.caption_id),
      button("←", "Previous pair ( ← )", () => this.on.step(-1)),
      button("→", "Next pair ( → )", () => this.on.step(1)),
      button("More like this", "Pairs whose pictures are most similar ( l )", () => this.on.like(row)),
      story.mark === null
        ? button("Mark as bad…", "( m )", () => this.on.mark(row))
        : button("Unmark", "( u )", () => this.on.unmark(row)),
      button("Close", "( Esc )", () => this.dialog.close()));
    ["Previous pair", "Next pair"].forEach((name, place) => {
      const arrow = head.querySelectorAll("button")[place];
      arrow.setAttribute("aria-label", name);
      arrow.disabled = !beside[place];
    });
    const right = element("div", {},
      element("p", { class: "caption", dir: "auto", tabIndex: 0 }, story.caption),
      story.mark ? element("p", { class: "is-marked", dir: "auto" }, `Marked as bad: ${story.mark.reason}${story.mark.note ? `: ${story.mark.note}` : ""}`) : null,
      list([
        ...story.scores.map((one) => [one.label, shown(one.value)]),
        ...(story.selection ? [["Selection", story.selection]] : []),
        ...(story.source ? [["Source", story.source]] : []),
        ...(story.width ? [["Size", `${story.width} × ${story.height} pixels`]] : []),
        ...(story.more ?? []).map((one) => [one.label, shown(one.value)]),
      ]));
    const large = pixelate(element("img", { class: "large", src: story.image, alt: story.caption.slice(0, 200) }));
    const body = element("div", { class: "dialog-body" },
      element("div", { class: "story" }, large, right),
      story.candidates?.length ? section("Candidates", story.why_chosen ? element("p", {}, story.why_chosen) : null,
        element("ul", { class: "candidates" }, story.candidates.map((one) => candidate(one, labels)))) : null,
      story.questions?.length ? section("Questions about the picture", questions(story)) : null,
      story.measures?.length ? section("What the rules measured of the caption", measures(story)) : null,
      story.regenerate ? section("Make it again", this.command(story.regenerate)) : null);
    this.dialog.replaceChildren(head, body);
  }

  command(text) {
    const copy = element("button", { type: "button" }, "Copy");
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(text);
      say("Copied.");
    });
    return element("div", { class: "command" }, element("code", {}, text), copy);
  }

  pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const work = {
      ArrowLeft: () => this.on.step(-1), ArrowRight: () => this.on.step(1), k: () => this.on.step(-1), j: () => this.on.step(1),
      m: () => this.on.mark(this.shownRow), u: () => this.on.unmark(this.shownRow), l: () => this.on.like(this.shownRow),
    }[event.key];
    if (work === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    work();
  }
}
