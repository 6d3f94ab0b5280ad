// One pair at a time: show it, take a key or a click, send it, show the next.

const byId = (id) => document.getElementById(id);
const pictures = [byId("left"), byId("right")];
const buttons = [...document.querySelectorAll("button[data-choice]")];
const keys = new Map([
  ["arrowleft", "left"], ["1", "left"], ["arrowright", "right"], ["2", "right"],
  ["t", "tie"], ["b", "bad"], ["z", "undo"], ["backspace", "undo"],
]);

let state = null;
let shownAt = null; // when both pictures were there; null: no answer is taken

async function request(path, body) {
  const options = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error(
      "The server has stopped. Start the same command again: what you rated is kept."
    );
  }
  const value = await response.json();
  if (!response.ok) throw new Error(value.error);
  return value;
}

async function show(next) {
  state = next;
  const { pair } = state;
  byId("question").textContent = state.question;
  byId("bar").max = state.total;
  byId("bar").value = state.done;
  byId("count").textContent = `${state.done} of ${state.total} pairs rated by ${state.rater}`;
  byId("caption").hidden = byId("pictures").hidden = pair === null;
  byId("end").hidden = pair !== null;
  byId("undo").disabled = !state.can_undo;
  byId("error").textContent = "";
  allow(false);
  if (pair === null) return;
  byId("caption").textContent = pair.caption;
  byId("caption").scrollTop = 0;
  pictures[0].src = pair.left;
  pictures[1].src = pair.right;
  // Both appear before either can be chosen.
  try {
    await Promise.all(pictures.map((picture) => picture.decode()));
  } catch {
    byId("error").textContent = "A picture cannot be loaded: reload the page.";
    return;
  }
  if (state.pair !== pair) return;
  allow(true);
  if (state.next !== null) {
    for (const address of [state.next.left, state.next.right]) new Image().src = address;
  }
}

function allow(isShown) {
  shownAt = isShown ? performance.now() : null;
  for (const button of buttons) button.disabled = !isShown;
  document.body.dataset.ready = String(isShown || state.pair === null);
}

async function act(what) {
  const isUndo = what === "undo";
  if (state === null || (isUndo ? !state.can_undo : shownAt === null)) return;
  const wasShown = shownAt !== null;
  const seconds = wasShown ? (performance.now() - shownAt) / 1000 : null;
  const focused = document.activeElement;
  allow(false);
  byId("undo").disabled = true;
  let next;
  try {
    next = isUndo
      ? await request("/api/undo", {})
      : await request("/api/answer", { pair: state.pair.pair, choice: what, seconds });
  } catch (error) {
    allow(wasShown);
    byId("undo").disabled = !state.can_undo;
    byId("error").textContent = error.message;
    return;
  }
  await show(next);
  focused.focus(); // a button that was disabled has lost it
}

document.addEventListener("keydown", (event) => {
  const what = keys.get(event.key.toLowerCase());
  if (what === undefined || event.repeat) return;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  act(what);
});
for (const button of buttons) button.addEventListener("click", () => act(button.dataset.choice));
byId("undo").addEventListener("click", () => act("undo"));
pictures[0].addEventListener("click", () => act("left"));
pictures[1].addEventListener("click", () => act("right"));

try {
  await show(await request("/api/rating"));
} catch (error) {
  byId("error").textContent = error.message;
}
