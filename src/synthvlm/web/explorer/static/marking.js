// Marking pairs as bad: a dialog asks for the reason, the server keeps the mark in the run folder.

import { attempt, element, post, say, shown } from "./page.js";

export class Marking {
  /** @param done(marks): the new marks by row */
  constructor(dialog, done) {
    Object.assign(this, { dialog, done });
    this.reasons = [];
  }

  /** @param marks what the server says of marks: writable, reasons, why_not */
  allow(marks) {
    this.marks = marks;
    this.reasons = marks.reasons ?? [];
  }

  /** Whether pairs can be marked here; if not, says why. */
  get isAllowed() {
    if (!this.marks?.writable) say(this.marks?.reason_if_not ?? "Pairs of this data set cannot be marked.");
    return this.marks?.writable ?? false;
  }

  /** Asks for the reason and marks the pairs. */
  ask(rows) {
    if (!rows.length || !this.isAllowed) return;
    const boxes = this.reasons.map((reason, place) => element("input", { type: "radio", name: "reason", value: reason, checked: place === 0 }));
    const own = element("input", { type: "text", maxLength: 40, "aria-label": "Another reason", placeholder: "or a word of your own" });
    const note = element("textarea", { id: "note", maxLength: 2000, dir: "auto" });
    const form = element("form", { method: "dialog", class: "dialog-body" },
      element("fieldset", {}, element("legend", {}, "Reason"),
        this.reasons.map((reason, place) => element("label", {}, boxes[place], reason)), element("label", {}, own)),
      element("label", { for: "note" }, "Note"), note,
      element("div", { class: "buttons" },
        element("button", { type: "button", onclick: () => this.dialog.close() }, "Cancel"),
        element("button", { type: "submit", class: "main" }, "Mark")));
    form.addEventListener("submit", () => {
      const reason = own.value.trim() || boxes.find((box) => box.checked)?.value || this.reasons[0];
      this.send(rows, { reason, note: note.value });
    });
    note.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    });
    const title = `Mark ${rows.length === 1 ? "this pair" : `${shown(rows.length)} pairs`} as bad`;
    this.dialog.replaceChildren(element("div", { class: "dialog-head" }, element("h2", { id: "marking-title" }, title)), form);
    this.dialog.showModal();
    boxes[0]?.focus();
  }

  /** Takes marks back. */
  remove(rows) {
    if (rows.length && this.isAllowed) this.send(rows, { removed: true });
  }

  async send(rows, what) {
    const answer = await attempt(() => post("/api/marks", { rows, ...what }));
    if (answer === undefined) return;
    const pairs = answer.changed === 1 ? "1 pair" : `${shown(answer.changed)} pairs`;
    say(what.removed ? `${pairs} unmarked.` : `${pairs} marked: the next selection leaves ${answer.changed === 1 ? "it" : "them"} out. u takes it back.`);
    this.done(answer.marks);
  }
}
